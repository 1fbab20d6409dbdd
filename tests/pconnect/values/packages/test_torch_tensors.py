"""Torch tensors keep their dtype, memory order, class and requires_grad."""

from typing import Any

import numpy as np
import pytest

from pconnect import ProtocolError, UnavailableTypeError, UnsupportedValueError
from tests.support.programs import module
from tests.support.transmission import transmit

torch: Any = module("torch")


def read(parts: list[Any]) -> object:
    from pconnect.values.packages import torch_tensors

    return torch_tensors.read(parts)


DTYPES = [
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
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (50, 60)])
def test_tensors(name: str, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(getattr(torch, name))
    arrived = transmit([tensor])[0]
    assert type(arrived) is torch.Tensor
    assert (arrived.dtype, arrived.shape, arrived.device.type) == (tensor.dtype, tensor.shape, "cpu")
    assert arrived.tolist() == tensor.tolist()


def test_views_and_gradients() -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    for view in (tensor.T, tensor[::2], tensor.conj(), torch.ones(2, dtype=torch.complex64).conj()):
        assert torch.equal(transmit(view), view)
    assert transmit(tensor.requires_grad_()).requires_grad
    parameter = transmit(torch.nn.Parameter(torch.ones(2), requires_grad=False))
    assert type(parameter) is torch.nn.Parameter and not parameter.requires_grad
    arrived = transmit(torch.ones(2))
    arrived += 1
    assert arrived.tolist() == [2, 2]


def quantized() -> Any:
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)


def test_what_stands_for_other_tensors_is_refused() -> None:
    def send(tensor: Any) -> Any:
        with pytest.raises(UnsupportedValueError, match="not a plain array"):
            transmit(tensor)
        return tensor

    torch.vmap(send)(torch.ones(2, 2))


def test_a_dtype_that_this_version_lacks_is_not_the_peers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "float8_e8m0fnu")
    with pytest.raises(UnavailableTypeError, match="float8_e8m0fnu"):
        read(["Tensor", "float8_e8m0fnu", np.zeros(2, np.uint8), False])


@pytest.mark.filterwarnings("ignore")
def test_what_is_refused() -> None:
    leaf = torch.ones(2, requires_grad=True)
    for tensor, advice in (
        (leaf * 2, r"detach\(\)"),
        (torch.eye(2).to_sparse(), r"to_dense\(\)"),
        (torch.empty(2, device="meta"), r"cpu\(\)"),
        (quantized(), r"dequantize\(\)"),
        (torch.ones(2, dtype=torch.complex32), "convert it first"),
    ):
        with pytest.raises(UnsupportedValueError, match=advice):
            transmit(tensor)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        ["Tensor", "float32", np.ones(2), False],
        ["Tensor", "nn", np.ones(2), False],
        ["Tensor", "bfloat16", np.ones(2), False],
        ["Tensor", "int32", np.ones(2, np.int32), True],
        ["Module", "float64", np.ones(2), False],
        ["Tensor", "float64", np.array(["a"]), False],
    ],
)
def test_wrong_parts(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)
