"""Sparse arrays that would make scipy access memory out of bounds, and arrays that cannot be sent."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values import decoder, encoder
from pconnect.values.scipy_sparse import read

ONES = np.ones(2)
I4 = np.int32


def ints(*values: int, dtype: Any = I4) -> Any:
    return np.array(values, dtype)


HOSTILE: list[tuple[str, list[Any]]] = [
    ("no such class", ["spmatrix", [2, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("module", ["sys", [2, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("no shape", ["csr_array", [], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("negative shape", ["csr_array", [-2, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("large shape", ["csr_array", [2, 2**63], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("shape of floats", ["csr_array", [2.0, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("matrix of one axis", ["csr_matrix", [2], ONES, ints(0, 1), ints(0, 2)]),
    ("csc of one axis", ["csc_array", [2], ONES, ints(0, 1), ints(0, 2)]),
    ("csr of three axes", ["csr_array", [2, 2, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("more rows than pointers", ["csr_array", [2**40, 2], ONES, ints(0, 1), ints(0, 1, 2)]),
    ("index too large", ["csr_array", [2, 2], ONES, ints(0, 2), ints(0, 1, 2)]),
    ("index negative", ["csr_array", [2, 2], ONES, ints(0, -1), ints(0, 1, 2)]),
    ("csc index too large", ["csc_array", [2, 3], ONES, ints(0, 2), ints(0, 1, 2, 2)]),
    ("pointer too large", ["csr_array", [2, 2], ONES, ints(0, 1), ints(0, 1, 3)]),
    ("pointer too large in the middle", ["csr_array", [2, 2], ONES[:0], ints(), ints(0, 2**30, 0)]),
    ("pointers that fall", ["csr_array", [3, 2], ONES, ints(0, 1), ints(0, 2, 1, 2)]),
    ("pointers from 1", ["csr_array", [2, 2], ONES, ints(0, 1), ints(1, 1, 2)]),
    ("pointers of floats", ["csr_array", [2, 2], ONES, ints(0, 1), ONES]),
    ("no pointers", ["csr_array", [0, 2], ONES[:0], ints(), ints()]),
    ("fewer indices", ["csr_array", [2, 2], ONES, ints(0), ints(0, 1, 1)]),
    ("unsigned indices", ["csr_array", [2, 2], ONES, ints(0, 1, dtype="u4"), ints(0, 1, 2)]),
    ("no array", ["csr_array", [2, 2], [1.0, 1.0], ints(0, 1), ints(0, 1, 2)]),
    ("data of text", ["csr_array", [2, 2], np.array(["a", "b"]), ints(0, 1), ints(0, 1, 2)]),
    ("missing part", ["csr_array", [2, 2], ONES, ints(0, 1)]),
    ("blocks of nothing", ["bsr_array", [2, 2], np.ones((1, 0, 1)), ints(0), ints(0, 1)]),
    ("blocks that do not fit", ["bsr_array", [3, 3], np.ones((1, 2, 2)), ints(0), ints(0, 1)]),
    ("block index too large", ["bsr_array", [4, 4], np.ones((1, 2, 2)), ints(2), ints(0, 1, 1)]),
    ("coo index too large", ["coo_array", [2, 2], ONES, [ints(0, 2), ints(0, 1)], False]),
    ("coo index negative", ["coo_array", [2, 2], ONES, [ints(0, -1), ints(0, 1)], False]),
    ("coo of too few axes", ["coo_array", [2, 2], ONES, [ints(0, 1)], False]),
    ("coo of no axes", ["coo_array", [], ONES, [], False]),
    ("coo flag", ["coo_array", [2, 2], ONES, [ints(0, 1), ints(0, 1)], 1]),
    ("dia offset twice", ["dia_array", [3, 3], np.ones((2, 3)), ints(1, 1)]),
    ("dia offset far", ["dia_array", [3, 3], np.ones((1, 3)), ints(-(2**31))]),
    ("dia of one axis", ["dia_array", [3], np.ones((1, 3)), ints(0)]),
    ("dok key too large", ["dok_array", [2, 2], ONES, [ints(0, 2), ints(0, 1)]]),
    ("dok key twice", ["dok_array", [2, 2], ONES, [ints(0, 0), ints(1, 1)]]),
    ("lil column too large", ["lil_array", [2, 2], ONES, ints(0, 2), ints(1, 1)]),
    ("lil columns not in order", ["lil_array", [2, 2], ONES, ints(1, 0), ints(2, 0)]),
    ("lil more rows", ["lil_array", [2**40, 2], ONES, ints(0, 1), ints(1, 1)]),
    ("lil lengths", ["lil_array", [2, 2], ONES, ints(0, 1), ints(1, 2)]),
    ("lil negative length", ["lil_array", [3, 2], ONES, ints(0, 1), ints(2, -1, 1)]),
]


@pytest.mark.parametrize("parts", [pytest.param(parts, id=name) for name, parts in HOSTILE])
def test_what_scipy_would_trust_is_checked(parts: list[Any]) -> None:
    # Like `decoder`, which turns the errors of constructors into ProtocolError.
    with pytest.raises((ProtocolError, *decoder.MALFORMED)):
        read(parts)


def test_large_data_is_sent_from_its_memory_and_received_into_its_own() -> None:
    array = sp.csr_array(np.ones((100, 100)))
    head, buffers = encoder.encode(array)
    assert [
        np.shares_memory(np.asarray(buffer), part)
        for buffer, part in zip(buffers, (array.data, array.indices), strict=True)
    ] == [True, True]
    incoming = decoder.decode(head, sum(buffer.nbytes for buffer in buffers))
    targets = [np.asarray(buffer) for buffer in incoming.buffers]
    for target, buffer in zip(incoming.buffers, buffers, strict=True):
        target[:] = buffer
    received: Any = incoming.finish()
    assert np.shares_memory(targets[0], received.data) and np.shares_memory(targets[1], received.indices)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": np.array([None])}, r"^value\[0\]: cannot send a sparse array of dtype object"),
        ({"data": np.ones(1).view(np.recarray)}, r"^value\[0\]\.data: cannot send .*recarray"),
        (
            {"indices": np.zeros(1, "u2")},
            r"^value\[0\]: cannot send a sparse array with indices of dtype uint16",
        ),
    ],
)
def test_what_would_not_arrive_is_refused(change: dict[str, Any], text: str) -> None:
    array = sp.csr_array([[1.0]])
    vars(array).update(change)
    with pytest.raises(UnsupportedValueError, match=text):
        encoder.encode([array])
