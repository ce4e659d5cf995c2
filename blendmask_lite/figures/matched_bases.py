"""Two checkpoints side by side: each base above its partner in the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_map,
    draw_picture,
    largest_magnitude,
    panels,
)
from blendmask_lite.figures.palette import INK, SIGNED, base_color

__all__ = ["matched_bases_figure"]

MOST = 8


def matched_bases_figure(
    image: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    order: Tensor,
    correlations: Tensor,
    names: Sequence[str] = ("first", "second"),
) -> DescribedFigure:
    """The bases of two models for one picture, partners below each other.

    Args:
        image: (3, H, W).
        first: (K, h, w) without padding; the eight with the best partners are drawn.
        second: (K, h, w) of the other model.
        order: (K,) int64, base k of the first belongs to base `order[k]` of the second.
        correlations: (K,) of the partners, -1 to 1.
        names: of the models.
    """
    shown = correlations.argsort(descending=True, stable=True)[:MOST].sort().values.tolist()
    partners = order.tolist()
    told = "; ".join(f"{k + 1} and {partners[k] + 1}: {float(correlations[k]):.2f}" for k in shown)
    height, width = image.shape[-2:]
    figure, axes = panels(
        2,
        len(shown) + 1,
        cell=(1.6, 1.6 * height / width + 0.3),
        description=f"Bases of {names[0]} above their partners of {names[1]}; correlations of "
        f"base {told}.",
    )
    draw_picture(axes[0, 0], image, title="picture", has_units=False)
    axes[1, 0].set_axis_off()
    limits = [largest_magnitude(bases) for bases in (first, second)]
    axes[1, 0].text(
        0.5,
        0.5,
        f"r: correlation\nover all cells\n{names[0]}: ±{limits[0]:.3g}\n"
        f"{names[1]}: ±{limits[1]:.3g}",
        ha="center",
        va="center",
        fontsize=7,
        color=INK,
        transform=axes[1, 0].transAxes,
    )
    for column, k in enumerate(shown, start=1):
        partner = partners[k]
        note = f", r = {float(correlations[k]):.2f}"
        pairs = ((first[k], f"base {k + 1}"), (second[partner], f"base {partner + 1}{note}"))
        for row, (base, name) in enumerate(pairs):
            draw_map(
                axes[row, column],
                base,
                colors=SIGNED,
                limits=(-limits[row], limits[row]),
                title=name,
                title_color=base_color(k),  # of the pair: its place in the second is arbitrary
            )
    for row in range(2):
        axes[row, 1].set_ylabel(names[row], fontsize=8)
    return figure
