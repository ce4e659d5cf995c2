"""What students get wrong in chapter 06, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["CONV_BLOCK", "COST_OF", "JOIN_LEVELS", "MAKE_BASES"]


# 06.1


def _normalized(x: Tensor, norm: Tensor) -> Tensor:
    mean, variance, scale, shift = norm
    return F.batch_norm(x, mean, variance, scale, shift, training=False)


def _block(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    return _normalized(F.conv2d(x, kernel, padding=1), norm).relu()


def _block_relu_before_norm(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    return _normalized(F.conv2d(x, kernel, padding=1).relu(), norm)


def _block_of_this_batch(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    x = F.conv2d(x, kernel, padding=1)
    if len(x) == 0:
        return x
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return _normalized(x, torch.stack([mean, variance, norm[2], norm[3]])).relu()


def _block_without_root(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    mean, variance, scale, shift = norm[:, :, None, None]
    x = F.conv2d(x, kernel, padding=1)
    return ((x - mean) / (variance + 1e-5) * scale + shift).relu()


def _block_without_relu(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    return _normalized(F.conv2d(x, kernel, padding=1), norm)


CONV_BLOCK = (
    WrongAnswer(
        _block_relu_before_norm,
        "The ReLU came before the norm. What is negative after the norm stays negative then; the "
        "ReLU is the last step.",
    ),
    WrongAnswer(
        _block_of_this_batch,
        "You normalised with mean and variance of this very batch. A trained model uses the ones "
        "it kept, which are in `norm`: a picture's result must not depend on its neighbours.",
    ),
    WrongAnswer(
        _block_without_root,
        "Divide by the deviation, the root of the variance, not by the variance.",
    ),
    WrongAnswer(
        _block_without_relu,
        "There are negative numbers in the result: the ReLU is missing.",
    ),
)


# 06.2


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _join_nearest(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    size = p3.shape[-2:]
    return p3 + F.interpolate(p4, size=size) + F.interpolate(p5, size=size)


def _join_with_corners_aligned(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    size = p3.shape[-2:]
    enlarged = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in (p4, p5)]
    return p3 + enlarged[0] + enlarged[1]


def _join_step_by_step(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    return p3 + _enlarged(p4 + _enlarged(p5, p4), p3)


def _join_mean(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    return (p3 + _enlarged(p4, p3) + _enlarged(p5, p3)) / 3


JOIN_LEVELS = (
    WrongAnswer(
        _join_nearest,
        "The cells were copied (nearest, the default of interpolate). The task asks for bilinear.",
    ),
    WrongAnswer(
        _join_with_corners_aligned,
        "The outermost cell centers were put on each other (align_corners=True). All levels cover "
        "the same picture, so their outer edges coincide.",
    ),
    WrongAnswer(
        _join_step_by_step,
        "P5 went over P4 to P3, as in the feature pyramid. Two bilinear steps blur more than one: "
        "enlarge each level to the size of p3 directly.",
    ),
    WrongAnswer(
        _join_mean,
        "This is the mean. The levels are added up.",
    ),
)


# 06.3


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _tower(x: Tensor, kernels: Tensor, norms: Tensor) -> Tensor:
    for kernel, norm in zip(kernels, norms, strict=True):
        x = _block(x, kernel, norm)
    return x


def _bases_doubled_last(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    return _doubled(F.conv2d(_tower(x, kernels, norms), weight, bias))


def _bases_doubled_first(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    return F.conv2d(_tower(_doubled(x), kernels, norms), weight, bias)


def _bases_with_relu(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    x = _doubled(_tower(x, kernels[:-1], norms[:-1]))
    return F.conv2d(_block(x, kernels[-1], norms[-1]), weight, bias).relu()


def _bases_without_bias(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    x = _doubled(_tower(x, kernels[:-1], norms[:-1]))
    return F.conv2d(_block(x, kernels[-1], norms[-1]), weight)


MAKE_BASES = (
    WrongAnswer(
        _bases_doubled_last,
        "The bases were made at the small size and then enlarged: twice the cells, no more detail. "
        "The last block has to work at twice the size.",
    ),
    WrongAnswer(
        _bases_doubled_first,
        "The map was doubled before the tower. All blocks then work on four times the cells; only "
        "the last one should.",
    ),
    WrongAnswer(
        _bases_with_relu,
        "The bases passed a ReLU, as YOLACT's do. BlendMask's may be negative: that is how one of "
        "them suppresses.",
    ),
    WrongAnswer(
        _bases_without_bias,
        "The bias of the last convolution is missing. The blocks have none; this layer has.",
    ),
)


# 06.4


def _cost_with_side_once(convs: Tensor) -> Tensor:
    num_in, num_out, side, height, width = convs.unbind(dim=1)
    weights = num_out * num_in * side
    return torch.stack([weights, weights * height * width], dim=1)


def _cost_channel_by_channel(convs: Tensor) -> Tensor:
    _, num_out, side, height, width = convs.unbind(dim=1)
    weights = num_out * side * side
    return torch.stack([weights, weights * height * width], dim=1)


def _cost_as_operations(convs: Tensor) -> Tensor:
    num_in, num_out, side, height, width = convs.unbind(dim=1)
    weights = num_out * num_in * side * side
    return torch.stack([weights, 2 * weights * height * width], dim=1)


COST_OF = (
    WrongAnswer(
        _cost_with_side_once,
        "A kernel is a square: a side of 3 has 9 places.",
    ),
    WrongAnswer(
        _cost_channel_by_channel,
        "Every channel that comes out reads all channels that go in; the channels in are missing.",
    ),
    WrongAnswer(
        _cost_as_operations,
        "A multiplication with its addition counts as one here, not as two.",
    ),
)
