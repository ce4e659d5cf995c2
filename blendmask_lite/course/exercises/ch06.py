"""Exercises of chapter 06, bases: the pieces of Proto-FPN, and what a convolution costs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases06 as cases
from blendmask_lite.course.exercises import wrong06 as wrong
from blendmask_lite.model.bottom import ProtoFPN

__all__ = ["EXERCISES"]

# 06.1  The block that everything is made of


def conv_block(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    """Convolve, normalise with what was learned in training, cut off below zero.

    Args:
        x: (B, C, h, w).
        kernel: (C', C, 3, 3), without a bias; zeros beyond the border, so that h and w stay.
        norm: (4, C') mean, variance, scale and shift of every channel that the convolution gives.

    Returns:
        (B, C', h, w), nothing negative. Add 1e-5 to the variance before its root.
    """
    # Step 1: the convolution
    x = F.conv2d(x, kernel, padding=1)
    # Step 2: subtract the mean, divide by the deviation, scale, shift
    mean, variance, scale, shift = norm[:, :, None, None]
    x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    # Step 3: the ReLU
    return x.relu()


def _reference_conv_block(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    bottom = ProtoFPN(
        in_channels=kernel.shape[1], channels=kernel.shape[0], num_convs=0, num_bases=1
    )
    _fill(bottom.refine["p3"], kernel, norm)
    return _run(bottom.eval().refine["p3"], x)


# 06.2  Three sizes become one


def join_levels(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    """Bring two coarse levels to the size of the finest and add the three up.

    Args:
        p3: (B, C, h, w), refined.
        p4: (B, C, h/2, w/2), refined; odd sizes may be rounded up.
        p5: (B, C, h/4, w/4), refined.

    Returns:
        (B, C, h, w). Both are enlarged bilinearly, in one step each; outer edges coincide.
    """
    # Step 1: the two coarse levels at the size of p3
    size = p3.shape[-2:]
    p4 = F.interpolate(p4, size=size, mode="bilinear", align_corners=False)
    p5 = F.interpolate(p5, size=size, mode="bilinear", align_corners=False)
    # Step 2: the sum
    return p3 + p4 + p5


def _reference_join_levels(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    bottom = ProtoFPN(in_channels=1, channels=1)
    bottom.refine = nn.ModuleDict({name: nn.Identity() for name in bottom.inputs})
    return bottom.join({"p3": p3, "p4": p4, "p5": p5})


# 06.3  From the sum to the bases


def make_bases(x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The rest of Proto-FPN: a tower, twice the size, one block more, and the bases.

    Args:
        x: (B, C, h, w), the sum of the levels.
        kernels: (n + 1, C, C, 3, 3) of n + 1 blocks; the first n form the tower, the last block
            works at twice the size.
        norms: (n + 1, 4, C) of these blocks, for `conv_block`.
        weight: (K, C, 1, 1) of the convolution that gives the bases.
        bias: (K,) of it.

    Returns:
        (B, K, 2h, 2w) bases; they may have either sign.
    """
    # Step 1: n blocks at the size of x
    for kernel, norm in zip(kernels[:-1], norms[:-1], strict=True):
        x = conv_block(x, kernel, norm)
    # Step 2: twice as high and wide, bilinearly
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    # Step 3: one block more
    x = conv_block(x, kernels[-1], norms[-1])
    # Step 4: K maps of it
    return F.conv2d(x, weight, bias)


class _FromSum(ProtoFPN):
    """The package's module with the sum of the levels given."""

    def join(self, features: Mapping[str, Tensor]) -> Tensor:
        return features["sum"]


def _reference_make_bases(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    bottom = _FromSum(
        in_channels=1,
        channels=kernels.shape[1],
        num_convs=len(kernels) - 1,
        num_bases=len(weight),
    )
    for block, kernel, norm in zip([*bottom.tower, bottom.last], kernels, norms, strict=True):
        _fill(block, kernel, norm)
    bottom.bases.load_state_dict({"weight": weight, "bias": bias})
    return _run(bottom.eval(), {"sum": x})


# 06.4  What it costs


def cost_of(convs: Tensor) -> Tensor:
    """Count the weights of convolutions, and the multiplications of one picture.

    Args:
        convs: (n, 5) whole numbers, a row each: channels in, channels out, side of the kernel,
            height and width of the map that comes out.

    Returns:
        (n, 2) whole numbers: weights (without biases), multiply-adds.
    """
    # Step 1: a weight for every channel out, channel in and place of the kernel
    channels_in, channels_out, side, height, width = convs.unbind(dim=1)
    weights = channels_out * channels_in * side * side
    # Step 2: how often each weight is used
    return torch.stack([weights, weights * height * width], dim=1)


def _reference_cost_of(convs: Tensor) -> Tensor:
    """PyTorch counts: it runs every layer on maps without values."""
    costs = torch.zeros(len(convs), 2, dtype=torch.int64)
    for row, (num_in, num_out, side, height, width) in zip(costs, convs.tolist(), strict=True):
        conv = nn.Conv2d(num_in, num_out, side, bias=False, device="meta")
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            conv(torch.zeros(1, num_in, height + side - 1, width + side - 1, device="meta"))
        row[0] = conv.weight.numel()
        row[1] = counter.get_total_flops() // 2  # a multiply-add counts as two there
    return costs


# What the cases share


def _fill(block: nn.Module, kernel: Tensor, norm: Tensor) -> None:
    mean, variance, scale, shift = norm
    values = {
        "0.weight": kernel,
        "1.running_mean": mean,
        "1.running_var": variance,
        "1.weight": scale,
        "1.bias": shift,
    }
    block.load_state_dict(block.state_dict() | values)


@torch.no_grad()
def _run(module: nn.Module, features: Tensor | Mapping[str, Tensor]) -> Tensor:
    result: Tensor = module(features)
    return result


EXERCISES = (
    Exercise(
        id="06.1",
        title="Convolution, norm, ReLU",
        minutes=10,
        difficulty=2,
        solution=conv_block,
        reference=_reference_conv_block,
        make_cases=cases.block_cases,
        result_axes="B, channel, H, W",
        wrong_answers=wrong.CONV_BLOCK,
        hints=(
            "Which of the three steps can make a number negative, and which comes last?",
            "norm[:, :, None, None] has four parts, each (C', 1, 1); they broadcast over B, h, w.",
            "F.conv2d(x, kernel, padding=1), then (x - mean) / (variance + 1e-5).sqrt() * scale "
            "+ shift, and .relu() on the result.",
        ),
    ),
    Exercise(
        id="06.2",
        title="Join the levels",
        minutes=5,
        difficulty=1,
        solution=join_levels,
        reference=_reference_join_levels,
        make_cases=cases.join_cases,
        result_axes="B, channel, H, W",
        wrong_answers=wrong.JOIN_LEVELS,
        hints=(
            "What has to be equal before two maps can be added cell by cell?",
            "torch.nn.functional.interpolate with size=p3.shape[-2:], for p4 and for p5.",
            'mode="bilinear", align_corners=False for both, then p3 + p4 + p5.',
        ),
    ),
    Exercise(
        id="06.3",
        title="Tower, doubling, bases",
        minutes=15,
        difficulty=3,
        solution=make_bases,
        reference=_reference_make_bases,
        make_cases=cases.bases_cases,
        result_axes="B, K, H, W",
        wrong_answers=wrong.MAKE_BASES,
        hints=(
            "How many of the n + 1 blocks work at the size of x, and how many at twice the size?",
            "A loop over kernels[:-1] and norms[:-1] with conv_block, then F.interpolate with "
            "scale_factor=2.0, then the last block.",
            "It ends with F.conv2d(x, weight, bias), and nothing after it: bases have both signs.",
        ),
    ),
    Exercise(
        id="06.4",
        title="Count weights and multiplications",
        minutes=10,
        difficulty=2,
        solution=cost_of,
        reference=_reference_cost_of,
        make_cases=cases.cost_cases,
        wrong_answers=wrong.COST_OF,
        hints=(
            "How many numbers does one cell of one channel out read?",
            "A weight is stored once, and used once at every cell of the map that comes out.",
            "weights = out * in * side * side; multiply-adds = weights * height * width; stack "
            "both with dim=1.",
        ),
    ),
)
