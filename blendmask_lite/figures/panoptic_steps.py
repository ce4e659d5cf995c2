"""The segments of one picture in several versions, side by side.

Chapter 14 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, draw_picture, panels
from blendmask_lite.figures.panoptic import paint_segments
from blendmask_lite.structures import PanopticResult

__all__ = ["panoptic_steps_figure"]


def panoptic_steps_figure(
    image: Tensor, results: Mapping[str, PanopticResult], *, size: float = 2.2
) -> DescribedFigure:
    """The picture, and each result over it, without names.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        results: by title, of that image at its size.
        size: width of a panel, inches.

    Raises:
        ValueError: a result belongs to an image of another size.
    """
    told = "; ".join(f"{name}: {len(each.segments)} segments" for name, each in results.items())
    height, width = image.shape[-2:]
    figure, axes = panels(
        1,
        1 + len(results),
        cell=(size, size * height / width + 0.2),
        description=f"A picture and its segments. {told}.",
    )
    draw_picture(axes[0, 0], image, title="picture")
    for ax, (name, result) in zip(axes[0, 1:], results.items(), strict=True):
        draw_picture(ax, paint_segments(image, result), title=name)
    return figure
