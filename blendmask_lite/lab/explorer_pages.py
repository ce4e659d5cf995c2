"""The explorer's pages about one picture.

Chapter: the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets as widgets

from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab import explorer_figures as figures
from blendmask_lite.lab.explorer_page import Page, Present, Rows, toggle
from blendmask_lite.structures import Detections

__all__ = [
    "AttentionsPage",
    "BasesPage",
    "Figure1Page",
    "Figure4Page",
    "PicturePage",
]

NO_ATTENTIONS = (
    "This model's merger (assembler) has no attentions: every base is a tile of the box."
)


class PicturePage(Page):
    """What was found."""

    title = "Picture"

    def missing(self, present: Present) -> str:
        """Nothing: the picture is always there."""
        return ""

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """The picture with all that was found."""
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
        is_overlay = bool(self.style.value)
        return partial(figures.bases_view, present.model, present.look, is_overlay=is_overlay)


class AttentionsPage(Page):
    """Attentions of the chosen object, or of two objects side by side."""

    title = "Attentions"

    def __init__(self) -> None:
        self.with_second = widgets.Checkbox(
            False, description="beside a second object", indent=False, layout={"width": "auto"}
        )
        self.second = widgets.Dropdown(
            description="second", disabled=True, layout={"width": "260px"}
        )
        super().__init__(self.with_second, self.second)

    def missing(self, present: Present) -> str:
        """No object, or a merger without attentions."""
        if present.model.config.merger == "assembler":
            return NO_ATTENTIONS
        return super().missing(present)

    def follow(self, present: Present) -> None:
        """Offer the picture's objects as the second one."""
        self.second.disabled = not self.with_second.value
        names = [each.name for each in present.look.objects]
        if [name for name, _ in self.second.options] != names:
            self.second.options = [(name, index) for index, name in enumerate(names)]
            self.second.value = min(1, len(names) - 1) if names else None

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
    """The paper's figure 4 of the picture."""

    title = "Figure 4"

    def missing(self, present: Present) -> str:
        """No object found: true ones are not drawn here."""
        return "" if len(present.look.found) else super().missing(present)

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Bases, weights in their colours, masks."""
        return partial(figures.figure_4_view, present.model, present.look)


def found_rows(found: Detections, class_names: tuple[str, ...]) -> Rows:
    """A table of what was found."""
    if len(found) == 0:
        return [["No object was found above the least score."]]
    rows = [["object", "class", "score", "box: left, top, right, bottom", "mask, pixels"]]
    for number, label in enumerate(found.labels.tolist()):
        box = ", ".join(f"{side:.0f}" for side in found.boxes[number].tolist())
        score, pixels = float(found.scores[number]), int(found.masks[number].sum())
        rows.append([str(number + 1), class_names[label], f"{score:.2f}", box, str(pixels)])
    return rows
