"""JAX arrays on the CPU, and JAX random keys, as numpy arrays."""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import enable_x64  # older versions do not have it, and then JAX arrays cannot be sent

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 51
_MAX_NAME: Final = 40  # characters; the name of a random generator
_NUMBERS: Final = {"i": 0, "f": 0.0, "c": 0j}


def _write(value: Any) -> tuple[object, ...]:
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
        raise UnsupportedValueError(f"cannot send {type(value)}: only arrays that have values can be sent")
    if value.is_deleted():
        raise UnsupportedValueError("cannot send an array that was deleted or donated")
    if not value.is_fully_addressable or {device.platform for device in value.devices()} != {"cpu"}:
        raise UnsupportedValueError("cannot send an array on another device: send jax.device_get(array)")
    if len(value.devices()) > 1:
        raise UnsupportedValueError("cannot send an array on several devices: send jax.device_get(array)")
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "key", str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value))
    return "array", value.weak_type, np.asarray(value)


def read(parts: list[Any]) -> object:
    """Make a value from its received kind and data."""
    try:
        match parts:
            case ["key", str() as name, np.ndarray() as data] if len(name) <= _MAX_NAME:
                return jax.random.wrap_key_data(data, impl=name)
            case ["array", bool() as is_weak, np.ndarray() as data]:
                return _make(data, is_weak)
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"not a JAX array: {error!s:.200}") from error
    raise ProtocolError("wrong parts for a JAX array")


def _make(data: np.ndarray[Any, Any], is_weak: bool) -> Any:
    # JAX reduces 64 bits to 32 unless the program enables them. A weak type is the type of a Python number.
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
        raise ProtocolError(f"JAX does not support {data.dtype}")
    return made


_ENTRY: Final = ValueType(_CODE, (), _write, read, ("kind", "weak_type", "numpy"))


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a JAX class, or ``None``."""
    return _ENTRY if kind.__name__ in {"ArrayImpl", "PRNGKeyArray"} and issubclass(kind, jax.Array) else None
