"""Layers that the networks are built from: norms, deformable convolution, and their precision.

Chapter 02. Reduced precision ends where geometry begins: `at_least_float32`, `without_autocast`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

__all__ = [
    "BatchNorm2d",
    "DeformConv2d",
    "FrozenBatchNorm2d",
    "at_least_float32",
    "computing_in",
    "conv_norm",
    "evaluating",
    "is_autocast_on",
    "make_norm",
    "synchronize_norms",
    "without_autocast",
]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32; a float64 tensor stays as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def is_autocast_on(device: torch.device) -> bool:
    """Whether autocast applies to products on this device; False on devices without autocast."""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def computing_in(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the `with` block the network computes in "bfloat16" or, as usual, in "float32"."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the `with` block, products and convolutions keep the dtype of their inputs.

    A cast alone is not enough: autocast takes float32 factors back to bfloat16.
    """
    if is_autocast_on(device):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()  # and `torch.export` sees no context at all


LARGE = 10_000_000  # multiply-adds above which the time of a convolution matters
PLAIN_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
MANY = 10_000  # cells per channel above which the order of a float32 sum matters


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose sums are as precise on the CPU as elsewhere.

    PyTorch's CPU kernel for channels-last maps adds up all cells of a channel one after another in
    float32. Over 160,000 cells the variance is off by 1e-5 and the gradient of the weight by 2e-4,
    a hundred times as much as in PyTorch's other kernels, and every later layer magnifies this.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), normalised; in training with the statistics of the batch."""
        num = x.numel() // x.shape[1]
        is_precise = x.device.type != "cpu" or x.dtype != torch.float32 or x.is_contiguous()
        if not self.training or is_precise or num < MANY or torch.compiler.is_compiling():
            return super().forward(x)
        assert self.momentum is not None and self.num_batches_tracked is not None
        out: Tensor
        out, mean, variance = _Normalize.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr]
            unbiased = variance * (num / (num - 1))
            self.running_var.lerp_(unbiased, self.momentum)  # type: ignore[union-attr]
        return out


class _Normalize(torch.autograd.Function):
    """Batch normalisation's equations (Ioffe & Szegedy, 2015, section 3), with `Tensor.sum`.

    `Tensor.sum` adds up in pairs, and `F.batch_norm` with given statistics computes x * scale +
    shift in one pass.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dim=(0, 2, 3))
        variance = (x - mean[:, None, None]).square_().mean(dim=(0, 2, 3))
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(  # type: ignore[no-untyped-def]
        ctx, gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        of_bias = gradient.sum(dim=(0, 2, 3))
        normal = F.batch_norm(x, mean, variance, eps=ctx.eps)
        of_weight = normal.mul_(gradient).sum(dim=(0, 2, 3))
        # scale * (gradient - its mean - normal * mean(gradient * normal))
        scale = weight * (variance + ctx.eps).rsqrt()
        share = -scale / (x.numel() // x.shape[1])
        of_x = F.batch_norm(x, mean, variance, share * of_weight, share * of_bias, eps=ctx.eps)
        of_x.addcmul_(gradient, scale[:, None, None])
        return of_x, of_weight, of_bias, None


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map.

    All four vectors are buffers: they are stored and loaded but never trained. The keys are the
    same as in `nn.BatchNorm2d`, without its counter.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(channels,) each, float32 at least: the layer is x * scale + shift."""
        wide = torch.promote_types(self.running_var.dtype, torch.float32)
        scale = self.weight * (self.running_var.to(wide) + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), scaled and shifted, in the type of `x`."""
        # In the type of x: float32 vectors would turn bfloat16 maps into float32.
        scale, shift = (vector.to(x.dtype)[:, None, None] for vector in self.scale_and_shift())
        return x * scale + shift

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:  # type: ignore[no-untyped-def]
        # A file written from nn.BatchNorm2d has a counter, which has no use here.
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def make_norm(kind: str, channels: int, *, eps: float = 1e-5) -> nn.Module:
    """A norm layer by its name in the config: frozen_bn, bn or gn (32 groups, or fewer).

    A batch norm adds `eps` to the variance.
    """
    if kind == "frozen_bn":
        return FrozenBatchNorm2d(channels, eps=eps)
    if kind == "bn":
        return BatchNorm2d(channels, eps=eps)
    if kind == "gn":
        return group_norm(channels)
    raise ValueError(f"norm {kind!r}: must be frozen_bn, bn or gn")


def group_norm(channels: int) -> GroupNorm:
    """GroupNorm with 32 groups, as in FCOS; narrow layers have one group per two channels."""
    num_groups = 32 if channels % 32 == 0 else max(channels // 2, 1)
    return GroupNorm(num_groups, channels)


class GroupNorm(nn.GroupNorm):
    """A GroupNorm that leaves bfloat16 maps bfloat16 under autocast.

    On a GPU, autocast computes every GroupNorm in float32 and keeps two float32 maps per layer of
    the towers for the gradients: more memory than without autocast. The kernel sums in float32
    anyway.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), in the type of `x`."""
        if not is_autocast_on(x.device):
            return super().forward(x)
        with without_autocast(x.device):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def synchronize_norms(model: nn.Module) -> None:
    """Share batch statistics between GPUs, in place, before the model is wrapped for training.

    As in the released code, this covers backbone, detector and bottom module, but not the semantic
    head. Names in the state dict do not change. On the CPU such norms evaluate, but do not train.

    Raises:
        ValueError: a norm does more than PyTorch's, such as timm's with an activation inside, which
            the conversion would lose.
    """
    for module in model.modules():
        is_batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_batch_norm and type(module) not in (*PLAIN_BATCH_NORMS, BatchNorm2d):
            raise ValueError(
                f"{type(module).__name__}: cannot be synchronised between GPUs without losing what "
                "it does besides; train on one GPU"
            )
    for name, part in model.named_children():
        if name != "semantic_head":
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """`norm(conv(x))`; without gradients a norm with fixed statistics is folded into the kernel.

    Folding saves a pass over the map. It happens at every call, so nothing has to be kept in step
    with the weights. It rounds differently, so training keeps the released code's order: GroupNorm
    on the 1 x 2 cells of P7 turns rounding into half a per cent of the gradient.
    """
    is_plain = type(conv) is nn.Conv2d  # and not a deformable one
    if torch.is_grad_enabled() or not is_plain or not isinstance(norm, FrozenBatchNorm2d):
        return norm(conv(x))
    scale, shift = norm.scale_and_shift()
    kernel = (conv.weight * scale[:, None, None, None]).to(conv.weight.dtype)
    shift = shift.to(kernel.dtype)
    dilation = (2, 2) if _is_slow_pointwise(x, conv) else conv.dilation
    return F.conv2d(x, kernel, shift, conv.stride, conv.padding, dilation, conv.groups)


def _is_slow_pointwise(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether to write a 1x1 convolution as a dilated one.

    Dilation means nothing for a kernel of one cell, but PyTorch hands a dilated one to oneDNN, and
    a plain 1x1 convolution of one image on one thread to a loop that takes twice as long.
    """
    if conv.kernel_size != (1, 1) or x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return x[:, 0].numel() * conv.weight.numel() > LARGE


class DeformConv2d(nn.Conv2d):
    """A 3x3 convolution whose nine samples each have an offset and a weight of their own.

    A second convolution predicts them at every location. It starts at zero: no offsets, and weights
    of one half.

    Args:
        in_channels, out_channels: channels of the input and of the output.
        stride: step between two neighbouring outputs, in cells of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.offset = nn.Conv2d(in_channels, 27, 3, stride=stride, padding=1)
        self.reset_offset()

    def reset_offset(self) -> None:
        """Set all offsets to 0, as in an ordinary convolution, and all weights to one half."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        predicted = self.offset(x)
        # In float32: torchvision has no kernel for bfloat16, and sample positions need it.
        samples = at_least_float32(predicted)
        offsets = samples[:, :18]  # (dy, dx) of the nine samples, row by row
        weights = samples[:, 18:].sigmoid()
        with without_autocast(x.device):
            out: Tensor = deform_conv2d(
                at_least_float32(x),
                offsets,
                at_least_float32(self.weight),
                stride=self.stride,
                padding=self.padding,
                mask=weights,
            )
        return out.to(predicted.dtype)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block the model is in evaluation mode; afterwards its old mode is back."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
