"""JAX arrays keep dtype and weak type, even if the receiver has not enabled 64 bits.

`tests.pconnect.values.packages.test_jax_arrays` runs them in a separate process, because JAX then warns at each fork.
"""

import os
import secrets
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from pconnect import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values import decoder, encoder
from pconnect.values.packages.jax_arrays import find_entry, read
from tests import fuzz_decoder
from tests.support.transmission import transmit

DTYPES = [
    "bool",
    "int8",
    "int32",
    "int64",
    "uint16",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "float8_e4m3fn",
]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (50, 60)])
def test_arrays(name: str, shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        array = jnp.ones(shape, name)
    arrived: Any = transmit([array])[0]
    assert isinstance(arrived, jax.Array)
    assert (arrived.dtype, arrived.shape, arrived.weak_type) == (array.dtype, array.shape, False)
    assert np.asarray(arrived).tobytes() == np.asarray(array).tobytes()


@pytest.mark.parametrize(
    "array", [jnp.asarray(1.5), jnp.asarray(3), jax.lax.full_like(jnp.asarray(2.0), 5, shape=(3,))]
)
def test_weak_types(array: Any) -> None:
    arrived: Any = transmit(array)
    assert array.weak_type and arrived.weak_type
    assert arrived.dtype == array.dtype and bool((arrived == array).all())


def test_keys_of_random_numbers() -> None:
    for key in (jax.random.key(3), jax.random.split(jax.random.key(4), 3), jax.random.key(5, impl="rbg")):
        arrived: Any = transmit(key)
        assert arrived.dtype == key.dtype
        assert bool((jax.random.key_data(arrived) == jax.random.key_data(key)).all())


def test_an_array_that_was_deleted_is_refused() -> None:
    array = jnp.ones(3)
    array.delete()
    with pytest.raises(UnsupportedValueError, match="deleted"):
        transmit(array)


def test_an_array_of_several_devices_is_refused() -> None:
    source = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from pconnect.values.encoder import encode
parts = NamedSharding(Mesh(jax.devices(), ("x",)), PartitionSpec("x"))
try:
    encode(jax.device_put(np.arange(4.0), parts))
except TypeError as error:
    print(error)
"""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True
    )
    assert "several devices: send jax.device_get(array)" in done.stdout


def test_what_has_no_value_is_refused() -> None:
    def send(x: Any) -> Any:
        with pytest.raises(UnsupportedValueError):
            transmit(x)
        return x

    jax.jit(send)(1.0)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        ["key", "no such generator", np.zeros(2, np.uint32)],
        ["key", "threefry2x32", np.zeros(3, np.uint32)],
        ["array", 1, np.ones(2)],
        ["array", False, np.array(["a"])],
        ["array", True, np.array(["a"])],
        ["array", False, [1]],
    ],
)
def test_wrong_parts(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)


def test_a_receiver_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    head = encoder.pack([1, jnp.ones(2)])
    monkeypatch.setitem(sys.modules, "pconnect.values.packages.jax_arrays", None)
    with pytest.raises(
        UnavailableTypeError, match=r"a value of jax.* cannot be imported.*pip install jax here"
    ):
        decoder.decode(head, 0).finish()


@pytest.mark.parametrize("module", ["jax", "jaxlib"])
def test_classes_that_only_say_they_are_of_it_are_refused(module: str) -> None:
    fake = type("ArrayImpl", (), {"__module__": module})
    assert find_entry(fake) is None


def test_in_xarray_they_are_refused() -> None:
    with pytest.raises(UnsupportedValueError):
        transmit(xr.Variable("x", jnp.ones(2)))


@pytest.mark.filterwarnings("ignore")
def test_inputs_of_the_fuzzer() -> None:
    values = [("array", jnp.ones((2, 3))), ("weak", jnp.asarray(1.5)), ("key", jax.random.key(1))]
    figures = fuzz_decoder.run(1000, secrets.randbelow(2**31), values)
    assert figures.refused and figures.values
