"""What students get wrong in chapter 02, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["FIELDS", "MERGE", "SIZES", "TOP"]


# 02.1


def _sizes_without_padding(image_sizes: Tensor, strides: Tensor) -> Tensor:
    return (image_sizes[:, None] + strides[:, None] - 1) // strides[:, None]


def _sizes_rounded_down(image_sizes: Tensor, strides: Tensor) -> Tensor:
    return ((image_sizes + 31) // 32 * 32)[:, None] // strides[:, None]


def _sizes_swapped(image_sizes: Tensor, strides: Tensor) -> Tensor:
    padded = ((image_sizes + 31) // 32 * 32).flip(1)
    return (padded[:, None] + strides[:, None] - 1) // strides[:, None]


def _sizes_padded_to_128(image_sizes: Tensor, strides: Tensor) -> Tensor:
    return ((image_sizes + 127) // 128 * 128)[:, None] // strides[:, None]


SIZES = (
    WrongAnswer(
        _sizes_without_padding,
        "The network never sees 100 rows: the picture is padded to a multiple of 32 first.",
    ),
    WrongAnswer(
        _sizes_rounded_down,
        "Right up to stride 32. Above it a convolution of stride 2 rounds an odd size up: 25 "
        "rows give 13.",
    ),
    WrongAnswer(_sizes_swapped, "Height and width are exchanged: sizes are (height, width)."),
    WrongAnswer(
        _sizes_padded_to_128,
        "Pictures are padded to the stride of the backbone's last map, 32, not to that of P7.",
    ),
)


# 02.2


def _fields_own_stride(kernels: Tensor, strides: Tensor) -> Tensor:
    return 1 + ((kernels - 1) * strides.cumprod(dim=0)).cumsum(dim=0)


def _fields_whole_kernel(kernels: Tensor, strides: Tensor) -> Tensor:
    steps = torch.cat([strides.new_ones(1), strides.cumprod(dim=0)])[: len(strides)]
    return (kernels * steps).cumsum(dim=0)


def _fields_without_strides(kernels: Tensor, strides: Tensor) -> Tensor:
    return 1 + (kernels - 1).cumsum(dim=0)


FIELDS = (
    WrongAnswer(
        _fields_own_stride,
        "A convolution's own stride spreads its results apart, not what it reads: only the "
        "strides below it count.",
    ),
    WrongAnswer(
        _fields_whole_kernel,
        "The whole kernel was added. Its middle is seen already: a kernel of 3 adds 2 "
        "neighbours, one on each side.",
    ),
    WrongAnswer(
        _fields_without_strides,
        "Neighbours were taken to be one pixel apart everywhere. After two strides of 2 they "
        "are 4 pixels apart.",
    ),
)


# 02.3


def _enlarged(above: Tensor, fine: Tensor) -> Tensor:
    whole = F.interpolate(above, scale_factor=2.0, mode="nearest")
    return whole[:, :, : fine.shape[2], : fine.shape[3]]


def _merge_bilinear(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    large = F.interpolate(above, scale_factor=2.0, mode="bilinear", align_corners=False)
    return F.conv2d(fine, weight, bias) + large[:, :, : fine.shape[2], : fine.shape[3]]


def _merge_cut_in_front(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    large = F.interpolate(above, scale_factor=2.0, mode="nearest")
    extra_y, extra_x = large.shape[2] - fine.shape[2], large.shape[3] - fine.shape[3]
    return F.conv2d(fine, weight, bias) + large[:, :, extra_y:, extra_x:]


def _merge_mean(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (F.conv2d(fine, weight, bias) + _enlarged(above, fine)) / 2


def _merge_relu(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.relu(F.conv2d(fine, weight, bias)) + _enlarged(above, fine)


MERGE = (
    WrongAnswer(
        _merge_bilinear,
        "The level above was interpolated. The pyramid copies every cell (nearest) and leaves "
        "the smoothing to the 3x3 convolution that follows.",
    ),
    WrongAnswer(
        _merge_cut_in_front,
        "The surplus row or column was cut off in front. Cell 0 begins at pixel 0 on every "
        "level, so it is the last one that is too much.",
    ),
    WrongAnswer(_merge_mean, "The two were averaged. The pyramid adds them."),
    WrongAnswer(
        _merge_relu,
        "The lateral convolution passed a ReLU. The pyramid has none between its levels: what "
        "is negative is an argument, too.",
    ),
)


# 02.4


def _top_without_relu(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    p6 = F.conv2d(p5, weights[0], biases[0], stride=2, padding=1)
    return F.conv2d(p6, weights[1], biases[1], stride=2, padding=1)


def _top_relu_after(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    return F.relu(_top_without_relu(p5, weights, biases))


def _top_relu_first(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    p6 = F.conv2d(F.relu(p5), weights[0], biases[0], stride=2, padding=1)
    return F.conv2d(F.relu(p6), weights[1], biases[1], stride=2, padding=1)


def _top_by_pooling(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    return F.max_pool2d(F.max_pool2d(p5, 1, stride=2), 1, stride=2)


TOP = (
    WrongAnswer(
        _top_without_relu,
        "Without a ReLU between them two convolutions are one larger convolution.",
    ),
    WrongAnswer(
        _top_relu_after, "The ReLU belongs between the two convolutions, not behind the second."
    ),
    WrongAnswer(
        _top_relu_first,
        "P5 passed a ReLU as well. It enters the first convolution as it is; only P6 is cut.",
    ),
    WrongAnswer(
        _top_by_pooling,
        "Every second cell was taken: that is P6 of the first pyramid paper. FCOS has "
        "convolutions here.",
    ),
)
