"""Exercises of chapter 06, bases: the pieces of Proto-FPN, and what a convolution costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.modules import draw_weights, with_weights
from blendmask_lite.model.bottom import DeepLabDecoder, ProtoFPN

__all__ = ["EXERCISES"]


@task("06.1", "Convolution, norm, ReLU", minutes=10, difficulty=2)
def conv_block(x: Tensor, kernel: Tensor, norm: Tensor) -> Tensor:
    """Convolve, normalise with the statistics of the training, and set negative values to 0.

    Args:
        x: (B, C, h, w).
        kernel: (C', C, 3, 3), without a bias; padded with zeros, so that h and w do not change.
        norm: (4, C') mean, variance, scale and shift of every channel of the convolution's result.

    Returns:
        (B, C', h, w), >= 0. Add 1e-5 to the variance before its root.
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
    return module(features)


def _block_cases(generator: Generator) -> list[Case]:
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1.0  # copies its input
    ramp = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    norm = torch.tensor([[2.0], [4.0 - EPSILON], [3.0], [-1.0]])  # -> 3 (x - 2) / 2 - 1
    faint = torch.tensor([[0.0], [2e-6], [1.0], [0.0]])
    return [
        Case("2 x 2, a kernel that copies", ramp, middle, norm),
        Case(
            "two images, 5 -> 3 channels", _normal(generator, 2, 5, 6, 7), *_layer(generator, 5, 3)
        ),
        Case("a channel that hardly varies", 1e-3 * ramp, middle, faint),
    ]


EPSILON = 1e-5  # added to variances


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def _layer(generator: Generator, num_in: int, num_out: int) -> tuple[Tensor, Tensor]:
    """Kernel (num_out, num_in, 3, 3) and norm (4, num_out)."""
    kernel = _normal(generator, num_out, num_in, 3, 3) / num_in
    variance = 0.2 + 3 * torch.rand(num_out, generator=generator)
    mean, scale, shift = _normal(generator, 3, num_out)
    return kernel, torch.stack([mean, variance, scale, shift])


CONV_BLOCK = Exercise(
    solution=conv_block,
    reference=_reference_conv_block,
    make_cases=_block_cases,
    gradients=("x", "kernel"),  # F.batch_norm has none for mean and variance
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {"padding=1)": "padding=1).relu()", "return x.relu()": "return x"},
            "The ReLU came before the norm, so values that are negative after the norm remain. The "
            "ReLU is the last step.",
        ),
        WrongAnswer(
            {
                "x = (x - mean)": "mean = x.mean(dim=(0, 2, 3), keepdim=True)\n"
                "    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)\n"
                "    x = (x - mean)"
            },
            "You normalised with mean and variance of this batch. A trained model uses those that "
            "it kept, in `norm`: an image's result must not depend on the other images.",
        ),
        WrongAnswer(
            {".sqrt()": ""},
            "Divide by the deviation, which is the root of the variance.",
        ),
        WrongAnswer(
            {"return x.relu()": "return x"},
            "The result has negative numbers: the ReLU is missing.",
        ),
    ),
    hints=(
        "Which of the three steps can make a number negative, and which comes last?",
        "norm[:, :, None, None] has four parts, each (C', 1, 1); they broadcast over B, h, w.",
        "F.conv2d(x, kernel, padding=1), then (x - mean) / (variance + 1e-5).sqrt() * scale + "
        "shift, and .relu() on the result.",
    ),
)


@task("06.2", "Join the levels", minutes=5, difficulty=1)
def join_levels(p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    """Resize two coarse levels to the size of the finest and add up the three.

    Args:
        p3: (B, C, h, w), refined.
        p4: (B, C, h/2, w/2), refined; odd sizes may be rounded up.
        p5: (B, C, h/4, w/4), refined.

    Returns:
        (B, C, h, w). Both are enlarged bilinearly in one step each; outer edges coincide.
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


def _join_cases(generator: Generator) -> list[Case]:
    p3, p4 = torch.ones(1, 1, 4, 4), torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    p5 = torch.full((1, 1, 1, 1), 100.0)
    even, odd = ((16, 24), (8, 12), (4, 6)), ((7, 11), (4, 6), (2, 3))

    def levels(batch: int, sizes: tuple[tuple[int, int], ...]) -> list[Tensor]:
        return [_normal(generator, batch, 3, *size) for size in sizes]

    return [
        Case("1 + bilinear + 100, on 4 x 4", p3, p4, p5),
        Case("two images, 16 x 24", *levels(2, even)),
        Case("sizes that are not multiples", *levels(1, odd)),
    ]


JOIN_LEVELS = Exercise(
    solution=join_levels,
    reference=_reference_join_levels,
    make_cases=_join_cases,
    gradients=("p3", "p4", "p5"),
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {', mode="bilinear", align_corners=False': ""},
            "You copied the cells (nearest, the default of interpolate). The task asks for "
            "bilinear.",
        ),
        WrongAnswer(
            {"align_corners=False": "align_corners=True"},
            "You aligned the outermost cell centers (align_corners=True). All levels cover the "
            "same image, so their outer edges coincide.",
        ),
        WrongAnswer(
            {"(p4,": '(p4 + F.interpolate(p5, p4.shape[-2:], mode="bilinear"),', "p4 + p5": "p4"},
            "P5 was enlarged to P4 and then to P3, as in the feature pyramid. Two bilinear steps "
            "blur more than one: enlarge each level to the size of p3 directly.",
        ),
        WrongAnswer(
            {"p3 + p4 + p5": "(p3 + p4 + p5) / 3"}, "This is the mean. The levels are added up."
        ),
    ),
    hints=(
        "What must be equal before two maps can be added cell by cell?",
        "torch.nn.functional.interpolate with size=p3.shape[-2:], for p4 and for p5.",
        'mode="bilinear", align_corners=False for both, then p3 + p4 + p5.',
    ),
)


@task("06.3", "Tower, doubling, bases", minutes=15, difficulty=3)
def make_bases(x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The rest of Proto-FPN: a tower, twice the size, one more block, and the bases.

    Args:
        x: (B, C, h, w), the sum of the levels.
        kernels: (n + 1, C, C, 3, 3) of n + 1 blocks; the first n form the tower, the last block
            works at twice the size.
        norms: (n + 1, 4, C) of these blocks, for `conv_block`.
        weight: (K, C, 1, 1) of the convolution that makes the bases.
        bias: (K,) of the same.

    Returns:
        (B, K, 2h, 2w) bases; they may have either sign.
    """
    # Step 1: n blocks at the size of x
    for kernel, norm in zip(kernels[:-1], norms[:-1], strict=True):
        x = conv_block(x, kernel, norm)
    # Step 2: twice as high and wide, bilinearly
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    # Step 3: one more block
    x = conv_block(x, kernels[-1], norms[-1])
    # Step 4: K maps
    return F.conv2d(x, weight, bias)


def _reference_make_bases(
    x: Tensor, kernels: Tensor, norms: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    sizes = {"channels": kernels.shape[1], "num_convs": len(kernels) - 1, "num_bases": len(weight)}
    bottom = _FromSum(in_channels=1, **sizes)
    for block, kernel, norm in zip([*bottom.tower, bottom.last], kernels, norms, strict=True):
        _fill(block, kernel, norm)
    bottom.bases.load_state_dict({"weight": weight, "bias": bias})
    return _run(bottom.eval(), {"sum": x})


class _FromSum(ProtoFPN):
    """The package's module for a given sum of the levels."""

    def join(self, features: Mapping[str, Tensor]) -> Tensor:
        return features["sum"]


def _bases_cases(generator: Generator) -> list[Case]:
    middle = torch.zeros(2, 1, 1, 3, 3)
    middle[..., 1, 1] = 1.0
    plain = torch.tensor([0.0, 1.0 - EPSILON, 1.0, 0.0])[None, :, None].repeat(2, 1, 1)
    plain[1, 3] = -2.0  # the second block subtracts 2 before its ReLU
    ramp = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    last = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    return [
        Case("2 x 2 -> two bases of 4 x 4", ramp, middle, plain, last, torch.tensor([0.0, -1.0])),
        Case("a tower of three, four bases", *_stack(generator, 2, 5, convs=3, bases=4)),
        Case("no tower, one base", *_stack(generator, 1, 4, convs=0, bases=1)),
    ]


def _stack(
    generator: Generator, images: int, channels: int, *, convs: int, bases: int
) -> tuple[Tensor, ...]:
    layers = [_layer(generator, channels, channels) for _ in range(convs + 1)]
    return (
        _normal(generator, images, channels, 6, 5),
        torch.stack([kernel for kernel, _ in layers]),
        torch.stack([norm for _, norm in layers]),
        _normal(generator, bases, channels, 1, 1),
        _normal(generator, bases),
    )


MAKE_BASES = Exercise(
    solution=make_bases,
    reference=_reference_make_bases,
    make_cases=_bases_cases,
    gradients=("x", "kernels", "weight", "bias"),
    result_axes="B, K, H, W",
    wrong_answers=(
        WrongAnswer(
            {"[:-1]": "", "x = conv_block(x, kernels[-1], norms[-1])": "pass"},
            "You made the bases at the small size and enlarged them: twice the cells, no more "
            "detail. The last block has to work at twice the size.",
        ),
        WrongAnswer(
            {
                "scale_factor=2.0": "scale_factor=1.0",
                "for kernel,": 'x = F.interpolate(x, None, 2.0, "bilinear")\n    for kernel,',
            },
            "You doubled the map before the tower, so all blocks work on four times the cells. "
            "Only the last one should.",
        ),
        WrongAnswer(
            {"weight, bias)": "weight, bias).relu()"},
            "You passed the bases through a ReLU, as YOLACT does. BlendMask's may be negative, so "
            "that a base can suppress.",
        ),
        WrongAnswer(
            {"weight, bias)": "weight)"},
            "The bias of the last convolution is missing. The blocks have none; this layer has.",
        ),
    ),
    hints=(
        "How many of the n + 1 blocks work at the size of x, and how many at twice the size?",
        "A loop over kernels[:-1] and norms[:-1] with conv_block, then F.interpolate with "
        "scale_factor=2.0, then the last block.",
        "End with F.conv2d(x, weight, bias), and nothing after it: bases have both signs.",
    ),
)


@task("06.4", "Count weights and multiplications", minutes=10, difficulty=2)
def cost_of(convs: Tensor) -> Tensor:
    """Count the weights of convolutions, and their multiplications for one image.

    Args:
        convs: (n, 5) whole numbers, a row for each convolution: input channels, output channels,
            side of the kernel, height and width of the output.

    Returns:
        (n, 2) int64: weights (without biases), multiply-adds.
    """
    # Step 1: a weight for every output channel, input channel and place of the kernel
    channels_in, channels_out, side, height, width = convs.unbind(dim=1)
    weights = channels_out * channels_in * side * side
    # Step 2: how often each weight is used
    return torch.stack([weights, weights * height * width], dim=1)


def _reference_cost_of(convs: Tensor) -> Tensor:
    """PyTorch counts: it runs every layer on meta tensors."""
    costs = torch.zeros(len(convs), 2, dtype=torch.int64)
    for row, (num_in, num_out, side, height, width) in zip(costs, convs.tolist(), strict=True):
        conv = nn.Conv2d(num_in, num_out, side, bias=False, device="meta")
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            conv(torch.zeros(1, num_in, height + side - 1, width + side - 1, device="meta"))
        row[0] = conv.weight.numel()
        row[1] = counter.get_total_flops() // 2  # a multiply-add counts as two there
    return costs


def _cost_cases(generator: Generator) -> list[Case]:
    channels = torch.randint(1, 300, (4, 2), generator=generator)
    side = 2 * torch.randint(0, 3, (4, 1), generator=generator) + 1
    size = torch.randint(2, 200, (4, 2), generator=generator)
    return [
        Case("2 -> 3 channels, 3 x 3, a map of 4 x 5", torch.tensor([[2, 3, 3, 4, 5]])),
        Case("four of a network", torch.cat([channels, side, size], dim=1)),
    ]


COST_OF = Exercise(
    solution=cost_of,
    reference=_reference_cost_of,
    make_cases=_cost_cases,
    wrong_answers=(
        WrongAnswer({"side * side": "side"}, "A kernel is a square: a side of 3 has 9 places."),
        WrongAnswer(
            {"channels_out * channels_in *": "channels_out *"},
            "Every output channel reads all input channels; you left out the latter.",
        ),
        WrongAnswer(
            {"weights * height": "2 * weights * height"},
            "A multiplication with its addition counts as one here, not as two.",
        ),
    ),
    hints=(
        "How many numbers does one cell of an output channel read?",
        "A weight is stored once and used once at every cell of the output.",
        "weights = out * in * side * side; multiply-adds = weights * height * width; stack both "
        "with dim=1.",
    ),
)


@task("06.5", "DeepLabV3+'s decoder", minutes=30, difficulty=4)
class Decoder(nn.Module):
    """Bases from two maps: several looks at the coarse one, joined with the fine one.

    Args of the constructor: channels of the fine map, of the coarse map, inside, and number of
    bases K.

    Attributes, all made of blocks: a block is an `nn.Sequential` of convolution (no bias, keeps
    the size), `nn.BatchNorm2d`, ReLU. `branches`, an `nn.ModuleList` of four blocks on the coarse
    map: one 1x1, and three 3x3 with dilations 3, 6, 9. `image`, an `nn.Sequential` of a 1x1
    convolution without a bias, `nn.GroupNorm` of one group per 8 channels (at least one), ReLU.
    `join`, a 1x1 block that brings these five to the inner channels; `fine`, a 1x1 block to 48
    channels; `tower`, an `nn.Sequential` of two 3x3 blocks; and `bases`, a 1x1 convolution with a
    bias.
    """

    def __init__(
        self, fine_channels: int, coarse_channels: int, channels: int, num_bases: int
    ) -> None:
        super().__init__()

        # Step 1: what a block is
        def block(inputs: int, outputs: int, size: int = 1, dilation: int = 1) -> nn.Sequential:
            padding = dilation * (size // 2)
            conv = nn.Conv2d(inputs, outputs, size, 1, padding, dilation, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

        # Step 2: the layers
        looks = [block(coarse_channels, channels)]
        looks += [block(coarse_channels, channels, 3, dilation) for dilation in (3, 6, 9)]
        self.branches = nn.ModuleList(looks)
        self.image = nn.Sequential(
            nn.Conv2d(coarse_channels, channels, 1, bias=False),
            nn.GroupNorm(max(channels // 8, 1), channels),
            nn.ReLU(),
        )
        self.join = block(5 * channels, channels)
        self.fine = block(fine_channels, 48)
        self.tower = nn.Sequential(block(channels + 48, channels, 3), block(channels, channels, 3))
        self.bases = nn.Conv2d(channels, num_bases, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, fine_channels, H, W) and (B, coarse_channels, h, w) -> (B, K, H, W) bases."""
        # Step 3: the looks; `image` reads the mean over all cells, and goes back to every cell
        looks = [branch(coarse) for branch in self.branches]
        looks.append(self.image(coarse.mean(dim=(2, 3), keepdim=True)).expand_as(looks[0]))
        joined = self.join(torch.cat(looks, dim=1))
        # Step 4: as large as the fine map, bilinearly; coarse channels come first
        large = F.interpolate(joined, size=fine.shape[2:], mode="bilinear", align_corners=False)
        both = torch.cat([large, self.fine(fine)], dim=1)
        # Step 5: the tower, and the bases
        return self.bases(self.tower(both))


DECODER_NAMES = {"pyramid.": ""}  # beginnings of names in the package, and in the exercise
DecoderSizes = tuple[int, int, int, int]


def _use_decoder(
    make: Callable[..., nn.Module],
    weights: Tensor,
    sizes: DecoderSizes,
    fine: Tensor,
    coarse: Tensor,
) -> Tensor:
    return with_weights(make(*sizes), weights, fine, coarse, like=Decoder(*sizes))


def _reference_decoder(
    weights: Tensor, sizes: DecoderSizes, fine: Tensor, coarse: Tensor
) -> Tensor:
    fine_channels, coarse_channels, channels, num_bases = sizes
    decoder = DeepLabDecoder(
        inputs=("p2", "p5"),
        in_channels=(fine_channels, coarse_channels),
        channels=channels,
        num_bases=num_bases,
    )
    maps = {"p2": fine, "p5": coarse}
    return with_weights(decoder, weights, maps, renamed=DECODER_NAMES)


def _decoder_cases(generator: Generator) -> list[Case]:
    def case(
        what: str, sizes: DecoderSizes, batch: int, height: int, width: int, times: int = 8
    ) -> Case:
        fine = _normal(generator, batch, sizes[0], times * height, times * width)
        coarse = _normal(generator, batch, sizes[1], height, width)
        return Case(what, draw_weights(Decoder, sizes, generator), sizes, fine, coarse)

    return [
        case("one channel each, one base", (1, 1, 1, 1), 2, 1, 2, times=2),
        case("two images, 16 channels inside, four bases", (3, 5, 16, 4), 2, 4, 5),
        case("dilations beyond the border of 10 x 12", (4, 4, 8, 2), 1, 10, 12),
    ]


DECODER = Exercise(
    solution=Decoder,
    reference=_reference_decoder,
    use=_use_decoder,
    make_cases=_decoder_cases,
    gradients=("weights", "fine", "coarse"),
    result_axes="B, K, H, W",
    tolerance=1e-3,
    wrong_answers=(
        WrongAnswer(
            {"(3, 6, 9)": "(6, 12, 18)"},
            "Dilations 6, 12, 18 are for a coarse map of stride 16. Ours has stride 32: half of "
            "them reach as far.",
        ),
        WrongAnswer(
            {
                "[large, self.fine(fine)]": "[self.fine(fine), large]",
                "channels + 48, ": "48 + channels, ",
            },
            "The order is wrong: the coarse channels come first, then the 48 of the fine map.",
        ),
        WrongAnswer(
            {'"bilinear", align_corners=False': '"nearest"'},
            "You copied the coarse cells. Enlarge them bilinearly.",
        ),
        WrongAnswer(
            {"coarse.mean(dim=(2, 3), keepdim=True)": "coarse"},
            "The look at the whole image is missing: it reads the mean over all cells.",
        ),
        WrongAnswer(
            {"self.bases(self.tower(both))": "self.bases(self.tower(both)).relu()"},
            "You ended with a ReLU. A base of BlendMask has no activation; it may be negative.",
        ),
    ),
    hints=(
        "Five looks at the coarse map: how many channels enter `join`?",
        "padding = dilation * (size // 2) keeps the size. `.expand_as(looks[0])` copies the one "
        "cell of the image's look to all of them.",
        "bases(tower(cat([enlarged join, fine block]))), everything along dim=1.",
    ),
)


EXERCISES = (CONV_BLOCK, JOIN_LEVELS, MAKE_BASES, COST_OF, DECODER)
