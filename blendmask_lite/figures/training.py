"""The course of a training run: curves of runs, and how masks come into being.

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
    draw_base,
    draw_box,
    draw_map,
    draw_outline,
    draw_picture,
    draw_text,
    finish_plot,
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
DASHES = ("-", "--", ":", "-.")  # line styles of the first six runs, of the next six, ...

Table = Mapping[str, Sequence[float]]


def curves_figure(
    steps: Mapping[str, Table],
    evaluations: Mapping[str, Table],
    *,
    names: Sequence[str],
    columns: int = COLUMNS,
) -> DescribedFigure:
    """Losses, learning rate and AP, a panel each; one colour per run.

    The pale lines are single steps, the strong ones means over a fiftieth of the longest run.

    Args:
        steps: run -> columns "iteration", "learning_rate" and the losses; a run without some of
            them has no line there.
        evaluations: run -> columns "iteration", "mask AP" and "box AP" in percent, for the runs
            that have evaluations.
        names: the panels in their order: losses, "learning_rate", "AP".
        columns: largest number of panels side by side.

    Raises:
        ValueError: no runs.
    """
    if not steps:
        raise ValueError("steps: no runs to draw")
    longest = max(len(table.get("iteration", ())) for table in steps.values())
    window = max(1, longest // 50)
    figure, grid = panel_grid(
        len(names),
        columns,
        cell=(3.1, 2.4),
        description=f"Curves of {', '.join(steps)}: {', '.join(names)} over the iterations.",
    )
    axes = dict(zip(names, grid, strict=True))
    for place, (run, table) in enumerate(steps.items()):
        style: dict[str, Any] = {
            "color": PALETTE[place % len(PALETTE)],
            "linestyle": DASHES[place // len(PALETTE) % len(DASHES)],
        }
        for name, ax in axes.items():
            if name == "AP":
                scores = evaluations.get(run, {})
                _draw(ax, scores, "mask AP", **style, marker="o", markersize=3)
                _draw(ax, scores, "box AP", **style, marker="s", markersize=3, alpha=0.5)
            elif name == "learning_rate":
                _draw(ax, table, name, **style)
            else:
                if window > 1 and name in table:
                    pale = {"color": style["color"], "alpha": 0.15, "linewidth": 0.6}
                    ax.plot(table["iteration"], table[name], **pale)
                _draw(ax, table, name, window=window, **style)
        axes[names[0]].plot([], [], label=run, **style)
    for name, ax in axes.items():
        _finish(ax, name)
    if "AP" in axes:
        axes["AP"].set_ylabel("percent", fontsize=8)
        axes["AP"].set_title("AP: mask strong, box pale", fontsize=9)
    figure.legend(loc="outside upper left", fontsize=8, ncols=min(4, len(steps)), frameon=False)
    average = f"strong: mean over {window} iterations" if window > 1 else "single iterations"
    figure.supxlabel(f"iterations ({average})", fontsize=8)
    return figure


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Moving average over the last `window` values, over fewer at the beginning.

    Values that are not finite are left out; the mean of none is NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    is_finite = np.isfinite(numbers)
    sums = np.cumsum(np.where(is_finite, numbers, 0.0))
    counts = np.cumsum(is_finite).astype(np.float64)
    for running in (sums, counts):
        running[window:] = running[window:] - running[:-window]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw(ax: Axes, table: Table, name: str, *, window: int = 0, **style: Any) -> None:
    if name in table:
        values = smooth(table[name], window) if window else table[name]
        ax.plot(table["iteration"], values, linewidth=1.3, **style)


def _finish(ax: Axes, name: str) -> None:
    """Numbers and grid; from zero to the largest value, ignoring peaks of single steps."""
    finish_plot(ax, title=name.replace("_", " "), ticks=7)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_xlim(left=0)
    values = np.concatenate([[], *(np.asarray(line.get_ydata(), float) for line in ax.lines)])
    values = values[np.isfinite(values)]
    if len(values) and np.percentile(values, 99.5) > 0:
        ax.set_ylim(0, 1.08 * float(np.percentile(values, 99.5)))


MOST = 4  # number of bases drawn by default
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
        box: (4,) corners of the object's box, pixels.
        true_mask: (H, W) bool, outlined in its mask.
        bases: (K, h, w) of the picture.
        attentions: (k, m, m) raw attentions of the object; k = 0 if the merger has none.
        mask_probabilities: (R, R) over the box.
        stride: pixels per cell of the bases.
        found_masks: (D, H, W) bool, the masks that the model finds, painted on the picture.
        shown: indices of the bases to draw; None: the first four.
        limits: largest magnitudes of bases and attentions on the colour scales, which should be the
            same for moments that are to be compared; None: the largest magnitudes of this moment.
        title: text above all panels.
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
    base_limit, attention_limit = limits or map(largest_magnitude, (bases, attentions))
    height, width = image.shape[-2:]
    for ax, index in zip(axes[0, 1:], columns, strict=True):
        note = f", ±{base_limit:.2g}"
        draw_base(ax, bases[index], index, note=note, limits=base_limit, stride=stride)
        ax.axis((0, width, height, 0))  # the padding is not drawn
        draw_box(ax, box.tolist(), color=INK, width=1.0)
    for ax, index in zip(axes[1, 1:], columns, strict=True):
        if index >= len(attentions):
            ax.set_axis_off()
            continue
        note = f", ±{attention_limit:.2g}"
        draw_base(ax, attentions[index], index, name="attention", note=note, limits=attention_limit)
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
    """One object, one column per moment: its mask, and below the bases inside its box.

    Every moment has its own scale, because early bases are faint.

    Args:
        image: (3, H, W) uint8 or float in [0, 1]; the object's part of it starts the first row.
        box: (4,) corners of the object's box, pixels.
        true_mask: (H, W) bool, outlined in the masks.
        bases: iteration -> (K, R, R) crops along the box; the first four are drawn.
        mask_probabilities: iteration -> (R, R) over the box.
        mask_iou: iteration -> IoU with the true mask, 0 to 1.
        title: text above all panels.

    Raises:
        ValueError: no moments, or maps for other moments.
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
        f"bases after {', '.join(map(str, moments))} iterations.",
    )
    draw_picture(axes[0, 0], crop_picture(image, box), title="picture", has_units=False)
    for row in range(1, num_bases + 1):
        axes[row, 0].set_axis_off()
        color = base_color(row - 1)
        draw_text(axes[row, 0], 0.95, 0.5, f"base {row}", size=9, color=color, ha="right")
    for column, moment in enumerate(moments, start=1):
        _draw_mask(axes[0, column], mask_probabilities[moment], box, true_mask)
        axes[0, column].set_title(f"{moment:,}\nIoU {mask_iou[moment]:.2f}", fontsize=8)
        limit = largest_magnitude(bases[moment][:num_bases])
        for row in range(1, num_bases + 1):
            draw_map(axes[row, column], bases[moment][row - 1], limits=limit)
    figure.suptitle(title or "iterations", fontsize=10)
    return figure


def _draw_mask(ax: Axes, probabilities: Tensor, box: Tensor, true_mask: Tensor) -> None:
    """Probabilities in grey, with the true outline over them, in the shape of the box."""
    truth = crop_masks(true_mask[None], box[None].float(), len(probabilities))[0]
    drawn = draw_map(
        ax, probabilities, colors="Greys", limits=(0, 1), title="mask, 0 to 1; line: truth"
    )
    draw_outline(ax, truth, TRUTH)
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
    size: tuple[float, float] = (5.6, 1.9),
) -> DescribedFigure:
    """Mask IoU over the iterations, one line per object; the line of the chosen object is strong.

    Args:
        iterations: iterations of the T moments.
        mask_iou: (T, N) IoU with the true masks, 0 to 1; NaN if a moment could not be read.
        names: names of the N objects.
        chosen: index of the chosen object.
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
    ax.set_position((left, 0.24, 1 - left, 0.70))  # a moment is equally wide everywhere
    strong: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 3.5}
    for place in sorted(range(len(names)), key=lambda place: place == chosen):
        style = strong if place == chosen else {"linewidth": 1.0, "alpha": 0.45}
        values = mask_iou[:, place].tolist()
        ax.plot(range(num), values, color=object_color(place), label=names[place], **style)
    ax.set_xlim(-0.5, num - 0.5)
    ax.set_ylim(0, 1.03)
    step = math.ceil(num / MOST_TICKS)
    ticks = sorted({*range(0, num, step), num - 1} - ({num - 2} if step > 1 else set()))
    finish_plot(ax, ticks=7)
    ax.set_xticks(ticks, [f"{iterations[place]:,}" for place in ticks])
    for label, where in zip(ax.get_xticklabels(), ticks, strict=True):
        label.set_horizontalalignment("right" if where == num - 1 else "center")
    ax.set_xlabel("iterations", fontsize=7, labelpad=1)
    ax.grid(color="#dddddd", linewidth=0.6)
    # The margin has room only for numbers, so the axis's name goes inside.
    whose = f", {names[chosen]}" if names else ""
    text = f"IoU of the mask{whose}" + (f" (pale: the other {len(names) - 1})" if names[1:] else "")
    ax.text(0.01, 0.97, text, transform=ax.transAxes, fontsize=7, va="top", color=INK)
    return figure


def margin_cells(num_moments: int) -> int:
    """Number of moments that would fit left of the curves, where the y axis has its numbers."""
    return max(1, math.ceil(num_moments * MARGIN / (1 - MARGIN)))
