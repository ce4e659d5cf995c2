"""The explorer's pages about one image, and about two checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from blendmask_lite.figures.bases import base_overlays_figure, bases_figure, matched_bases_figure
from blendmask_lite.figures.blending import (
    attentions_figure,
    compare_attentions_figure,
    crop_picture,
    object_blending_figure,
)
from blendmask_lite.figures.detections import detections_figure
from blendmask_lite.figures.paper import figure_4
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer.page import Page, Present, Rows, whole_number
from blendmask_lite.lab.explorer.sources import model_field, open_model
from blendmask_lite.lab.explorer.views import whole_bases
from blendmask_lite.lab.parts import checkbox, control, offer, toggle
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import score_maps
from blendmask_lite.research.matching import BaseMatching, bases_of, compare_checkpoints
from blendmask_lite.structures import Detections

__all__ = ["AttentionsPage", "BasesPage", "Figure1Page", "Figure4Page", "PicturePage", "RivalPage"]


NO_ATTENTIONS = (
    "This model's merger (assembler) has no attentions: every base is a tile of the box."
)


class PicturePage(Page):
    """The image with all detections."""

    title = "Picture"
    about = "All objects that the network found in the image: class, score, box and mask."
    needs = "image"

    def figure(self, present: Present) -> DescribedFigure:
        """The image with all detections."""
        look, names = present.look, present.model.class_names
        return detections_figure(look.image, look.found, names, title=look.name)

    def rows(self, present: Present) -> Rows:
        """Every object with its class, score, box and number of pixels."""
        return found_rows(present.look.found, present.model.class_names)


class BasesPage(Page):
    """The K bases."""

    title = "Bases"
    about = (
        "The bases are maps of the whole image, and the same for all of its objects. Red is "
        "positive, blue negative."
    )
    needs = "image"

    def __init__(self) -> None:
        self.style = toggle("show as", {"overlays": True, "maps": False})
        super().__init__(self.style)

    def figure(self, present: Present) -> DescribedFigure:
        """Overlays on the grey image, or maps beside the image."""
        model, look = present.model, present.look
        stride, bases = model.bottom.stride, whole_bases(model, look)
        if self.style.value:
            return base_overlays_figure(
                look.image, bases, stride=stride, title=look.name, is_large=True
            )
        return bases_figure(bases, stride=stride, image=look.image, title=look.name)


class AttentionsPage(Page):
    """Attentions of the chosen object, or of two objects side by side."""

    title = "Attentions"
    about = (
        "The attentions of the object chosen above: for every base, where in the box it "
        "counts. Red is positive, blue negative: the object wants more or less of the base "
        "there."
    )

    def __init__(self) -> None:
        self.with_second = checkbox("beside a second object")
        self.second = control(widgets.Dropdown, "second", 260, disabled=True)
        super().__init__(self.with_second, self.second)

    def missing(self, present: Present) -> str:
        """The reason: there is no object, or the merger has no attentions."""
        if present.model.merger.attention_channels == 0:
            return NO_ATTENTIONS
        return super().missing(present)

    def follow(self, present: Present) -> None:
        """Offer the image's objects as the second object."""
        self.second.disabled = not self.with_second.value
        names = [thing.name for thing in present.look.objects]
        if [name for name, _ in self.second.options] != names:
            offer(self.second, names, min(1, len(names) - 1) if names else None)

    @torch.no_grad()
    def figure(self, present: Present) -> DescribedFigure:
        """Raw attentions of one object, or score maps of two and their difference."""
        model, look = present.model, present.look
        chosen = [present.chosen, self.second.value] if self.with_second.value else [present.chosen]
        seen = [look.objects[number] for number in chosen]
        raw = model.attentions_at(look.output, torch.stack([thing.index for thing in seen]))
        about: Any = {
            "names": [thing.name for thing in seen],
            "image": look.image,
            "boxes": torch.stack([thing.box for thing in seen]).cpu(),
        }
        if self.with_second.value:
            maps = score_maps(model.merger, raw, model.config.mask_size)
            return compare_attentions_figure(maps.cpu(), **about)
        K = model.config.num_bases
        side = math.isqrt(raw.shape[1] // K)
        return attentions_figure(raw.unflatten(1, (K, side, side)).cpu(), **about)


class Figure1Page(Page):
    """The paper's figure 1, for the chosen object."""

    title = "Figure 1"
    about = (
        "The paper's figure 1 for the object chosen above: the bases cut out along its box "
        "(crops), times their scores, add up to its mask."
    )

    def figure(self, present: Present) -> DescribedFigure:
        """Crops, weights, products, mask."""
        look = present.look
        seen = look.objects[present.chosen]
        return object_blending_figure(
            present.model,
            look.output,
            seen.index,
            seen.box,
            picture=crop_picture(look.image, seen.box.cpu()),
            title=f"{look.name}: {seen.name}",
        )


class Figure4Page(Page):
    """The paper's figure 4, for the image."""

    title = "Figure 4"
    about = (
        "The paper's figure 4: the bases of the image, the scores of all objects in the "
        "colours of the bases, and the masks."
    )
    needs = "detection"

    def figure(self, present: Present) -> DescribedFigure:
        """Bases, weights in their colours, masks."""
        look = present.look
        return figure_4(present.model, look.image, score_threshold=look.least_score**2)


def found_rows(found: Detections, class_names: tuple[str, ...]) -> Rows:
    """A table of the detections."""
    if len(found) == 0:
        return [["No object has a score above the least score."]]
    rows = [["object", "class", "score", "box: left, top, right, bottom", "mask, pixels"]]
    for number, label in enumerate(found.labels.tolist()):
        box = ", ".join(f"{side:.0f}" for side in found.boxes[number].tolist())
        score, pixels = float(found.scores[number]), int(found.masks[number].sum())
        rows.append([str(number + 1), class_names[label], f"{score:.2f}", box, str(pixels)])
    return rows


@dataclass(frozen=True)
class Rival:
    """Another checkpoint whose bases are matched with those of the explorer's model."""

    name: str  # name of the checkpoint
    model: BlendMask  # the model, in evaluation mode
    matching: BaseMatching  # correspondence of the explorer's bases with those of this model
    num_images: int  # number of images used for the matching


class RivalPage(Page):
    """Another checkpoint beside the current one, with their bases matched."""

    title = "Two checkpoints"
    about = (
        "Another trained network beside this one: each of its bases below the base of this "
        "one that looks most like it. Networks are saved as files called checkpoints."
    )

    def __init__(self) -> None:
        self.source = model_field("other", 360, "a file, or a published name")
        self.num_images = whole_number("over images", 170, 5, 1, 50)
        self.button = widgets.Button(description="Load and match", icon="exchange")
        self.rival: Rival | None = None
        super().__init__(others=[self.source, self.num_images, self.button])

    def missing(self, present: Present) -> str:
        """The reason, as long as no other checkpoint is loaded."""
        return "" if self.rival else "Name another checkpoint, and press “Load and match”."

    def match(self, present: Present) -> None:
        """Load another checkpoint and match its bases; if that fails, the old one stays.

        Raises:
            OSError, ValueError: there is no such file, or it has a different number of bases.
        """
        other = open_model(self.source.value)
        ours, theirs = present.model.config.num_bases, other.config.num_bases
        if ours != theirs:
            raise ValueError(
                f"{self.source.value}: {theirs} bases, but the present model has {ours}; only "
                "equal numbers can be matched"
            )
        total = min(self.num_images.value, len(present.dataset))
        images = [present.dataset.load(index).image for index in range(total)]
        with torch.no_grad():
            matching = compare_checkpoints(present.model, other, images)
        name = self.source.value.strip().replace("\\", "/").rpartition("/")[2]
        self.rival = Rival(name, other, matching, total)

    def figure(self, present: Present) -> DescribedFigure:
        """Matched bases, one below the other."""
        assert self.rival is not None
        image, matching = present.look.image, self.rival.matching
        return matched_bases_figure(
            image,
            bases_of(present.model, image),
            bases_of(self.rival.model, image),
            order=matching.order,
            correlations=matching.correlations,
            names=("this model", self.rival.name),
        )

    def rows(self, present: Present) -> Rows:
        """The pairs and their correlations."""
        assert self.rival is not None
        matching = self.rival.matching
        rows = [["base", f"of {self.rival.name}", f"r over {self.rival.num_images} images"]]
        pairs = zip(matching.order.tolist(), matching.correlations.tolist(), strict=True)
        return rows + [[str(k), str(o + 1), f"{r:+.2f}"] for k, (o, r) in enumerate(pairs, 1)]

    def forget(self) -> None:
        """Drop the other checkpoint, because it was matched with the earlier model."""
        self.rival = None
