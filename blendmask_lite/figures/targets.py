"""The location and level that learn each object, and the effect of FCOS's rules.

Chapter 03.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.lines import Line2D
from torch import Tensor

from blendmask_lite.figures.detections import paint_boxes
from blendmask_lite.figures.research import cost_bars_figure
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    color_tensor,
    draw_box,
    draw_box_name,
    draw_map,
    draw_picture,
    legend_below,
    object_color,
    one_panel,
    pale,
    panel_grid,
    panels,
    picture_cell,
)

__all__ = [
    "ambiguity_figure",
    "boxes_figure",
    "claims_figure",
    "paint_locations",
    "sides_figure",
    "targets_figure",
]

COLUMNS = 3
BACKGROUND = "#8a8a8a"  # dots that learn no object
AMBIGUOUS = INK  # rim of dots that several objects claim


def targets_figure(
    image: Tensor,
    *,
    boxes: Tensor,
    names: Sequence[str],
    owners: Sequence[Tensor],
    ambiguous: Sequence[Tensor],
    strides: Sequence[int],
    level_names: Sequence[str],
) -> DescribedFigure:
    """The assignment of locations to the objects of one picture.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (N, 4) corners of the true objects, pixels.
        names: names of the objects.
        owners: (h, w) int64 for every level: index of the object each location learns, -1 for none.
        ambiguous: (h, w) bool for every level: whether several objects claim the location.
        strides: stride of every level, pixels.
        level_names: name of every level.
    """
    num = len(owners)
    height, width = image.shape[-2:]
    counts = [int((owner >= 0).sum()) for owner in owners]
    told = ", ".join(f"{name} {count}" for name, count in zip(level_names, counts, strict=True))
    figure, axes = panel_grid(
        num,
        COLUMNS,
        cell=picture_cell(image, 2.5, title=0.35),
        description=f"Locations that learn one of {len(names)} objects, by level: {told}.",
    )
    for ax, owner, several, stride, name, count in zip(
        axes, owners, ambiguous, strides, level_names, counts, strict=True
    ):
        draw_picture(ax, pale(image), title=f"{name}, stride {stride}: {count}", has_units=False)
        for index, box in enumerate(boxes.tolist()):
            draw_box(ax, box, color=object_color(index), width=1.0)
        rows, lines = torch.meshgrid(*(torch.arange(side) for side in owner.shape), indexing="ij")
        x, y = lines * stride + stride // 2, rows * stride + stride // 2
        unit = 2.5 * 72 / width * stride  # points between two locations
        free, taken = owner < 0, owner >= 0
        ax.scatter(x[free], y[free], s=max(0.5, (0.1 * unit) ** 2), color=BACKGROUND, linewidths=0)
        ax.scatter(
            x[taken],
            y[taken],
            s=min(60.0, max(2.0, (0.5 * unit) ** 2)),
            color=[object_color(index) for index in owner[taken].tolist()],
            edgecolors=[AMBIGUOUS if is_rim else "none" for is_rim in several[taken].tolist()],
            linewidths=1.0,
        )
        ax.axis((0, width, height, 0))
    handles = [
        Line2D([], [], marker="o", linestyle="", color=object_color(index), label=name)
        for index, name in enumerate(names)
    ]
    if any(bool(level.any()) for level in ambiguous):
        claimed = Line2D([], [], marker="o", linestyle="", label="claimed by several")
        claimed.set(markerfacecolor="none", markeredgecolor=AMBIGUOUS)
        handles.append(claimed)
    if handles:
        legend_below(figure, columns=4, size=7, handles=handles)
    return figure


def paint_locations(
    image: Tensor, *, boxes: Tensor, owner: Tensor, ambiguous: Tensor, stride: int, scale: int = 1
) -> Tensor:
    """One level of the assignment as a picture, for screens.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (N, 4) corners of the true objects, pixels.
        owner: (h, w) int64: index of the object that each location learns, -1 for none.
        ambiguous: (h, w) bool: whether several objects claim the location.
        stride: stride of the level, pixels.
        scale: pixels of the result per pixel of the image.

    Returns:
        (3, h * stride * scale, w * stride * scale) float in [0, 1]; padding is white.
    """
    h, w = owner.shape
    cell = stride * scale
    names = [object_color(index) for index in range(len(boxes))]
    outlines = [(box, name, scale) for box, name in zip(boxes, names, strict=True)]
    part = paint_boxes(image, outlines, scale=scale)[:, : h * cell, : w * cell]
    painted = torch.ones(3, h * cell, w * cell)
    painted[:, : part.shape[1], : part.shape[2]] = part / 255
    colors = torch.stack([color_tensor(name)[:, 0, 0] for name in (BACKGROUND, *names)])
    of_cell = colors[owner + 1].permute(2, 0, 1)  # (3, h, w)
    for reach, color, shown in (
        (0.08, of_cell, owner < 0),
        (0.34, color_tensor(AMBIGUOUS).expand_as(of_cell), ambiguous),
        (0.26, of_cell, owner >= 0),
    ):
        dots = _dots(cell, stride // 2 * scale, max(1, round(reach * cell))).repeat(h, w)
        painted = torch.where(dots & _enlarged(shown, cell), _enlarged(color, cell), painted)
    return painted


def _enlarged(values: Tensor, times: int) -> Tensor:
    """(..., h, w) -> (..., h * times, w * times)."""
    return values.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def _dots(cell: int, middle: int, reach: int) -> Tensor:
    """(cell, cell) bool: a square around the middle."""
    offset = torch.arange(cell) - middle
    is_near = (offset >= -reach) & (offset < reach)
    return is_near[:, None] & is_near


SIDES = ("l", "t", "r", "b")
WAYS = ((-1, 0), (0, -1), (1, 0), (0, 1))  # directions of the four sides, as (x, y)
ARROW = {"arrowstyle": "->", "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
MOST_CLAIMS = 3  # numbers of claims up to this one have colours of their own
CLAIM_COLORS = ("#e8e8e8", "#56b4e9", "#e69f00", "#d55e00")  # none, one, two, and three or more


def boxes_figure(
    image: Tensor, *, boxes: Tensor, names: Sequence[str], title: str = ""
) -> DescribedFigure:
    """The true boxes on the picture, each in its object's colour.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (N, 4) corners, pixels.
        names: names of the objects.
        title: text above the picture.
    """
    figure, ax = one_panel(
        cell=picture_cell(image, 5.0, title=0),
        description=f"A picture with {len(names)} boxes: {', '.join(names) or 'none'}.",
    )
    draw_picture(ax, image, title=title)
    for index, (box, name) in enumerate(zip(boxes.tolist(), names, strict=True)):
        color = object_color(index)
        draw_box(ax, box, color=color, width=2.0)
        draw_box_name(ax, box, name, color=color)
    return figure


def sides_figure(
    image: Tensor, *, location: Tensor, boxes: Tensor, ltrb: Tensor, names: Mapping[int, str]
) -> DescribedFigure:
    """One location and one box in every panel, with the four distances as arrows.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        location: (2,) as (x, y), pixels.
        boxes: (N, 4) corners of all objects, pixels.
        ltrb: (N, 4) distances from the location, pixels; negative ones point out of the box.
        names: names by object index; only these objects get a panel.
    """
    told = "; ".join(
        f"{name}: " + ", ".join(f"{s} {v:.0f}" for s, v in zip(SIDES, row.tolist(), strict=True))
        for name, row in zip(names.values(), ltrb[list(names)], strict=True)
    )
    hull = torch.cat([boxes[list(names)].view(-1, 2), location[None]])
    room = torch.tensor([44.0, 20.0])  # the numbers need this room: they are wider than high
    left, top = (hull.amin(dim=0) - room).tolist()
    right, bottom = (hull.amax(dim=0) + room).tolist()
    figure, axes = panels(
        1,
        len(names),
        cell=(2.9, 2.9 * (bottom - top) / (right - left) + 0.4),
        description=f"Distances from a location to the sides of a box, in pixels. {told}.",
    )
    x, y = location.tolist()
    for ax, (index, name) in zip(axes.flat, names.items(), strict=True):
        draw_picture(ax, pale(image), title=name)
        draw_box(ax, boxes[index].tolist(), color=object_color(index))
        for side, value, (right_way, down) in zip(SIDES, ltrb[index].tolist(), WAYS, strict=True):
            end = x + value * right_way, y + value * down
            color, beyond = (object_color(index), 1) if value > 0 else (PALETTE[0], -1)
            ax.annotate("", end, (x, y), arrowprops={**ARROW, "color": color})
            ax.annotate(
                f"{side} = {value:.0f}",
                end,
                xytext=(18 * right_way * beyond, -9 * down * beyond),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
            )
        ax.plot(x, y, marker="o", markersize=5, color=INK)
        ax.axis((left, right, bottom, top))
    return figure


def claims_figure(
    claims: Mapping[str, Sequence[Tensor]], *, strides: Sequence[int], level_names: Sequence[str]
) -> DescribedFigure:
    """Number of objects that claim each location: one row per rule, one column per level.

    Args:
        claims: (h, w) counts for every level, by rule; at least one rule.
        strides: stride of every level, pixels.
        level_names: name of every level.
    """
    told = [
        f"{rule}: {sum(int((level > 1).sum()) for level in levels)} locations claimed by several"
        for rule, levels in claims.items()
    ]
    figure, axes = panels(
        len(claims), len(strides), cell=(2.2, 2.15), description=f"{'; '.join(told)}."
    )
    colors = ListedColormap(CLAIM_COLORS)
    for row, (rule, levels) in zip(axes, claims.items(), strict=True):
        for ax, level, stride, name in zip(row, levels, strides, level_names, strict=True):
            several = int((level > 1).sum())
            draw_map(
                ax,
                level.clamp(max=MOST_CLAIMS),
                colors=colors,
                limits=(-0.5, MOST_CLAIMS + 0.5),
                stride=stride,
                unit="pixels",
                title=f"{name}: {several} by several",
            )
        row[0].set_ylabel(f"{rule}\ny, pixels", fontsize=8)
    _claims_bar(figure, axes.ravel().tolist(), colors)
    return figure


def ambiguity_figure(rules: Mapping[str, tuple[float, float]]) -> DescribedFigure:
    """Two bar charts: locations of a picture that learn an object, and how many are ambiguous.

    Args:
        rules: rule -> the number of locations that learn an object, and the share of them (0 to 1)
            that several objects claim.
    """
    measures = {
        "locations a picture": {rule: number for rule, (number, _) in rules.items()},
        "% claimed by several objects": {rule: 100 * share for rule, (_, share) in rules.items()},
    }
    return cost_bars_figure(measures, title="Locations that learn an object")


def _claims_bar(figure: DescribedFigure, axes: list[Axes], colors: Colormap) -> None:
    edges = BoundaryNorm([value - 0.5 for value in range(MOST_CLAIMS + 2)], MOST_CLAIMS + 1)
    bar = figure.colorbar(ScalarMappable(edges, colors), ax=axes, fraction=0.03, aspect=20)
    names = [*map(str, range(MOST_CLAIMS)), f"{MOST_CLAIMS} or more"]
    bar.set_ticks(range(MOST_CLAIMS + 1), labels=names, fontsize=7)
    bar.set_label("objects that claim a location", fontsize=8)
