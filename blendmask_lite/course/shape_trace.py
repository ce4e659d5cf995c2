"""Every stage of the network, with its shape in letters and in numbers, and as a map.

`trace(model, image)` runs the model once, compares the letters with the numbers, and shows both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.config import LEVEL_STRIDES
from blendmask_lite.course.display import Table
from blendmask_lite.figures.style import (
    DescribedFigure,
    draw_map,
    draw_picture,
    largest_magnitude,
    panel_grid,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.inputs import batch_images
from blendmask_lite.model.merge import Blender, Merger, WeightedSum, score_maps

__all__ = ["ShapeTrace", "Stage", "evaluate_dimension", "trace"]


@dataclass(frozen=True)
class Stage:
    """One of the tensors between the image and the masks."""

    name: str  # as in `BlendMaskOutput`
    symbols: tuple[str, ...]  # its dimensions in letters, ("B", "K", "H/4", "W/4")
    tensor: Tensor
    meaning: str  # a few words

    @property
    def is_map(self) -> bool:
        """Whether the stage is a stack of maps of the whole image."""
        return self.name != "images" and self.symbols[0] == "B" and len(self.symbols) == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions in numbers."""
        return tuple(self.tensor.shape)


@dataclass(frozen=True, repr=False)
class ShapeTrace(Table):
    """A table of all stages for one image."""

    header = ("stage", "shape", "numbers", "what it is")
    stages: tuple[Stage, ...]  # all stages, in the order of the computation
    letters: dict[str, int]  # the value of each letter here, {"B": 1, "K": 4, ...}
    image: Tensor  # (3, H, W)

    def __getitem__(self, name: str) -> Stage:
        """The stage called `name`.

        Raises:
            KeyError: there is no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(f"{name!r}: the stages are {', '.join(s.name for s in self.stages)}")

    def rows(self) -> list[tuple[str, str, str, str]]:
        """One row of texts per stage."""
        return [(s.name, f"({', '.join(s.symbols)})", str(s.shape), s.meaning) for s in self.stages]

    def figure(self) -> DescribedFigure:
        """The stages that are maps, each as the mean of its channels."""
        maps = [(stage, stage.tensor[0].mean(dim=0)) for stage in self.stages if stage.is_map]
        masks = self["mask_logits"]
        maps += [(masks, masks.tensor[0])] if len(masks.tensor) else []
        figure, cells = panel_grid(
            len(maps) + 1,
            4,
            cell=(2.3, 2.6),
            description=f"The image and {len(maps)} stages of the network as maps: "
            "ever coarser features, the bases, the best object's mask.",
        )
        draw_picture(cells[0], self.image, title="image", has_units=False)
        for ax, (stage, values) in zip(cells[1:], maps, strict=True):
            limit = largest_magnitude(values)
            title = f"{stage.name}  {stage.shape}\n({', '.join(stage.symbols)})"
            draw_map(ax, values, limits=limit, title=title)
        return figure

    def caption(self) -> str:
        """The values of the letters."""
        return ", ".join(f"{letter} = {number}" for letter, number in self.letters.items())


@torch.no_grad()
def trace(model: BlendMask, image: Tensor, *, score_threshold: float | None = None) -> ShapeTrace:
    """Follow one image through the network and check every shape against its letters.

    Args:
        model: any configuration.
        image: (3, H, W), RGB, float in [0, 1] or uint8.
        score_threshold: smallest score of the boxes; by default the model's own threshold.

    Returns:
        All stages, which a notebook shows as a table.

    Raises:
        ValueError: a shape does not match its letters.
    """
    batch, _ = batch_images([image], model.config, device=model.device)
    output = model([image])
    found = model.detect(output, score_threshold=score_threshold)[0]
    index = torch.stack([torch.zeros_like(found.location_index), found.location_index], dim=1)
    attentions = model.attentions_at(output, index)
    crops = model.crops_at(output, index[:, 0], found.boxes)
    config = model.config
    scores = score_maps(model.merger, attentions, config.mask_size)
    letters = {
        "B": 1,
        "H": batch.shape[2],
        "W": batch.shape[3],
        "C": config.num_classes,
        "L": len(output.locations),
        "N": len(found),
        "K": config.num_bases,
        "M": config.attention_size,
        "R": config.mask_size,
    }
    stride = model.bottom.stride
    stages = [Stage("images", ("B", "3", "H", "W"), batch, "normalized and padded")]
    for name in sorted(output.features, key=lambda name: (name[0], name)):
        features = output.features[name]
        step = LEVEL_STRIDES[f"p{name[1]}"]
        where = "backbone" if name[0] == "c" else "feature pyramid"
        symbols = ("B", str(features.shape[1]), f"H/{step}", f"W/{step}")
        stages.append(Stage(name, symbols, features, f"{where}, stride {step}"))
    stages += [
        Stage("class_logits", ("B", "L", "C"), output.class_logits, "a logit for every class"),
        Stage("ltrb", ("B", "L", "4"), output.ltrb, "distances to the sides, pixels"),
        Stage("centerness_logits", ("B", "L"), output.centerness_logits, "how central"),
        Stage("boxes", ("N", "4"), found.boxes, "detected, pixels"),
        Stage("bases", ("B", "K", f"H/{stride}", f"W/{stride}"), output.bases, "shared by all"),
        Stage("attentions", _attention_symbols(model.merger), attentions, "raw, of each object"),
        Stage("crops", ("N", "K", "R", "R"), crops, "bases, cropped along the boxes"),
        Stage("scores", ("N", "K", "R", "R"), scores, "attentions as weights"),
        Stage("mask_logits", ("N", "R", "R"), model.merger(crops, attentions), "masks"),
    ]
    for stage in stages:
        _check(stage, letters)
    return ShapeTrace(tuple(stages), letters, image)


def evaluate_dimension(symbol: str, letters: dict[str, int]) -> int:
    """The value of "K*M*M" or "H/8", rounded up as convolutions do."""
    numerator, _, divisor = symbol.partition("/")
    factors = numerator.split("*")
    product = math.prod(letters[name] if name in letters else int(name) for name in factors)
    return -(-product // int(divisor or 1))


def _check(stage: Stage, letters: dict[str, int]) -> None:
    expected = tuple(evaluate_dimension(symbol, letters) for symbol in stage.symbols)
    if stage.shape != expected:
        raise ValueError(
            f"{stage.name}: ({', '.join(stage.symbols)}) is {expected}, but the shape is "
            f"{stage.shape}"
        )


def _attention_symbols(merger: Merger) -> tuple[str, str]:
    known = {Blender: "K*M*M", WeightedSum: "K"}
    return "N", known.get(type(merger), str(merger.attention_channels))
