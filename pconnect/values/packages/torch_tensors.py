"""torch tensors on the CPU, as numpy arrays that share their memory."""

from typing import Any, Final

import numpy as np
import torch

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 50
# Dtypes that numpy lacks travel as integers of the same width.
_BITS: Final = {1: torch.uint8, 2: torch.int16}
_FOREIGN: Final = frozenset(
    ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
)
_OWN: Final = frozenset(
    [
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ]
)


def _write(value: Any) -> tuple[object, ...]:
    if value.device.type != "cpu":
        raise UnsupportedValueError(f"cannot send a tensor on the device {value.device}: send its cpu()")
    if value.is_quantized:
        raise UnsupportedValueError("cannot send a quantized tensor: send its dequantize()")
    if value.layout is not torch.strided:
        raise UnsupportedValueError(
            f"cannot send a tensor with the layout {value.layout}: send its to_dense()"
        )
    if value.requires_grad and not value.is_leaf:
        raise UnsupportedValueError("cannot send a tensor with a gradient graph: send its detach()")
    name = str(value.dtype).removeprefix("torch.")
    if name not in _FOREIGN | _OWN:
        raise UnsupportedValueError(f"cannot send a tensor of {value.dtype}: convert it first")
    try:
        data = value.detach().resolve_conj().resolve_neg()
        if name in _FOREIGN:
            data = data.contiguous().view(_BITS[data.element_size()])
        return type(value).__name__, name, data.numpy(), value.requires_grad
    except RuntimeError as error:  # a nested tensor, or a batched one inside `vmap`
        raise UnsupportedValueError(
            f"cannot send a tensor that is not a plain array: {error!s:.200}"
        ) from error


def read(parts: list[Any]) -> object:
    """Make a tensor from its received class, dtype and data, and whether it requires a gradient."""
    match parts:
        case [("Tensor" | "Parameter") as kind, str() as name, np.ndarray() as data, bool() as requires_grad]:
            try:
                made = _make(name, data)
                if kind == "Parameter":
                    return torch.nn.Parameter(made, requires_grad)
                return made.requires_grad_(requires_grad)
            except (ProtocolError, UnavailableTypeError):
                raise
            except (TypeError, ValueError, RuntimeError) as error:
                raise ProtocolError(f"not a tensor: {error!s:.200}") from error
    raise ProtocolError("wrong parts for a tensor")


def _make(name: str, data: np.ndarray[Any, Any]) -> Any:
    made = torch.from_numpy(data)
    if name not in _FOREIGN | _OWN:
        raise ProtocolError("not the dtype of a tensor")
    dtype = getattr(torch, name, None)
    if dtype is None:
        raise UnavailableTypeError(
            f"a tensor of {name} arrived, but torch {torch.__version__} on this node does not have it: install a newer "
            "version here"
        )
    if name in _FOREIGN and made.dtype is _BITS.get(dtype.itemsize):
        return made.view(dtype)
    if made.dtype is not dtype:
        raise ProtocolError("a tensor whose data has another dtype")
    return made


_ENTRY: Final = ValueType(_CODE, (), _write, read, ("class", "dtype", "numpy()", "requires_grad"))


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a torch class, or ``None``."""
    return _ENTRY if kind in {torch.Tensor, torch.nn.Parameter} else None
