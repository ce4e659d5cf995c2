"""A GPU that is only pretended: tensors that compute on the CPU and refuse what a GPU refuses.

A tensor on the device `GPU` says so wherever it is asked, and every operation on it is checked
before the CPU computes it: all tensors of an operation are on one device, except for CPU scalars
and for CPU indices into the GPU's tensors; `numpy` needs `cpu` first; and kernels that CUDA does
not have are missing here, too. So whole evaluations run, with numbers, on machines without a GPU.
"meta" lends its name because PyTorch initialises no driver for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_, aten.copy, aten._copy_from}
INDEXING = {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_, aten._unsafe_index}
NOT_ON_CUDA = "interpolation of uint8 is not implemented for 'Byte' on CUDA"


class OnGPU(Tensor):
    """A tensor on the pretended GPU; `values` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnGPU:
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=GPU,
        )
        made.values = values
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError("a tensor of the GPU has no numpy(); it needs cpu() first")

    def __array__(self, *options: Any, **more: Any) -> Any:
        return self.numpy()

    def __repr__(self, **options: Any) -> str:
        return f"OnGPU({self.values})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(op, args, kwargs or {})


def compute(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: refused, or computed on the CPU and put on the device that it belongs to."""
    given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    wanted = kwargs.get("device")
    packet = op.overloadpacket
    if packet not in COPIES:
        _require_one_device(op, args, given)
    if "upsample" in str(packet) and given[0].dtype == torch.uint8 and isinstance(given[0], OnGPU):
        raise RuntimeError(f"{packet}: {NOT_ON_CUDA}")
    plain_args, plain_kwargs = tree_map(_values, (args, kwargs))
    if wanted is not None:
        plain_kwargs["device"] = torch.device("cpu")
    result = op(*plain_args, **plain_kwargs)
    if packet in {aten.copy_}:
        return args[0]
    is_on_gpu = any(isinstance(each, OnGPU) for each in given)
    if wanted is not None:
        is_on_gpu = torch.device(wanted) == GPU
    if not is_on_gpu:
        return result
    known = {id(each.values): each for each in given if isinstance(each, OnGPU)}
    return tree_map(lambda each: known[id(each)] if id(each) in known else _on_gpu(each), result)


def _require_one_device(op: Any, args: Any, given: list[Tensor]) -> None:
    if op.overloadpacket in INDEXING:
        indices = [each for each in args[1] if each is not None]
        own = isinstance(args[0], OnGPU)
        if not own and any(isinstance(each, OnGPU) for each in indices):
            raise RuntimeError(f"{op}: indices on the GPU, the indexed tensor on the CPU")
        given = [args[0], *(each for each in args[2:] if isinstance(each, Tensor))]
    devices = {isinstance(each, OnGPU) for each in given if each.dim() > 0}
    devices |= {True for each in given if isinstance(each, OnGPU)}
    if len(devices) > 1:
        raise RuntimeError(f"{op}: some tensors are on the CPU, some on the GPU")


def _values(value: Any) -> Any:
    return value.values if isinstance(value, OnGPU) else value


def _on_gpu(value: Any) -> Any:
    return OnGPU(value) if isinstance(value, Tensor) and not isinstance(value, OnGPU) else value


class _Operations(TorchDispatchMode):
    """Takes in what makes tensors on the GPU out of nothing, or out of CPU tensors."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(op, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """`torch.tensor` fills its memory itself, out of sight of any mode."""

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if call is torch.tensor or call is torch.as_tensor:
            device = torch.device(kwargs.get("device") or "cpu")
            made = call(*args, **(kwargs | {"device": "cpu"}))
            return made.to(GPU) if device == GPU else made
        if call is Tensor.new_tensor and isinstance(args[0], OnGPU):
            kwargs = {"dtype": args[0].dtype} | kwargs
            return torch.tensor(*args[1:], **(kwargs | {"device": "cpu"})).to(GPU)
        return call(*args, **kwargs)


@contextlib.contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Inside of it the device exists."""
    with _Literals(), _Operations():
        yield GPU


def to_gpu(model: nn.Module) -> nn.Module:
    """The model with weights and buffers on the pretended GPU, in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = OnGPU(parameter.detach())
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnGPU(buffer)
    return model
