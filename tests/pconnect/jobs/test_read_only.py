"""Arrays shared by several jobs are read-only, and the error says what to do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from pconnect import RemoteError
from pconnect.jobs.read_only import make_read_only
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def assign(array: Any) -> None:
    array[0] = 1


def add(array: Any) -> None:
    array += 1


def fill_out(array: Any) -> None:
    import numpy as np

    np.add(array, 1, out=array)


def sort(array: Any) -> None:
    array.sort()


def write_to_memory(array: Any) -> None:
    memory: Any = memoryview(array)
    memory[0] = 1.0


@pytest.mark.parametrize("write", [assign, add, fill_out, sort, write_to_memory])
@pytest.mark.parametrize("way", ["broadcast", "in a broadcast dict", "closure", "attribute", "default"])
def test_a_write_fails_and_names_the_remedy(
    way: str, write: Callable[[Any], None], jobs_network: ClientNetwork
) -> None:
    array = np.arange(10.0)

    class Model:
        state = array

        def step(self) -> None:
            write(self.state)

    def use(array: Any = array) -> None:
        write(array)

    job = {
        "broadcast": lambda: jobs_network.submit(use, jobs_network.broadcast(array)),
        "in a broadcast dict": lambda: jobs_network.submit(
            lambda values: write(values["a"][0]), jobs_network.broadcast({"a": [array]})
        ),
        "closure": lambda: jobs_network.submit(lambda: write(array)),
        "attribute": lambda: jobs_network.submit(Model().step),
        "default": lambda: jobs_network.submit(use),
    }[way]()
    error = job.exception(LIMIT)
    assert isinstance(error, RemoteError) and isinstance(error, ValueError | TypeError)
    assert "Change a copy: array = array.copy()" in str(error)
    assert array[0] == 0


def test_a_copy_and_an_argument_can_be_written_to(jobs_network: ClientNetwork) -> None:
    array = np.arange(10.0)

    def change(argument: Any) -> float:
        mine = array.copy()
        mine += argument
        argument[:] = 7
        return float(mine.sum() + argument.sum())

    assert [jobs_network.submit(change, np.ones(10)).result(LIMIT) for _ in range(3)] == [125.0] * 3


def test_other_errors_have_no_such_advice(jobs_network: ClientNetwork) -> None:
    error = jobs_network.submit(int, "read").exception(LIMIT)
    assert isinstance(error, ValueError) and "copy" not in str(error)


def test_arrays_in_other_values() -> None:
    matrix = scipy.sparse.eye_array(4, format="csr")
    tree: dict[str, Any] = {"a": [np.zeros(2), (np.ones(1), matrix)]}
    tree["itself"] = tree
    make_read_only(tree)
    assert not tree["a"][0].flags.writeable
    assert not tree["a"][1][0].flags.writeable
    assert not matrix.data.flags.writeable


def test_the_mask_of_an_array_is_shared_as_well() -> None:
    array = np.ma.masked_array([1.0, 2.0, 3.0], [False, False, True])
    make_read_only(array)
    for value in (np.ma.masked, 7.0):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = value


@pytest.mark.parametrize("cut", [np.s_[:, ::2], np.s_[::-1], np.s_[1:, 1:]])
def test_arrays_with_gaps_that_a_function_refers_to(cut: Any, jobs_network: ClientNetwork) -> None:
    array = np.arange(20.0).reshape(4, 5)[cut]

    def change() -> None:
        array[0, 0] = 1

    assert "array.copy()" in str(jobs_network.submit(change).exception(LIMIT))
    assert np.array_equal(jobs_network.submit(lambda: array + 0).result(LIMIT), array)
