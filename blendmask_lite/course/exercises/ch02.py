"""Exercises of chapter 02: sizes, fields, top-down path, extra levels, block and pyramid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.modules import draw_weights, with_weights
from blendmask_lite.model.backbones.resnet import BasicBlock
from blendmask_lite.model.fpn import FPN
from blendmask_lite.research.detector import pyramid_shapes
from blendmask_lite.research.fields import chain_fields

__all__ = ["EXERCISES"]


@task("02.1", "How large every level is", minutes=10, difficulty=2)
def level_sizes(image_sizes: Tensor, strides: Tensor) -> Tensor:
    """Height and width of every level of the pyramid for images of any size.

    Args:
        image_sizes: (N, 2) int64, height and width in pixels.
        strides: (L,) int64, such as 8, 16, 32, 64, 128.

    Returns:
        (N, L, 2) int64, cells. Images are padded to multiples of 32 first. Above stride 32,
        every convolution halves the size and rounds up.
    """
    # Step 1: the next multiple of 32, with whole numbers only
    padded = (image_sizes + 31) // 32 * 32
    # Step 2: divide (N, 1, 2) by (L, 1) and round up
    return (padded[:, None] + strides[:, None] - 1) // strides[:, None]


def _reference_level_sizes(image_sizes: Tensor, strides: Tensor) -> Tensor:
    steps = strides.tolist()
    rows = [pyramid_shapes((h, w), steps, size_divisor=32) for h, w in image_sizes.tolist()]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, len(steps), 2)


def _size_cases(generator: Generator) -> list[Case]:
    strides = torch.tensor([8, 16, 32, 64, 128])
    sizes = torch.randint(33, 1400, (6, 2), generator=generator)
    return [
        Case("128 x 256 pixels: all divide", torch.tensor([[128, 256]]), strides),
        Case("100 x 130 pixels: padded first", torch.tensor([[100, 130]]), strides),
        Case("800 x 1333 pixels: COCO at test size", torch.tensor([[800, 1333]]), strides),
        Case("six images", sizes, strides),
        Case("finer levels: strides 1, 2, 4", sizes, torch.tensor([1, 2, 4])),
    ]


SIZES = Exercise(
    solution=level_sizes,
    reference=_reference_level_sizes,
    make_cases=_size_cases,
    result_axes="N, level, side",
    wrong_answers=(
        WrongAnswer(
            {"(image_sizes + 31) // 32 * 32": "image_sizes"},
            "The network never sees 100 rows: the image is padded to a multiple of 32 first.",
        ),
        WrongAnswer(
            {" + strides[:, None] - 1": ""},
            "Right up to stride 32. Above it, a convolution of stride 2 rounds odd sizes up: 25 "
            "rows give 13.",
        ),
        WrongAnswer(
            {"(image_sizes +": "(image_sizes.flip(1) +"},
            "Height and width are exchanged: sizes are (height, width).",
        ),
        WrongAnswer(
            {"31": "127", "32": "128"},
            "Images are padded to the stride of the backbone's last map, 32, not to that of P7.",
        ),
    ),
    hints=(
        "Which size does the network see if the image has 100 rows?",
        "Rounding up with whole numbers: add the divisor minus one, then divide with //.",
        "padded = (image_sizes + 31) // 32 * 32, then the same with strides[:, None].",
    ),
)


@task("02.2", "Theoretical receptive fields", minutes=10, difficulty=3)
def field_sides(kernels: Tensor, strides: Tensor) -> Tensor:
    """Side of a cell's receptive field after each of a chain of convolutions.

    Args:
        kernels: (P,) int64, side of each kernel, from the image upwards.
        strides: (P,) int64, stride of each convolution.

    Returns:
        (P,) int64, pixels. A kernel of 3 adds two neighbours, whose distance is the product of
        the strides of all convolutions below.
    """
    # Step 1: pixels between two cells that each kernel reads: strides below it, not its own
    steps = torch.cat([strides.new_ones(1), strides.cumprod(dim=0)])[: len(strides)]
    # Step 2: start with one pixel and add up
    return 1 + ((kernels - 1) * steps).cumsum(dim=0)


def _field_cases(generator: Generator) -> list[Case]:
    kernels = torch.randint(0, 4, (9,), generator=generator) * 2 + 1
    strides = torch.randint(1, 3, (9,), generator=generator)
    return [
        Case("three 3 x 3, stride 1", torch.tensor([3, 3, 3]), torch.tensor([1, 1, 1])),
        Case("7 / 2, 3 / 2, 3 / 1", torch.tensor([7, 3, 3]), torch.tensor([2, 2, 1])),
        Case(
            "a 1 / 2 between: 3 / 1, 1 / 2, 3 / 1", torch.tensor([3, 1, 3]), torch.tensor([1, 2, 1])
        ),
        Case("nine convolutions", kernels, strides),
    ]


FIELDS = Exercise(
    solution=field_sides,
    reference=lambda kernels, strides: torch.tensor(
        chain_fields(kernels.tolist(), strides.tolist()), dtype=torch.int64
    ),
    make_cases=_field_cases,
    result_axes="layer",
    wrong_answers=(
        WrongAnswer(
            {"* steps": "* strides.cumprod(dim=0)"},
            "A convolution's own stride spreads its results apart, not what it reads. Only the "
            "strides below it count.",
        ),
        WrongAnswer(
            {"1 + ((kernels - 1) * steps)": "(kernels * steps)"},
            "You added the whole kernel. Its middle is seen already: a kernel of 3 adds 2 "
            "neighbours, one on each side.",
        ),
        WrongAnswer(
            {" * steps": ""},
            "You took neighbours to be one pixel apart everywhere. After two strides of 2 they are "
            "4 pixels apart.",
        ),
    ),
    hints=(
        "How many pixels are two neighbours on a map of stride 4 apart?",
        "The first convolution reads pixels; the second reads cells of the first.",
        "steps = 1, s1, s1 * s2, ... (cumprod); 1 + ((kernels - 1) * steps).cumsum(dim=0).",
    ),
)


@task("02.3", "Lateral plus top-down", minutes=10, difficulty=2)
def merge_levels(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One step down the pyramid: the lateral 1x1 convolution plus the level above, enlarged.

    Args:
        fine: (B, C, H, W) map of the backbone.
        above: (B, P, h, w) merged level above; h and w are half of H and W, rounded up.
        weight: (P, C, 1, 1) of the lateral convolution.
        bias: (P,) of the same.

    Returns:
        (B, P, H, W). Each cell of `above` is copied to 2 x 2; if H or W is odd, the last row or
        column of copies is cut off.
    """
    # Step 1: the lateral convolution brings C channels to P
    lateral = F.conv2d(fine, weight, bias)
    # Step 2: nearest neighbour, twice as large
    enlarged = F.interpolate(above, scale_factor=2.0, mode="nearest")
    # Step 3: cut to H x W, and add
    return lateral + enlarged[:, :, : fine.shape[2], : fine.shape[3]]


def _reference_merge_levels(fine: Tensor, above: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The package pads its images, so its maps never have odd sizes: pad, merge, cut."""
    height, width = fine.shape[-2:]
    padded = F.pad(fine, (0, above.shape[3] * 2 - width, 0, above.shape[2] * 2 - height))
    num, channels = weight.shape[:2]
    fpn = FPN(in_channels={"c4": channels, "c5": num}, out_channels=num, num_top_levels=0)
    fpn.load_state_dict(
        {
            "lateral.c4.weight": weight,
            "lateral.c4.bias": bias,
            "lateral.c5.weight": torch.eye(num)[:, :, None, None],
            **{f"output.{c}.weight": _passing(num) for c in ("c4", "c5")},
            **_no_bias(num, "lateral.c5", "output.c4", "output.c5"),
        }
    )
    with torch.no_grad():
        merged: Tensor = fpn({"c4": padded, "c5": above})["p4"]
    return merged[:, :, :height, :width]


def _no_bias(num: int, *parts: str) -> dict[str, Tensor]:
    return {f"{part}.bias": torch.zeros(num) for part in parts}


def _passing(num: int) -> Tensor:
    """A 3 x 3 kernel that passes every channel on unchanged."""
    kernel = torch.zeros(num, num, 3, 3)
    kernel[:, :, 1, 1] = torch.eye(num)
    return kernel


def _merge_cases(generator: Generator) -> list[Case]:
    fine, above = torch.ones(1, 1, 3, 3), torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    two, three = torch.full((1, 1, 1, 1), 2.0), torch.full((1,), 3.0)

    def drawn(batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        half = (height + 1) // 2, (width + 1) // 2
        shapes = (batch, 5, height, width), (batch, 4, *half), (4, 5, 1, 1), (4,)
        return tuple(torch.randn(shape, generator=generator) for shape in shapes)

    return [
        Case("3 x 3 below 2 x 2: lateral 2 * 1 + 3", fine, above, two, three),
        Case("two images, 8 x 12", *drawn(2, 8, 12)),
        Case("odd: 7 x 13", *drawn(1, 7, 13)),
    ]


MERGE = Exercise(
    solution=merge_levels,
    reference=_reference_merge_levels,
    make_cases=_merge_cases,
    gradients=("fine", "above", "weight", "bias"),
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {"nearest": "bilinear"},
            "You interpolated the level above. The pyramid copies every cell (nearest) and leaves "
            "the smoothing to the 3x3 convolution that follows.",
        ),
        WrongAnswer(
            {": fine.shape[2], : fine.shape[3]": "-fine.shape[2] :, -fine.shape[3] :"},
            "You cut off the first row or column. Cell 0 begins at pixel 0 on every level, so the "
            "last one is too much.",
        ),
        WrongAnswer(
            {"return lateral + ": "return 0.5 * lateral + 0.5 * "},
            "You averaged the two. The pyramid adds them.",
        ),
        WrongAnswer(
            {"return lateral": "return lateral.relu()"},
            "You passed the lateral convolution through a ReLU. The pyramid has none between its "
            "levels: negative values count, too.",
        ),
    ),
    hints=(
        "H = 7 and h = 4: how many rows does the enlarged map have, and which one is too much?",
        "F.conv2d(fine, weight, bias), and F.interpolate with scale_factor=2.0.",
        'mode="nearest", then enlarged[:, :, : fine.shape[2], : fine.shape[3]].',
    ),
)


@task("02.4", "P6 and P7", minutes=5, difficulty=2)
def two_levels_up(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """P7 from P5: two 3x3 convolutions of stride 2 with a ReLU between them.

    Args:
        p5: (B, P, H, W).
        weights: (2, P, P, 3, 3), for P6 and for P7.
        biases: (2, P).

    Returns:
        (B, P, H/4, W/4), rounded up twice. P6 itself keeps its negative values: only the input
        of P7 passes through the ReLU.
    """
    # Step 1: P6 from P5; padding 1 keeps the border
    p6 = F.conv2d(p5, weights[0], biases[0], stride=2, padding=1)
    # Step 2: P7 from the positive part of P6
    return F.conv2d(F.relu(p6), weights[1], biases[1], stride=2, padding=1)


def _reference_two_levels_up(p5: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    num = p5.shape[1]
    fpn = FPN(in_channels={"c5": num}, out_channels=num, num_top_levels=2)
    state = {
        "lateral.c5.weight": torch.eye(num)[:, :, None, None],
        "output.c5.weight": _passing(num),
    }
    state |= _no_bias(num, "lateral.c5", "output.c5")
    for level, weight, bias in zip(("p6", "p7"), weights, biases, strict=True):
        state |= {f"top.{level}.weight": weight, f"top.{level}.bias": bias}
    fpn.load_state_dict(state)
    with torch.no_grad():
        p7: Tensor = fpn({"c5": p5})["p7"]
    return p7


def _top_cases(generator: Generator) -> list[Case]:
    middle = torch.zeros(2, 1, 1, 3, 3)
    middle[:, 0, 0, 1, 1] = torch.tensor([1.0, 2.0])  # pass on, and double
    row = torch.tensor([3.0, 0, -3, 0, 1]).expand(1, 1, 5, 5).contiguous()

    def drawn(*shape: int) -> tuple[Tensor, ...]:
        num = shape[1]
        shapes = shape, (2, num, num, 3, 3), (2, num)
        return tuple(torch.randn(size, generator=generator) for size in shapes)

    return [
        Case("5 x 5 -> 3 x 3 -> 2 x 2", row, middle, torch.zeros(2, 1)),
        Case("two images, 8 x 16", *drawn(2, 3, 8, 16)),
        Case("odd: 25 x 42", *drawn(1, 4, 25, 42)),
    ]


TOP = Exercise(
    solution=two_levels_up,
    reference=_reference_two_levels_up,
    make_cases=_top_cases,
    gradients=("p5", "weights", "biases"),
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {"F.relu(p6)": "p6"},
            "Without a ReLU between them, two convolutions are one larger convolution.",
        ),
        WrongAnswer(
            {
                "F.relu(p6)": "p6",
                "biases[1], stride=2, padding=1)": "biases[1], stride=2, padding=1).relu()",
            },
            "The ReLU belongs between the two convolutions, not after the second.",
        ),
        WrongAnswer(
            {"conv2d(p5": "conv2d(F.relu(p5)"},
            "You passed P5 through a ReLU as well. It enters the first convolution as it is; only "
            "P6 is cut.",
        ),
        WrongAnswer(
            lambda p5, weights, biases: p5[:, :, ::4, ::4],
            "You took every fourth cell, as P6 of the first pyramid paper takes every second one. "
            "FCOS has convolutions here.",
        ),
    ),
    hints=(
        "How many cells of a row of 5 does a kernel of 3 with stride 2 and padding 1 visit?",
        "F.conv2d(p5, weights[0], biases[0], stride=2, padding=1) is P6.",
        "P7 is the same applied to F.relu(p6), with weights[1] and biases[1]; no ReLU after it.",
    ),
)


@task("02.5", "A residual block", minutes=15, difficulty=3)
class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them (ResNet, figure 5 left).

    Args of the constructor: in_channels, out_channels, and the stride of the first convolution.

    Attributes: `conv1`, `bn1`, `conv2`, `bn2`, and `downsample`. All convolutions have no bias. If
    stride and channels keep the shape, `downsample` is None; else it is an `nn.Sequential` of a
    1x1 convolution with the block's stride and an `nn.BatchNorm2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        # Step 1: two 3x3 convolutions that keep the size but for the stride, each with a norm
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        # Step 2: the shortcut, where the shapes differ
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), >= 0."""
        # Step 3: convolve, normalise, ReLU; convolve, normalise
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        # Step 4: add the shortcut, and only then the second ReLU
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut)


def _use_block(
    make: Callable[..., nn.Module], weights: Tensor, sizes: tuple[int, int, int], x: Tensor
) -> Tensor:
    return with_weights(make(*sizes), weights, x, like=ResidualBlock(*sizes))


def _reference_block(weights: Tensor, sizes: tuple[int, int, int], x: Tensor) -> Tensor:
    num_in, num_out, stride = sizes
    block = BasicBlock(
        in_channels=num_in, width=num_out, out_channels=num_out, stride=stride, norm="bn"
    )
    return with_weights(block, weights, x)


def _block_cases(generator: Generator) -> list[Case]:
    def case(what: str, sizes: tuple[int, int, int], *shape: int) -> Case:
        x = torch.randn(shape, generator=generator)
        return Case(what, draw_weights(ResidualBlock, sizes, generator), sizes, x)

    return [
        case("one channel, stride 1: no convolution in the shortcut", (1, 1, 1), 2, 1, 3, 3),
        case("one channel, stride 2", (1, 1, 2), 2, 1, 4, 4),
        case("three channels become five", (3, 5, 1), 2, 3, 5, 7),
        case("four channels become six, stride 2", (4, 6, 2), 2, 4, 6, 10),
    ]


BLOCK = Exercise(
    solution=ResidualBlock,
    reference=_reference_block,
    use=_use_block,
    make_cases=_block_cases,
    gradients=("weights", "x"),
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {"F.relu(out + shortcut)": "F.relu(out) + shortcut"},
            "You added the shortcut after the last ReLU. It comes before: the sum passes the ReLU.",
        ),
        WrongAnswer(
            {
                "out_channels, 3, stride, padding=1": "out_channels, 3, padding=1",
                "conv2 = nn.Conv2d(out_channels, out_channels, 3,": (
                    "conv2 = nn.Conv2d(out_channels, out_channels, 3, stride,"
                ),
            },
            "The stride is in the second convolution. In this block it is the first one's.",
        ),
        WrongAnswer(
            {"out = F.relu(self.bn1": "out = (self.bn1"},
            "There is no ReLU between the two convolutions, so together they are hardly more than "
            "one.",
        ),
        WrongAnswer(
            {"F.relu(out + shortcut)": "F.relu(out)"},
            "The shortcut is missing: what comes in is added to what the convolutions make.",
        ),
    ),
    hints=(
        "What has to be done to x before it can be added to a map of half its size?",
        "nn.Sequential(1x1 convolution with the stride, nn.BatchNorm2d) where shapes differ.",
        "F.relu(bn2(conv2(F.relu(bn1(conv1(x))))) + shortcut)",
    ),
)


@task("02.6", "The whole pyramid", minutes=30, difficulty=4)
class Pyramid(nn.Module):
    """A feature pyramid (FPN, section 3), built from your `merge_levels`.

    Args of the constructor: channels of the backbone's maps, such as {"c2": 32, "c3": 64}, finest
    first, and the channels of every level of the pyramid.

    Attributes: `lateral` and `output`, each an `nn.ModuleDict` with a convolution for every map, by
    its name "c2", ...: 1x1 and 3x3, both with a bias.
    """

    def __init__(self, in_channels: dict[str, int], out_channels: int) -> None:
        super().__init__()
        # Step 1: the convolutions; those of `output` keep the size
        self.lateral = nn.ModuleDict(
            {name: nn.Conv2d(num, out_channels, 1) for name, num in in_channels.items()}
        )
        self.output = nn.ModuleDict(
            {name: nn.Conv2d(out_channels, out_channels, 3, padding=1) for name in in_channels}
        )

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c2": (B, channels, H/4, W/4), ...} -> {"p2": (B, out_channels, H/4, W/4), ...}."""
        # Step 2: begin at the top, with the lateral convolution alone
        *finer, top = sorted(self.lateral)
        merged = {top: self.lateral[top](maps[top])}
        # Step 3: go down; each level merges its own map with the merged level above
        for name in reversed(finer):
            above = merged[min(merged)]
            weight, bias = self.lateral[name].parameters()
            merged[name] = merge_levels(maps[name], above, weight, bias)
        # Step 4: a 3x3 convolution on each merged level, none of which reaches the level below
        return {f"p{name[1]}": self.output[name](merged[name]) for name in sorted(merged)}


PyramidSizes = tuple[dict[str, int], int]


def _use_pyramid(
    make: Callable[..., nn.Module], weights: Tensor, sizes: PyramidSizes, *maps: Tensor
) -> dict[str, Tensor]:
    named = dict(zip(sizes[0], maps, strict=True))
    return with_weights(make(*sizes), weights, named, like=Pyramid(*sizes))


def _reference_pyramid(weights: Tensor, sizes: PyramidSizes, *maps: Tensor) -> dict[str, Tensor]:
    fpn = FPN(in_channels=sizes[0], out_channels=sizes[1], num_top_levels=0)
    return with_weights(fpn, weights, dict(zip(sizes[0], maps, strict=True)))


def _pyramid_cases(generator: Generator) -> list[Case]:
    def case(what: str, channels: dict[str, int], num: int, height: int, width: int) -> Case:
        sizes = (channels, num)
        maps = [
            torch.randn(2, wide, height >> i, width >> i, generator=generator)
            for i, wide in enumerate(channels.values())
        ]
        return Case(what, draw_weights(Pyramid, sizes, generator), sizes, *maps)

    return [
        case("two levels, one channel", {"c4": 1, "c5": 1}, 1, 2, 4),
        case("three levels", {"c3": 2, "c4": 3, "c5": 4}, 5, 8, 12),
        case("four levels", {"c2": 2, "c3": 3, "c4": 4, "c5": 5}, 3, 16, 8),
    ]


PYRAMID = Exercise(
    solution=Pyramid,
    reference=_reference_pyramid,
    use=_use_pyramid,
    make_cases=_pyramid_cases,
    gradients=("weights", "maps"),
    result_axes="B, channel, H, W",
    wrong_answers=(
        WrongAnswer(
            {"(maps[name], above,": ("(maps[name], self.output[min(merged)](above),")},
            "You passed the level above through its 3x3 convolution before merging it. The sums go "
            "down first; the 3x3 convolutions come last, one for each level.",
        ),
        WrongAnswer(
            {
                "merged[min(merged)]": "self.lateral[top](maps[top]).repeat_interleave("
                "maps[name].shape[2] // maps[top].shape[2] // 2, 2).repeat_interleave("
                "maps[name].shape[2] // maps[top].shape[2] // 2, 3)"
            },
            "Every level is merged with the top only. It should get the merged level right above "
            "it, which holds all the higher ones.",
        ),
        WrongAnswer(
            {"self.output[name](merged[name])": "merged[name]"},
            "The 3x3 convolutions are missing. They smooth the copies that the enlargement makes.",
        ),
        WrongAnswer(
            {"self.output[name](merged[name])": "self.output[name](merged[name]).relu()"},
            "You ended with a ReLU. A level of the pyramid keeps its negative values.",
        ),
    ),
    hints=(
        "Which level can be made without any other, and which one needs all of them?",
        "Keep the sums and the results apart: the 3x3 convolutions read the sums, and so does the "
        "level below.",
        "for name in reversed(finer): merge_levels(maps[name], above, weight, bias)",
    ),
)


EXERCISES = (SIZES, FIELDS, MERGE, TOP, BLOCK, PYRAMID)
