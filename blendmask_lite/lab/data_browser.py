"""The data browser: an image's annotations, and how they are stored.

Chapter 01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.datasets.coco_format import (
    completed,
    decode_masks,
    encode_masks,
    run_boxes,
    run_length,
)
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.masks import instances_figure, round_trip_figure
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.parts import FigureView, LabWidget, button, check_index, control, row
from blendmask_lite.masks import mask_iou, there_and_back
from blendmask_lite.terminal import counted

__all__ = ["GROUPS", "DataBrowser", "StoredObject", "stored_objects"]


GROUPS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}


@dataclass(frozen=True)
class StoredObject:
    """One annotation."""

    name: str  # number and class, such as "2 star", and whether it is a crowd
    is_crowd: bool  # whether it is a region of many objects that were not annotated one by one
    form: str  # how the file stores the mask, in words
    area: float  # pixels, from the file
    mask: Tensor  # (H, W) bool
    box: Tensor  # (4,) tight corners of the mask, pixels
    num_runs: int  # number of run lengths in the mask
    num_bytes: int  # size of the compressed run lengths

    @property
    def groups(self) -> str:
        """Small, medium or large; two of the three if the area is exactly at a limit."""
        return " and ".join(n for n, (low, high) in GROUPS.items() if low <= self.area <= high)


def stored_objects(dataset: InstanceDataset, index: int) -> list[StoredObject]:
    """The annotations of an image of the data set, including crowds."""
    content = dataset.select([dataset.image_ids[index]]).ground_truth()
    size = (content["images"][0]["height"], content["images"][0]["width"])
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [
        _stored(number, entry, names[entry["category_id"]], size)
        for number, entry in enumerate(content["annotations"], start=1)
    ]


def _stored(
    number: int, entry: dict[str, Any], class_name: str, size: tuple[int, int]
) -> StoredObject:
    run = run_length(entry["segmentation"], size)
    entry = completed(entry, run)
    mask = decode_masks([run], size)[0]
    pixels = torch.cat([torch.zeros(1, dtype=torch.bool), mask.T.flatten()])  # zeros come first
    is_crowd = bool(entry["iscrowd"])
    return StoredObject(
        name=f"{number} {class_name}{' (crowd)' if is_crowd else ''}",
        is_crowd=is_crowd,
        form=_form(entry["segmentation"]),
        area=float(entry["area"]),
        mask=mask,
        box=run_boxes([run])[0],
        num_runs=len(pixels.unique_consecutive()),
        num_bytes=len(encode_masks(mask[None])[0]["counts"]),
    )


def _form(segmentation: Any) -> str:
    if isinstance(segmentation, list):
        corners = sum(len(polygon) // 2 for polygon in segmentation)
        many = "a polygon" if len(segmentation) == 1 else f"{len(segmentation)} polygons"
        return f"{many} with {corners} corners"
    if isinstance(segmentation["counts"], list):
        return f"a list of {len(segmentation['counts'])} run lengths"
    return "compressed run lengths"


ALL = -1  # the choice that shows all objects


class DataBrowser(LabWidget):
    """Images with their annotations, one by one.

    Args:
        dataset: a data set with masks; None for some generated images.
        mask_sizes: values of R to choose from, cells.

    Raises:
        ValueError: the data set has no images, or `mask_sizes` is empty.
    """

    def __init__(
        self,
        dataset: InstanceDataset | None = None,
        *,
        mask_sizes: Sequence[int] = (7, 14, 28, 56),
    ) -> None:
        super().__init__(title="Data browser")
        self.dataset = ShapesDataset(24, seed=7) if dataset is None else dataset
        if len(self.dataset) == 0 or len(mask_sizes) == 0:
            raise ValueError("a data set with images and at least one mask size are needed")
        limits = {"min": 1, "max": len(self.dataset), "tooltip": f"1 to {len(self.dataset)}"}
        self.picture = control(widgets.BoundedIntText, "image", 150, **limits)
        self.before = button("arrow-left", "Previous", "the image before")
        self.after = button("arrow-right", "Next", "the image after")
        self.object = control(widgets.Dropdown, "object", 230)
        sizes = [(f"{size} x {size} cells", size) for size in mask_sizes]
        self.mask_size = control(widgets.Dropdown, "R", 150, options=sizes)
        self.mask_size.value = 28 if 28 in mask_sizes else mask_sizes[0]
        self.facts = widgets.Label(layout=widgets.Layout(width="auto"))
        self.whole, self.close_up = FigureView(), FigureView()
        self._back: Tensor | None = None  # the chosen mask, cropped to R x R cells and pasted
        self.show(0)
        self._connect()
        self.arrange(
            row(self.picture, self.before, self.after, self.object, self.mask_size),
            self.facts,
            row(self.whole, self.close_up),
        )

    def show(self, index: int) -> None:
        """Show image `index` (0-based).

        Raises:
            ValueError: there is no such image, or it cannot be read.
        """
        check_index("image", index, len(self.dataset))
        image = self.dataset.load(index).image
        objects = stored_objects(self.dataset, index)
        self.index, self.image, self.objects = index, image, objects
        with self.setting():
            self.picture.value = index + 1
            self.object.options = [("all", ALL), *((o.name, i) for i, o in enumerate(objects))]
            self.object.value = ALL
        self._draw()

    @property
    def chosen(self) -> StoredObject | None:
        """The object that is shown by itself; None if all are shown."""
        place = self.object.value
        return None if place == ALL else self.objects[place]

    def free(self) -> None:
        """Drop the image, its objects and the data set."""
        del self.image, self.objects, self.dataset, self._back

    # -------------------------------------------------------------- drawing

    def _draw(self) -> None:
        one, self._back = self.chosen, None
        if one is not None and one.mask.any():
            self._back = there_and_back(one.mask[None], one.box[None], self.mask_size.value)[0]
        self.facts.value = self._told()
        self.whole.show(self._whole_figure)
        if one is None:
            self.close_up.say("Choose an object to see its mask at R x R cells.")
        elif self._back is None:
            self.close_up.say("This annotation has no pixels.")
        else:
            self.close_up.show(self._close_up_figure)

    def _whole_figure(self) -> DescribedFigure:
        objects = self.objects
        masks = [o.mask for o in objects] or [torch.zeros(self.image.shape[-2:]).bool()]
        boxes = [o.box for o in objects] or [torch.zeros(4)]
        return instances_figure(
            self.image,
            torch.stack(masks)[: len(objects)],
            torch.stack(boxes)[: len(objects)],
            [o.name for o in objects],
            crowd=[i for i, o in enumerate(objects) if o.is_crowd],
            chosen=None if self.object.value == ALL else self.object.value,
        )

    def _close_up_figure(self) -> DescribedFigure:
        one = self.chosen
        assert one is not None and self._back is not None
        backs = {f"R = {self.mask_size.value}": self._back}
        return round_trip_figure(one.mask, backs, one.box.tolist())

    def _told(self) -> str:
        one = self.chosen
        if one is None:
            crowds = sum(o.is_crowd for o in self.objects)
            height, width = self.image.shape[-2:]
            more = f", {crowds} of them crowds" if crowds else ""
            return f"{width} x {height} pixels, {counted(len(self.objects), 'annotation')}{more}"
        x0, y0, x1, y1 = one.box.tolist()
        told = (
            f"{one.name}: area {one.area:.0f} px ({one.groups}); box {x1 - x0:.0f} x "
            f"{y1 - y0:.0f} px; stored as {one.form}; {one.num_runs} runs, "
            f"{one.num_bytes} bytes compressed"
        )
        if self._back is None:
            return told
        iou = float(mask_iou(self._back[None], one.mask[None])[0])
        return f"{told}; IoU {iou:.3f} after R = {self.mask_size.value}"

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        num_images = len(self.dataset)
        self.when(self.picture, do=lambda: self.show(self.picture.value - 1))
        self.when(self.before, do=lambda: self.show((self.index - 1) % num_images))
        self.when(self.after, do=lambda: self.show((self.index + 1) % num_images))
        self.when(self.object, self.mask_size, do=self._draw)
        for view in (self.whole, self.close_up):
            view.on_save(self.save_view)
