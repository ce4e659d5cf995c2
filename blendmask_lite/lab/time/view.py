"""The time machine's display of a moment of a training: panels, words, and figures."""

from __future__ import annotations

import math

from blendmask_lite.figures.style import (
    PALETTE,
    base_color,
    figure_file,
    object_color,
)
from blendmask_lite.figures.training import margin_cells, mask_progress_figure
from blendmask_lite.lab.canvas import (
    MASK_LAYER,
    SHADES,
    Bar,
    Bars,
    Group,
    Mark,
    Panel,
    as_cells,
    png_panel,
)
from blendmask_lite.lab.time.moments import Moment, TimeReel
from blendmask_lite.terminal import counted

__all__ = [
    "PALETTES",
    "bars",
    "columns",
    "curve_picture",
    "moment_at",
    "moment_mark",
    "object_names",
    "pixels",
    "spoken",
    "words",
]


PICTURE_SIZE, MASK_SIZE = 225, 140  # CSS pixels
CURVE_SIZE = (437, 160)
PLOT_SHARE = 0.76  # share of the panel's height above the axis
MOST_BASES = 16  # only the first bases are drawn
PALETTES = {**SHADES, "mask": MASK_LAYER}


def columns(reel: TimeReel, picture: int, object_index: int, moment: Moment) -> list[list[Group]]:
    """The panels: image, mask and numbers; bases, attentions and the curve."""
    sample = reel.snapshots.samples[picture]
    left = png_panel(
        "picture",
        "The image with the mask at this moment as a green layer and the true outline in white",
        sample.image.shape[-2:],
        PICTURE_SIZE,
        acts=("show box",),
        overlay="mask",
    )
    R = len(moment.mask_probabilities)
    x0, y0, x1, y1 = sample.target.boxes[object_index].tolist()
    box_width, box_height = max(x1 - x0, 1), max(y1 - y0, 1)
    mask = Panel(
        "mask",
        f"The object's mask of {R} by {R} cells, probabilities from 0 (white) to 1 (black)",
        R,
        R,
        title=f"mask, {R} × {R}",
        size=round(MASK_SIZE * min(1, math.sqrt(box_width / box_height))),
        palette="grey",
        is_live=True,
    )
    label = "IoU of the masks with the true ones over the moments. Point at a moment to go there"
    curve = png_panel("curve", label, _curve_cells(reel), CURVE_SIZE[0], acts=("hover",))
    middle = [_row(reel, moment, "base", "Bases B of the image")]
    if len(moment.attentions):
        middle.append(_row(reel, moment, "attention", "Attentions a of the object"))
    middle.append(Group("IoU over time", (curve,), "point at a moment to go there"))
    pair = Group("Image and mask", (left, mask), "mask green, truth white")
    return [[pair, Group("", bars="moment")], middle]


def _curve_cells(reel: TimeReel) -> tuple[int, int]:
    """Height and width of the curves' panel: after the margin, one column per moment."""
    width = margin_cells(len(reel)) + len(reel)
    return max(1, round(width * CURVE_SIZE[1] / CURVE_SIZE[0])), width


def _row(reel: TimeReel, moment: Moment, kind: str, title: str) -> Group:
    maps = moment.bases if kind == "base" else moment.attentions
    num = min(len(maps), MOST_BASES)
    height, width = maps.shape[-2:]
    panels = [
        Panel(
            f"{kind} {k + 1}",
            f"{title}, base {k + 1}: red positive, blue negative",
            width,
            height,
            title=f"base {k + 1}" if kind == "base" else "",
            color=base_color(k),
            size=104 if num <= 4 else 72 if num <= 8 else 56,
            unit=reel.snapshots.stride if kind == "base" else 1,
            palette="signed",
            is_live=True,
            acts=("show box",) if kind == "base" else (),
        )
        for k in range(num)
    ]
    return Group(title, tuple(panels), "red positive, blue negative")


def pixels(moment: Moment, limits: tuple[float, float]) -> dict[str, bytes]:
    """The live panels' cells; `limits` are the largest magnitudes of bases and attentions."""
    cells = {"mask": as_cells(moment.mask_probabilities, 0.0, 1.0)}
    for kind, maps, limit in (
        ("base", moment.bases, limits[0]),
        ("attention", moment.attentions, limits[1]),
    ):
        for k, values in enumerate(maps[:MOST_BASES], start=1):
            cells[f"{kind} {k}"] = as_cells(values, -limit, limit)
    return cells


def curve_picture(reel: TimeReel, picture: int, object_index: int) -> bytes:
    """The curves as a PNG of twice the displayed resolution."""
    figure = mask_progress_figure(
        reel.iterations,
        reel.curves(picture),
        names=object_names(reel, picture),
        chosen=object_index,
        size=(CURVE_SIZE[0] / 100, CURVE_SIZE[1] / 100),
    )
    return figure_file(figure, ".png", dpi=200)


def moment_mark(reel: TimeReel, index: int) -> Mark:
    """A mark on the curves for the current moment."""
    return Mark(margin_cells(len(reel)) + index, 0, 1, PLOT_SHARE * _curve_cells(reel)[0])


def moment_at(reel: TimeReel, column: int) -> int:
    """Index of the moment at a column of the curves' panel; left of all moments, the first."""
    return max(0, column - margin_cells(len(reel)))


def bars(reel: TimeReel, picture: int, object_index: int, moment: Moment) -> Bars:
    """IoU and score at one moment, and the best IoU over all moments."""
    best = reel.curves(picture)[:, object_index].nan_to_num(0.0).max()
    color = object_color(object_index)
    rows = (
        ("IoU now", moment.mask_iou, color),
        ("best IoU", float(best), "#999999"),
        ("score", moment.score, PALETTE[4]),
    )
    found = counted(moment.num_found, "detection") if moment.num_found else "no detections"
    return Bars(
        f"After {moment.iteration:,} iterations; {found} in the whole image.",
        tuple(Bar(label, value, f"{value:.2f}", shade) for label, value, shade in rows),
    )


def object_names(reel: TimeReel, picture: int) -> list[str]:
    """Class and number of every true object, in the order of the snapshots."""
    labels = reel.snapshots.samples[picture].target.labels.tolist()
    names = reel.snapshots.class_names
    return [f"{place + 1}: {names[label]}" for place, label in enumerate(labels)]


def words(reel: TimeReel, index: int) -> str:
    """The position of the moment in the training, in words."""
    done, total = reel.iterations[index], reel.iterations[-1]
    return f"after {done:,} of {total:,} iterations · moment {index + 1} of {len(reel)}"


def spoken(moment: Moment) -> str:
    """The words of a screen reader after a change."""
    return f"after {moment.iteration:,} iterations; IoU {moment.mask_iou:.2f}"
