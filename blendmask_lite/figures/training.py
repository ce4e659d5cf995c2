"""How a training went: curves of runs, and how masks come into being.

Chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.figures.blending import crop_picture
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    base_color,
    draw_box,
    draw_map,
    draw_picture,
    largest_magnitude,
    object_color,
    one_panel,
    panel_grid,
    panels,
)
from blendmask_lite.masks import crop_masks

__all__ = [
    "curves_figure",
    "film_figure",
    "margin_cells",
    "mask_progress_figure",
    "moment_figure",
    "smooth",
]


COLUMNS = 4
DASHES = ("-", "--", ":", "-.")  # of the first six runs, the next six, ...

Table = Mapping[str, Sequence[float]]


def curves_figure(
    steps: Mapping[str, Table],
    evaluations: Mapping[str, Table],
    *,
    losses: Sequence[str],
    window: int | None = None,
) -> DescribedFigure:
    """One panel a loss, one for the learning rate and one for AP; a colour a run.

    The pale lines are single steps, the strong ones their moving average.

    Args:
        steps: run -> columns "iteration", "learning_rate" and the losses; a run without some of
            them has no line there.
        evaluations: run -> columns "iteration", "mask AP" and "box AP", for the runs that have
            such; percent.
        losses: columns to draw, in this order.
        window: steps of the average; None: a fiftieth of the longest run.

    Raises:
        ValueError: no runs.
    """
    if not steps:
        raise ValueError("steps: no runs to draw")
    longest = max(len(table.get("iteration", ())) for table in steps.values())
    window = max(1, longest // 50) if window is None else window
    names = [*losses, "learning_rate", "AP"]
    figure, grid = panel_grid(
        len(names),
        COLUMNS,
        cell=(3.1, 2.4),
        description=f"Curves of {', '.join(steps)}: {', '.join(names)} over the iterations.",
    )
    axes = dict(zip(names, grid, strict=True))
    for place, (run, table) in enumerate(steps.items()):
        style: dict[str, Any] = {
            "color": PALETTE[place % len(PALETTE)],
            "linestyle": DASHES[place // len(PALETTE) % len(DASHES)],
        }
        for name in losses:
            _draw_loss(axes[name], table, name, window, style)
        _draw(axes["learning_rate"], table, "learning_rate", style)
        scores = evaluations.get(run, {})
        _draw(axes["AP"], scores, "mask AP", {**style, "marker": "o", "markersize": 3})
        pale = {**style, "alpha": 0.5, "marker": "s", "markersize": 3}
        _draw(axes["AP"], scores, "box AP", pale)
        axes[names[0]].plot([], [], label=run, **style)
    for name, ax in axes.items():
        _finish(ax, name)
    axes["AP"].set_ylabel("percent", fontsize=8)
    axes["AP"].set_title("AP: mask strong, box pale", fontsize=9)
    figure.legend(loc="outside upper left", fontsize=8, ncols=min(4, len(steps)), frameon=False)
    average = f"strong: mean over {window} iterations" if window > 1 else "single iterations"
    figure.supxlabel(f"iterations ({average})", fontsize=8)
    return figure


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Moving average over the last `window` values, over fewer at the beginning.

    Values that are not finite are left out; where a window holds none, the result is NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    is_finite = np.isfinite(numbers)
    sums = np.cumsum(np.where(is_finite, numbers, 0.0))
    counts = np.cumsum(is_finite).astype(np.float64)
    for each in (sums, counts):
        each[window:] = each[window:] - each[:-window]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_loss(ax: Axes, table: Table, name: str, window: int, style: dict[str, Any]) -> None:
    if name not in table:
        return
    if window > 1:
        ax.plot(table["iteration"], table[name], color=style["color"], alpha=0.15, linewidth=0.6)
    ax.plot(table["iteration"], smooth(table[name], window), linewidth=1.3, **style)


def _draw(ax: Axes, table: Table, name: str, style: dict[str, Any]) -> None:
    if name in table:
        ax.plot(table["iteration"], table[name], linewidth=1.3, **style)


def _finish(ax: Axes, name: str) -> None:
    ax.set_title(name.replace("_", " "), fontsize=9)
    ax.tick_params(labelsize=7)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(left=0)
    low, high = _limits(ax)
    if low < high:
        ax.set_ylim(low, high)


def _limits(ax: Axes) -> tuple[float, float]:
    """From zero to the largest value, but a single step's peak does not squeeze the rest."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in ax.lines]
    values = np.concatenate([line[np.isfinite(line)] for line in lines]) if lines else np.array([])
    return (0.0, 1.08 * float(np.percentile(values, 99.5))) if len(values) else (0.0, 0.0)


MOST = 4  # bases that are drawn where nobody chose
TRUTH = PALETTE[0]  # the line around a true mask


def moment_figure(
    image: Tensor,
    *,
    box: Tensor,
    true_mask: Tensor,
    bases: Tensor,
    attentions: Tensor,
    mask_probabilities: Tensor,
    stride: int,
    found_masks: Tensor | None = None,
    shown: Sequence[int] | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> DescribedFigure:
    """One object at one moment: picture and bases above, its mask and attentions below.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        box: (4,) of the object, corners, pixels.
        true_mask: (H, W) bool, outlined in its mask.
        bases: (K, h, w) of the picture.
        attentions: (k, m, m) raw, of the object; k = 0 where a merger has none.
        mask_probabilities: (R, R) over the box.
        stride: of the bases, pixels per cell.
        found_masks: (D, H, W) bool, what a detection would give; painted on the picture.
        shown: which bases to draw; None: the first four.
        limits: largest magnitudes of bases and attentions on the colour scales, the same for
            several moments that are to be compared; None: those of this one.
        title: above all.
    """
    columns = list(range(min(MOST, len(bases)))) if shown is None else list(shown)
    figure, axes = panels(
        2,
        len(columns) + 1,
        cell=(2.1, 2.25),
        description=f"{title or 'One object at one moment'}: the picture, {len(columns)} of its "
        "bases, the attentions of one object, and its mask with the true outline.",
        title=title,
    )
    picture = image if found_masks is None else paint_masks(image, found_masks)
    draw_picture(axes[0, 0], picture, title="picture", has_units=False)
    draw_box(axes[0, 0], box.tolist(), color=INK)
    _draw_mask(axes[1, 0], mask_probabilities, box, true_mask)
    base_limit, attention_limit = limits or (
        largest_magnitude(bases),
        largest_magnitude(attentions),
    )
    height, width = image.shape[-2:]
    for ax, index in zip(axes[0, 1:], columns, strict=True):
        draw_map(
            ax,
            bases[index],
            limits=base_limit,
            stride=stride,
            title=f"base {index + 1}, ±{base_limit:.2g}",
            title_color=base_color(index),
        )
        ax.set_xlim(0, width)  # what was padded is not drawn
        ax.set_ylim(height, 0)
        draw_box(ax, box.tolist(), color=INK, width=1.0)
    for ax, index in zip(axes[1, 1:], columns, strict=True):
        if index >= len(attentions):
            ax.set_axis_off()
            continue
        draw_map(
            ax,
            attentions[index],
            limits=attention_limit,
            title=f"attention {index + 1}, ±{attention_limit:.2g}",
            title_color=base_color(index),
        )
    return figure


def film_figure(
    image: Tensor,
    *,
    box: Tensor,
    true_mask: Tensor,
    bases: Mapping[int, Tensor],
    mask_probabilities: Mapping[int, Tensor],
    mask_iou: Mapping[int, float],
    title: str = "",
) -> DescribedFigure:
    """One object at several moments, a column each: its mask, and below the bases inside its box.

    Every moment has its own scale: early bases are faint.

    Args:
        image: (3, H, W) uint8 or float in [0, 1]; the object's part of it begins the first row.
        box: (4,) of the object, corners, pixels.
        true_mask: (H, W) bool, outlined in the masks.
        bases: iteration -> (K, R, R) crops along the box; the first four are drawn.
        mask_probabilities: iteration -> (R, R) over the box.
        mask_iou: iteration -> IoU with the true mask, 0 to 1.
        title: above all.

    Raises:
        ValueError: no moments, or maps of other moments.
    """
    moments = list(mask_probabilities)
    if not moments or list(bases) != moments or list(mask_iou) != moments:
        raise ValueError(
            "bases, mask_probabilities and mask_iou: need the same moments, at least 1"
        )
    num_bases = min(MOST, len(bases[moments[0]]))
    figure, axes = panels(
        num_bases + 1,
        len(moments) + 1,
        cell=(1.35, 1.5),
        description=f"{title or 'One object while the model learns'}: its mask and {num_bases} "
        f"bases after {', '.join(str(each) for each in moments)} iterations.",
    )
    draw_picture(axes[0, 0], crop_picture(image, box), title="picture", has_units=False)
    for row in range(1, num_bases + 1):
        axes[row, 0].set_axis_off()
        axes[row, 0].text(
            0.95, 0.5, f"base {row}", color=base_color(row - 1), fontsize=9, ha="right", va="center"
        )
    for column, moment in enumerate(moments, start=1):
        _draw_mask(axes[0, column], mask_probabilities[moment], box, true_mask)
        axes[0, column].set_title(f"{moment:,}\nIoU {mask_iou[moment]:.2f}", fontsize=8)
        limit = largest_magnitude(bases[moment][:num_bases])
        for row in range(1, num_bases + 1):
            draw_map(axes[row, column], bases[moment][row - 1], limits=limit)
    figure.suptitle(title or "iterations", fontsize=10)
    return figure


def _draw_mask(ax: Axes, probabilities: Tensor, box: Tensor, true_mask: Tensor) -> None:
    """Probabilities in grey, the true outline over them, as wide and high as the box is."""
    resolution = len(probabilities)
    truth = crop_masks(true_mask[None], box[None].float(), resolution)[0]
    drawn = draw_map(
        ax, probabilities, colors="Greys", limits=(0, 1), title="mask, 0 to 1; line: truth"
    )
    cells = np.arange(resolution) + 0.5
    if truth.any() and not truth.all():
        ax.contour(cells, cells, truth.float().numpy(), levels=[0.5], colors=[TRUTH], linewidths=1)
    width, height = (box[2:] - box[:2]).tolist()
    drawn.axes.set_aspect(height / max(width, 1e-6))


MOST_TICKS = 8
MARGIN = 0.07  # share of the figure's width left of the curves


def mask_progress_figure(
    iterations: Sequence[int],
    mask_iou: Tensor,
    *,
    names: Sequence[str],
    chosen: int = 0,
    moment: int | None = None,
    size: tuple[float, float] = (5.6, 1.9),
) -> DescribedFigure:
    """One line an object; the chosen one is strong.

    Args:
        iterations: of the T moments.
        mask_iou: (T, N) with the true masks, 0 to 1; NaN where a moment could not be read.
        names: of the N objects.
        chosen: which object.
        moment: place of a moment to mark, from 0; None marks none.
        size: width and height, inches.

    Raises:
        ValueError: no moments, or numbers that do not fit the moments and names.
    """
    num = len(iterations)
    if num == 0 or tuple(mask_iou.shape) != (num, len(names)):
        raise ValueError(
            f"mask_iou of {tuple(mask_iou.shape)}: expected {num} moments, at least 1, of "
            f"{len(names)} objects"
        )
    figure, ax = one_panel(
        cell=size,
        description=f"IoU of {len(names)} masks with the true ones after {iterations[0]:,} to "
        f"{iterations[-1]:,} iterations; {names[chosen] if names else 'no object'} stands out.",
    )
    figure.set_layout_engine("none")
    left = margin_cells(num) / (num + margin_cells(num))
    ax.set_position((left, 0.24, 1 - left, 0.70))  # a moment is as wide everywhere
    for place in sorted(range(len(names)), key=lambda each: each == chosen):
        is_chosen = place == chosen
        ax.plot(
            range(num),
            mask_iou[:, place].tolist(),
            color=object_color(place),
            linewidth=2.2 if is_chosen else 1.0,
            alpha=1.0 if is_chosen else 0.45,
            marker="o" if is_chosen else "",
            markersize=3.5,
            label=names[place],
        )
    if moment is not None:
        ax.axvspan(moment - 0.5, moment + 0.5, color="#ffe14d", alpha=0.6, linewidth=0)
    ax.set_xlim(-0.5, num - 0.5)
    ax.set_ylim(0, 1.03)
    step = math.ceil(num / MOST_TICKS)
    ticks = sorted({*range(0, num, step), num - 1} - ({num - 2} if step > 1 else set()))
    ax.set_xticks(ticks, [f"{iterations[place]:,}" for place in ticks], fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    for label, where in zip(ax.get_xticklabels(), ticks, strict=True):
        label.set_horizontalalignment("right" if where == num - 1 else "center")
    ax.set_xlabel("iterations", fontsize=7, labelpad=1)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    # The margin has room for numbers only, so the axis' name stands inside.
    whose = f", {names[chosen]}" if names else ""
    text = f"IoU of the mask{whose}" + (f" (pale: the other {len(names) - 1})" if names[1:] else "")
    ax.text(0.01, 0.97, text, transform=ax.transAxes, fontsize=7, va="top", color=INK)
    return figure


def margin_cells(num_moments: int) -> int:
    """How many moments would fit left of the curves: there stand the numbers of the y axis."""
    return max(1, math.ceil(num_moments * MARGIN / (1 - MARGIN)))
