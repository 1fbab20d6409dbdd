"""JAX's arrays on the processor, and its keys of random numbers, as arrays of numpy."""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import enable_x64  # older ones have none, and then this package cannot be used

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 51
_MAX_NAME: Final = 40  # characters of the name of a generator
_NUMBERS: Final = {"i": 0, "f": 0.0, "c": 0j}


def _write(value: Any) -> tuple[object, ...]:
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
        raise UnsupportedValueError(f"cannot send {type(value)}: only arrays that have values")
    if value.is_deleted():
        raise UnsupportedValueError("cannot send an array that was deleted or donated")
    if not value.is_fully_addressable or {device.platform for device in value.devices()} != {"cpu"}:
        raise UnsupportedValueError("cannot send an array of another device: send jax.device_get(array)")
    if len(value.devices()) > 1:
        raise UnsupportedValueError("cannot send an array of several devices: send jax.device_get(array)")
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "key", str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value))
    return "array", value.weak_type, np.asarray(value)


def read(parts: list[Any]) -> object:
    """Make what was sent of its kind and data."""
    try:
        match parts:
            case ["key", str() as name, np.ndarray() as data] if len(name) <= _MAX_NAME:
                return jax.random.wrap_key_data(data, impl=name)
            case ["array", bool() as is_weak, np.ndarray() as data]:
                return _make(data, is_weak)
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"not an array of JAX: {error!s:.200}") from error
    raise ProtocolError("wrong parts for an array of JAX")


def _make(data: np.ndarray[Any, Any], is_weak: bool) -> Any:
    # JAX makes 32 bits of 64 where the program has not asked for these; and a weak type is that of a Python number.
    has_64_bits = data.dtype.itemsize == (16 if data.dtype.kind == "c" else 8)
    with enable_x64(has_64_bits), jax.default_device(jax.devices("cpu")[0]):
        if is_weak and data.dtype.kind in _NUMBERS:
            made = (
                jax.lax.full_like(jnp.asarray(_NUMBERS[data.dtype.kind]), 0, shape=data.shape)
                .at[...]
                .set(data)
            )
        else:
            made = jax.device_put(data)
    if made.dtype != data.dtype:
        raise ProtocolError(f"JAX has no {data.dtype}")
    return made


_ENTRY: Final = ValueType(_CODE, (), _write, read, ("kind", "weak_type", "numpy"))


def find_entry(kind: type) -> ValueType | None:
    """Return how the values of a class of JAX are written."""
    return _ENTRY if kind.__name__ in {"ArrayImpl", "PRNGKeyArray"} and issubclass(kind, jax.Array) else None
