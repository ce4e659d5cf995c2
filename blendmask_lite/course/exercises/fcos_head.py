"""The exercise of chapter 05 on FCOS's head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.modules import draw_weights, with_weights
from blendmask_lite.model.fcos import FCOSHead, flatten_levels

__all__ = ["HEAD", "Head"]


@task("05.5", "The head", minutes=30, difficulty=4)
class Head(nn.Module):
    """FCOS's head: a tower and three predictors, shared by all levels (FCOS, figure 2).

    Args of the constructor: channels of the pyramid, number of classes C, and number of
    convolutions in the tower, which may be 0.

    Attributes: `tower`, an `nn.Sequential` of convolution, `nn.GroupNorm`, ReLU, and so on; and the
    convolutions `class_logits` (C channels), `ltrb` (4) and `centerness` (1). All of them are 3x3,
    keep the size and have a bias. A norm has 32 groups if these divide the channels, else half as
    many groups as channels, but at least one.
    """

    def __init__(self, channels: int, num_classes: int, num_convs: int) -> None:
        super().__init__()
        # Step 1: the layers
        num_groups = 32 if channels % 32 == 0 else max(channels // 2, 1)
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            norm = nn.GroupNorm(num_groups, channels)
            layers += [nn.Conv2d(channels, channels, 3, padding=1), norm, nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.class_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.ltrb = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        # Step 2: weights of deviation 0.01, and biases of 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight, bias = module.parameters()
                nn.init.normal_(weight, std=0.01)
                nn.init.zeros_(bias)
        # Step 3: but at the start every class has a probability of 0.01 everywhere
        _, bias = self.class_logits.parameters()
        nn.init.constant_(bias, torch.tensor(0.01).logit().item())

    def forward(self, levels: list[Tensor], strides: list[int]) -> tuple[Any, ...]:
        """Predict at every location of every level.

        Args:
            levels: (B, channels, h, w) each.
            strides: of the levels, pixels.

        Returns:
            Class logits (B, L, C), distances l, t, r, b (B, L, 4) in pixels and >= 0, centerness
            logits (B, L), and a list of the tower's maps, one for each level. The L locations are
            counted level by level, row by row.
        """
        # Step 4: the tower, then the predictors; distances: a ReLU, times the level's stride
        features = [self.tower(level) for level in levels]
        class_logits = [self.class_logits(each) for each in features]
        pairs = zip(features, strides, strict=True)
        ltrb = [self.ltrb(each).relu() * stride for each, stride in pairs]
        centerness = [self.centerness(each) for each in features]
        # Step 5: (B, channels, h, w) of every level -> (B, L, channels)
        flat = [
            torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)
            for maps in (class_logits, ltrb, centerness)
        ]
        return flat[0], flat[1], flat[2][..., 0], features


HEAD_NAMES = {"shared_tower.": "tower."}  # beginnings of names in the package, and in the exercise


def _use_head(
    make: Callable[..., Any],
    weights: Tensor,
    sizes: tuple[int, int, int],
    strides: list[int],
    *levels: Tensor,
) -> Any:
    head = make(*sizes)
    if len(weights) == 0:
        return _beginning(head, head.class_logits, head.ltrb, head.centerness)
    return with_weights(head, weights, list(levels), strides, like=Head(*sizes))


def _beginning(head: nn.Module, *predictors: nn.Conv2d) -> dict[str, Tensor]:
    """The biases of the predictors, and the deviations of all kernels in hundredths, rounded."""
    kernels = [each for each in head.parameters() if each.dim() == 4]
    pairs = zip(("class_logits", "ltrb", "centerness"), predictors, strict=True)
    found = {f"bias of {name}": each.bias.detach() for name, each in pairs if each.bias is not None}
    deviations = torch.stack([100 * each.detach().std() for each in kernels]).round()
    return found | {"deviations of all weights, in hundredths": deviations}


def _reference_head(
    weights: Tensor, sizes: tuple[int, int, int], strides: list[int], *levels: Tensor
) -> Any:
    channels, num_classes, num_convs = sizes
    head = FCOSHead(
        in_channels=channels,
        num_classes=num_classes,
        num_shared_convs=num_convs,
        num_class_convs=0,
        num_box_convs=0,
    )
    if len(weights) == 0:
        return _beginning(head, head.class_logits, head.ltrb, head.centerness)
    found = with_weights(head, weights, levels, renamed=HEAD_NAMES)
    pixels = [each * s for each, s in zip(found.ltrb, strides, strict=True)]
    centerness = flatten_levels(found.centerness_logits)[..., 0]
    flat = flatten_levels(found.class_logits), flatten_levels(pixels), centerness
    return *flat, found.box_features


def _head_cases(generator: Generator) -> list[Case]:
    def case(what: str, sizes: tuple[int, int, int], batch: int, *shapes: tuple[int, int]) -> Case:
        strides = [8 << i for i in range(len(shapes))]
        levels = [torch.randn(batch, sizes[0], *shape, generator=generator) for shape in shapes]
        return Case(what, draw_weights(Head, sizes, generator), sizes, strides, *levels)

    nothing = torch.zeros(1, 64, 1, 1)
    return [
        case("one channel, one class, no tower, 2 x 2 cells", (1, 1, 0), 1, (2, 2)),
        case("two levels, three classes, a tower of one", (4, 3, 1), 2, (4, 6), (2, 3)),
        case("32 channels: 32 groups; a tower of two", (32, 8, 2), 1, (4, 4), (2, 2)),
        case("34 channels: 17 groups", (34, 2, 1), 1, (3, 4)),
        case("two channels: one group", (2, 1, 1), 2, (3, 2)),
        Case(
            "as it begins: biases, deviations in hundredths",
            torch.zeros(0),
            (64, 8, 2),
            [],
            nothing,
        ),
    ]


HEAD = Exercise(
    solution=Head,
    reference=_reference_head,
    use=_use_head,
    make_cases=_head_cases,
    result_names=("class logits", "distances", "centerness logits", "the tower's maps"),
    gradients=("weights", "levels"),
    tolerance=1e-3,
    wrong_answers=(
        WrongAnswer(
            {".relu() * stride": ".relu()"},
            "Your distances are in strides: multiply those of every level with its stride.",
        ),
        WrongAnswer(
            {"self.ltrb(each).relu() * stride": "(self.ltrb(each) * stride).exp().clamp(max=1e4)"},
            "You took the exponential of the distances, as the first version of FCOS does. Here it "
            "is a ReLU, times the stride.",
        ),
        WrongAnswer(
            {"nn.init.constant_(bias, torch.tensor(0.01).logit().item())": "pass"},
            "The class logits begin at 0, a probability of one half. With it, the loss of the "
            "background would drown everything; begin at 0.01.",
        ),
        WrongAnswer(
            {"torch.tensor(0.01).logit().item()": "0.01"},
            "0.01 is the probability, not the logit. Which x has sigmoid(x) = 0.01?",
        ),
        WrongAnswer(
            {"each.flatten(2).transpose(1, 2)": "each.transpose(2, 3).flatten(2).transpose(1, 2)"},
            "You counted the locations column by column. They go row by row, like those of chapter "
            "03.",
        ),
    ),
    hints=(
        "Which layers does a level need for itself, and which are the same for all of them?",
        "sigmoid(x) = 0.01 means x = log(0.01 / 0.99). flatten(2).transpose(1, 2) makes (B, h * w, "
        "channels) of a map.",
        "relu() * stride for the distances; torch.cat of all levels along dim=1; [..., 0] takes "
        "the one channel of the centerness away.",
    ),
)
