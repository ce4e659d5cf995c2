"""The explorer's pages about one image, and about two checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
import torch

from blendmask_lite.figures.paper import figure_4
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer import views as figures
from blendmask_lite.lab.explorer.page import Page, Present, Rows, whole_number
from blendmask_lite.lab.explorer.sources import model_field, open_model
from blendmask_lite.lab.parts import checkbox, control, offer, toggle
from blendmask_lite.research.matching import compare_checkpoints
from blendmask_lite.structures import Detections

__all__ = ["AttentionsPage", "BasesPage", "Figure1Page", "Figure4Page", "PicturePage", "RivalPage"]


NO_ATTENTIONS = (
    "This model's merger (assembler) has no attentions: every base is a tile of the box."
)


class PicturePage(Page):
    """The image with all detections."""

    title = "Picture"

    def missing(self, present: Present) -> str:
        """Nothing: there is always an image."""
        return ""

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """The image with all detections."""
        return partial(figures.found_view, present.model, present.look)

    def rows(self, present: Present) -> Rows:
        """Every object with class, score, box and pixels."""
        return found_rows(present.look.found, present.model.class_names)


class BasesPage(Page):
    """The K bases."""

    title = "Bases"

    def __init__(self) -> None:
        self.style = toggle("show as", {"maps": False, "overlays": True})
        super().__init__(self.style)

    def missing(self, present: Present) -> str:
        """Nothing: bases do not depend on objects."""
        return ""

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Maps with a colour bar, or overlays."""
        style = {"is_overlay": bool(self.style.value)}
        return partial(figures.bases_view, present.model, present.look, **style)


class AttentionsPage(Page):
    """Attentions of the chosen object, or of two objects side by side."""

    title = "Attentions"

    def __init__(self) -> None:
        self.with_second = checkbox("beside a second object")
        self.second = control(widgets.Dropdown, "second", 260, disabled=True)
        super().__init__(self.with_second, self.second)

    def missing(self, present: Present) -> str:
        """No object, or a merger without attentions."""
        if present.model.merger.attention_channels == 0:
            return NO_ATTENTIONS
        return super().missing(present)

    def follow(self, present: Present) -> None:
        """Offer the image's objects as the second one."""
        self.second.disabled = not self.with_second.value
        names = [thing.name for thing in present.look.objects]
        if [name for name, _ in self.second.options] != names:
            offer(self.second, names, min(1, len(names) - 1) if names else None)

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Raw attentions of one object, or score maps of two."""
        model, look = present.model, present.look
        if not self.with_second.value:
            return partial(figures.object_view, model, look, present.chosen)
        return partial(figures.pair_view, model, look, present.chosen, int(self.second.value))


class Figure1Page(Page):
    """The paper's figure 1 of the chosen object."""

    title = "Figure 1"

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Crops, weights, products, mask."""
        return partial(figures.blending_view, present.model, present.look, present.chosen)


class Figure4Page(Page):
    """The paper's figure 4 of the image."""

    title = "Figure 4"

    def missing(self, present: Present) -> str:
        """No detection: true objects are not drawn here."""
        return "" if len(present.look.found) else super().missing(present)

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Bases, weights in their colours, masks."""
        look = present.look
        return partial(figure_4, present.model, look.image, score_threshold=look.least_score**2)


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


class RivalPage(Page):
    """Another checkpoint beside the present one, with its bases matched."""

    title = "Two checkpoints"

    def __init__(self) -> None:
        self.source = model_field("other", 360, "a file, or a published name")
        self.num_images = whole_number("over images", 170, 5, 1, 50)
        self.button = widgets.Button(description="Load and match", icon="exchange")
        self.rival: figures.Rival | None = None
        super().__init__(others=[self.source, self.num_images, self.button])

    def missing(self, present: Present) -> str:
        """No other checkpoint yet."""
        return "" if self.rival else "Name another checkpoint, and press “Load and match”."

    def match(self, present: Present) -> None:
        """Load another checkpoint and match its bases; if that fails, the old one stays.

        Raises:
            OSError, ValueError: no such file, or another number of bases.
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
        self.rival = figures.Rival(name, other, matching, total)

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Partners below each other."""
        assert self.rival is not None
        return partial(figures.rival_view, present.model, present.look, self.rival)

    def rows(self, present: Present) -> Rows:
        """Pairs and their correlations."""
        assert self.rival is not None
        matching = self.rival.matching
        rows = [["base", f"of {self.rival.name}", f"r over {self.rival.num_images} images"]]
        pairs = zip(matching.order.tolist(), matching.correlations.tolist(), strict=True)
        return rows + [[str(k), str(o + 1), f"{r:+.2f}"] for k, (o, r) in enumerate(pairs, 1)]

    def forget(self) -> None:
        """Drop the other checkpoint: its pairs belong to the earlier model."""
        self.rival = None
