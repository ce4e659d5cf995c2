"""Images side by side: what was found, hard objects in rows, and one change to many masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.coco_format import decode_masks
from blendmask_lite.evaluation.mistakes import (
    FOUND,
    IGNORED,
    MISSED,
    RIGHT,
    ComparedObject,
    ImageComparison,
)
from blendmask_lite.figures.detections import paint_changes, paint_masks
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    as_float,
    color_tensor,
    draw_name,
    draw_outline,
    draw_picture,
    draw_text,
    panel_grid,
    panels,
    picture_cell,
)
from blendmask_lite.masks import mask_boxes, mask_iou
from blendmask_lite.terminal import counted

__all__ = ["gallery_figure", "hard_cases_figure", "masks_by_method_figure", "specimens_figure"]

GOOD, BAD, LOST, GREY = PALETTE[1], PALETTE[0], PALETTE[2], "#888888"
COLORS = {RIGHT: GOOD, FOUND: GOOD, MISSED: LOST, IGNORED: GREY}
MAX_LETTERS = 28  # longest name of an image in a panel's title
MAX_CAPTIONS = 12  # captions per picture: mistakes first, then large objects
FONT_SIZE = 5.5  # font size of the captions, points
PANEL = 3.0  # width of one picture, inches
MAX_RATIO = 1.5  # largest ratio of height to width of a panel
PIXELS = 480  # longer side of a picture as shown


def gallery_figure(
    comparisons: Sequence[ImageComparison],
    load_image: Callable[[int], Tensor],
    class_names: Mapping[int, str],
    *,
    score_threshold: float,
    image_names: Mapping[int, str] | None = None,
    title: str = "",
) -> DescribedFigure:
    """Detections on the left, true objects on the right, two images per row.

    Blue is right, red a mistake, yellow was missed, grey does not count. Names that would cover
    others are left out, names of mistakes last.

    Args:
        comparisons: the comparisons of the images to show.
        load_image: returns the picture for an image id, (3, H, W), at the size of the masks.
        class_names: names of the classes by category id.
        score_threshold: lowest score of the detections.
        image_names: names by image id; an image without one is named by its id.
        title: text above the figure.
    """
    image_names = image_names or {}
    columns = 4 if len(comparisons) > 1 else 2
    rows = max(1, math.ceil(2 * len(comparisons) / columns))
    heights = _row_heights([compared.size for compared in comparisons], columns // 2)
    names = [image_names.get(one.image_id, f"image {one.image_id}") for one in comparisons]
    told = "; ".join(
        f"{name}: {_summary(one)}" for name, one in zip(names, comparisons, strict=True)
    )
    figure, axes = panels(
        rows,
        columns,
        cell=(PANEL, sum(heights) / rows),
        description=f"{title or 'Images'}, detections beside true objects. {told or 'None.'}",
    )
    figure.set_layout_engine("constrained", h_pad=0.08)
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    for ax in axes.flat:
        ax.set_axis_off()
        ax.set_anchor("N")
    for place, one in enumerate(comparisons):
        left, right = axes.flat[2 * place], axes.flat[2 * place + 1]
        image = load_image(one.image_id)
        score = "-" if math.isnan(one.score) else f"{one.score:.0f}"
        caption = f"{_shortened(names[place])}: score {score}\nfound"
        _draw(left, image, one.found, one.size, class_names, caption)
        _draw(right, image, one.true, one.size, class_names, f"{_summary(one)}\ntrue")
    key = (
        "blue: right   red: mistake   yellow: missed   grey: does not count\n"
        f"detections with a score of at least {score_threshold:g}; "
        "score of an image: mean IoU of its matches times their F1 score, %"
    )
    figure.suptitle(f"{title}\n{key}" if title else key, fontsize=9)
    return figure


def _draw(
    ax: Axes,
    image: Tensor,
    objects: Sequence[ComparedObject],
    size: tuple[int, int],
    class_names: Mapping[int, str],
    title: str,
) -> None:
    image, masks = _shown(image, objects, size)
    size = (image.shape[1], image.shape[2])
    # Mistakes on top, small objects above large ones.
    areas = masks.flatten(1).sum(dim=1).tolist()
    order = sorted(range(len(objects)), key=lambda i: (_is_fine(objects[i]), areas[i]))
    masks = masks[order]
    kinds = [COLORS.get(objects[i].outcome, BAD) for i in order]
    draw_picture(ax, paint_masks(image, masks, kinds), title=title, has_units=False)
    ax.title.set_parse_math(False)  # a file's name may have dollar signs
    named = sorted(range(len(order)), key=lambda i: (_is_fine(objects[order[i]]), -areas[order[i]]))
    boxes, taken = mask_boxes(masks).tolist(), Captions(size)
    for place in named[:MAX_CAPTIONS]:
        text = _caption(objects[order[place]], class_names)
        spot = taken.find(text, boxes[place])
        if spot is not None:
            settings: dict[str, Any] = {"ha": "center", "va": "center", "bbox": {"pad": 0.6}}
            draw_name(ax, *spot, text, color=kinds[place], size=FONT_SIZE, **settings)


class Captions:
    """Finds places for names in a picture so that they do not cover each other.

    Args:
        size: (H, W) of the picture, pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.height, self.width = size
        points = self.width / (72 * PANEL)  # pixels per point of text
        self.line, self.letter = 1.45 * FONT_SIZE * points, 0.6 * FONT_SIZE * points
        self.taken: list[tuple[float, float, float]] = []

    def find(self, text: str, box: Sequence[float]) -> tuple[float, float] | None:
        """The middle (x, y) of a text, at the top of a box or lower; None if there is no room."""
        x0, y0, x1, y1 = box
        half = self.letter * len(text) / 2
        x = min(max((x0 + x1) / 2, half), max(self.width - half, half))
        y = max(y0, self.line / 2)
        while y <= min(max(y1, y0 + 4 * self.line), self.height - self.line / 2):
            if all(
                abs(y - other_y) >= self.line or abs(x - other_x) >= half + other_half
                for other_x, other_y, other_half in self.taken
            ):
                self.taken.append((x, y, half))
                return x, y
            y += self.line / 2
        return None


def _shown(
    image: Tensor, objects: Sequence[ComparedObject], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Picture and masks as large as a panel can show them; one full mask is in memory at a time."""
    scale = min(1.0, PIXELS / max(size))
    shown = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    masks = torch.zeros(len(objects), *shown, dtype=torch.bool)
    for place, compared in enumerate(objects):
        mask = decode_masks([compared.segmentation], size)
        masks[place] = F.interpolate(mask[None].float(), size=shown, mode="nearest")[0, 0] > 0
    return F.interpolate(as_float(image)[None], size=shown, mode="area")[0], masks


def _shortened(name: str) -> str:
    """The name with its middle left out if it is too long for a panel's title."""
    half = MAX_LETTERS // 2
    return name if len(name) <= MAX_LETTERS else f"{name[:half]}…{name[-half:]}"


def _row_heights(sizes: Sequence[tuple[int, int]], per_row: int) -> list[float]:
    """Height of each row in inches: its tallest picture plus the titles."""
    ratios = [min(height / width, MAX_RATIO) for height, width in sizes] or [1.0]
    rows = [ratios[first : first + per_row] for first in range(0, len(ratios), per_row)]
    return [PANEL * max(row) + 0.5 for row in rows]


def _is_fine(compared: ComparedObject) -> bool:
    return compared.outcome in (RIGHT, FOUND, IGNORED)


def _caption(compared: ComparedObject, class_names: Mapping[int, str]) -> str:
    name, outcome = class_names[compared.category_id], compared.outcome
    if compared.score is None:
        return name if outcome == FOUND else f"{name}: {outcome}"
    end = f", IoU {compared.iou:.2f}" if outcome == RIGHT else f": {outcome}"
    return f"{name} {100 * compared.score:.0f} %{end}"


def _summary(comparison: ImageComparison) -> str:
    counts = comparison.counts
    mistakes = counted(counts.unmatched, "mistake")
    return f"{counts.matched} right, {mistakes}, {counts.missed} missed"


MARGIN = 0.25  # around the box, share of its longer side
MASK, TRUTH = PALETTE[1], PALETTE[2]
MEASURES = {
    "complex": "outline² / 4π area",
    "separated": "share outside the largest part",
    "overlapping": "IoU with the next box",
}


class _ShownCase(Protocol):
    """One hard object, as `research.find_hard_cases` gives them."""

    @property
    def measure(self) -> float: ...
    @property
    def image(self) -> Tensor: ...  # (3, H, W)
    @property
    def box(self) -> Tensor: ...  # (4,) true corners, pixels
    @property
    def true_mask(self) -> Tensor: ...  # (H, W) bool
    @property
    def mask(self) -> Tensor: ...  # (H, W) bool
    @property
    def iou(self) -> float: ...  # IoU of the two masks, 0 to 1


def hard_cases_figure(cases: Mapping[str, Sequence[_ShownCase]]) -> DescribedFigure:
    """One row per kind of hard object: the network's mask in blue, the true outline in yellow.

    Args:
        cases: the hard objects by kind; a kind may be empty.

    Raises:
        ValueError: no kinds.
    """
    if not cases:
        raise ValueError("cases: an empty dict; at least one kind is needed")
    columns = max(1, *map(len, cases.values()))
    told = "; ".join(
        f"{kind}: " + (", ".join(f"IoU {case.iou:.2f}" for case in found) or "none")
        for kind, found in cases.items()
    )
    figure, axes = panels(
        len(cases),
        columns,
        cell=(1.75, 2.1),
        description=f"Hard objects with the network's mask and the true outline. {told}.",
    )
    for row, (kind, found) in zip(axes, cases.items(), strict=True):
        for ax in row[max(1, len(found)) :]:
            ax.set_axis_off()
        if not found:
            row[0].set(xticks=[], yticks=[])
            draw_text(row[0], 0.5, 0.5, "none", size=10, transform=row[0].transAxes)
        for ax, case in zip(row, found, strict=False):
            _draw_case(ax, case)
        row[0].set_ylabel(f"{kind}\n{MEASURES.get(kind, 'measure')}", fontsize=8)
    figure.suptitle("blue: the network's mask   yellow line: the true one", fontsize=9)
    return figure


def _draw_case(ax: Axes, case: _ShownCase) -> None:
    height, width = case.image.shape[-2:]
    x0, y0, x1, y1 = case.box.tolist()
    half = (0.5 + MARGIN) * max(x1 - x0, y1 - y0)
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    first_row, last_row = max(0, int(top)), min(height, int(top + 2 * half) + 1)
    first, last = max(0, int(left)), min(width, int(left + 2 * half) + 1)
    rows, columns = slice(first_row, last_row), slice(first, last)
    shown = paint_masks(case.image[:, rows, columns], case.mask[None, rows, columns], [MASK])
    draw_picture(ax, shown, title=f"{case.measure:.2f}   mask IoU {case.iou:.2f}", has_units=False)
    ax.title.set_fontsize(8)
    draw_outline(ax, case.true_mask[rows, columns], TRUTH, width=1.6, is_closed=True)


MISSING, EXTRA = INK, "#c2185b"  # neither is the colour of an object


def masks_by_method_figure(
    images: Mapping[str, Tensor],
    truths: Mapping[str, Tensor],
    found: Mapping[str, Mapping[str, Tensor]],
) -> DescribedFigure:
    """One row per scene: the true masks, and every method's with its wrong pixels.

    Black pixels are missing from their object's mask, crimson ones are in a mask of an object that
    they do not belong to. Above every panel are the IoUs of the objects, in their order.

    Args:
        images: (3, H, W) uint8 or float in [0, 1], by scene.
        truths: (N, H, W) bool, by scene; N may differ between scenes.
        found: (N, H, W) bool by method, then by scene; as many masks as in `truths`.

    Raises:
        ValueError: no scenes, or masks that do not fit the true ones.
    """
    if not images:
        raise ValueError("images: an empty dict; at least one scene is needed")
    cell = picture_cell(next(iter(images.values())), 1.9, title=0.35)
    figure, axes = panels(len(images), 1 + len(found), cell=cell, description="")
    told = []
    for row, (scene, image) in zip(axes, images.items(), strict=True):
        truth = truths[scene].cpu()
        draw_picture(row[0], paint_masks(image, truth), title="true masks", has_units=False)
        row[0].set_ylabel(scene, fontsize=9)
        for ax, (method, by_scene) in zip(row[1:], found.items(), strict=True):
            masks = by_scene[scene].cpu()
            if masks.shape != truth.shape:
                raise ValueError(
                    f"{method}, {scene}: masks {tuple(masks.shape)}, true {tuple(truth.shape)}"
                )
            painted = paint_masks(as_float(image) * 0.5 + 0.5, masks)
            for wrong, color in ((truth & ~masks, MISSING), (masks & ~truth, EXTRA)):
                painted[:, wrong.any(dim=0)] = color_tensor(color)[:, :, 0]
            ious = "  ".join(f"{iou:.2f}" for iou in mask_iou(masks, truth).tolist())
            draw_picture(ax, painted, title=f"{method}\nIoU {ious}", has_units=False)
            counts = f"{int((truth & ~masks).sum())} missing, {int((masks & ~truth).sum())} extra"
            told.append(f"{scene}, {method}: IoU {ious}, {counts}")
        for ax in row:
            ax.title.set_fontsize(8)
    figure.set_label(f"Masks of {len(images)} scenes by {len(found)} methods. {'; '.join(told)}.")
    return figure


COLUMNS = 4


def specimens_figure(
    image: Tensor, masks: Mapping[str, Tensor], *, healthy: Tensor | None = None
) -> DescribedFigure:
    """One picture with its masks per specimen, or the pixels where they differ from the right ones.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        masks: (N, H, W) bool, by the name of the panel.
        healthy: (N, H, W) bool; if given, panels show the pixels that the masks lost (red) and
            gained (blue) compared with the healthy masks.

    Raises:
        ValueError: no specimens, or the numbers of masks and healthy masks differ.
    """
    if not masks:
        raise ValueError("masks: an empty dict; at least one specimen is needed")
    told = []
    cell = picture_cell(image, 2.15, title=0.3)
    figure, axes = panel_grid(len(masks), COLUMNS, cell=cell, description="")
    for ax, (name, own) in zip(axes, masks.items(), strict=True):
        if healthy is None:
            draw_picture(ax, paint_masks(image, own), title=name, has_units=False)
            told.append(f"{name}: {int(own.sum())} pixels")
            continue
        if own.shape != healthy.shape:
            raise ValueError(f"{name}: masks {tuple(own.shape)}, right {tuple(healthy.shape)}")
        minus, plus = int((healthy & ~own).sum()), int((own & ~healthy).sum())
        caption = f"{name}: -{minus} +{plus} pixels"
        draw_picture(ax, paint_changes(image, healthy, own), title=caption, has_units=False)
        told.append(f"{name}: lost {minus}, gained {plus} pixels")
    figure.set_label(f"Masks of one picture in {len(masks)} panels. {'; '.join(told)}.")
    return figure
