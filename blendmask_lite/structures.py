"""The vocabulary: what an image contains (`Target`) and what the model finds in it."""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from blendmask_lite.files import write_atomically
from blendmask_lite.images import AnyImage, encode_image, image_tensor
from blendmask_lite.masks import Region, mask_parts, paste_masks, paste_parts
from blendmask_lite.polygons import labelme_file
from blendmask_lite.terminal import counted, listed, printable

if TYPE_CHECKING:
    import supervision
    from matplotlib.figure import Figure

__all__ = [
    "UNLABELLED",
    "AnyDetections",
    "Detections",
    "FoundObjects",
    "PanopticResult",
    "Segment",
    "Target",
    "UnpastedDetections",
    "find_labels",
]

UNLABELLED = 255  # value in a stuff map: the annotation does not say what the pixel is
LARGEST_SHOWN = 1000  # side of the picture that a notebook shows, pixels

T = TypeVar("T", bound="Target | AnyDetections")


@dataclass(frozen=True)
class Target:
    """The true objects of one image, N of them; N = 0 is an image without objects.

    Crowd regions do not count as objects: they appear in `semantic` only.

    Attributes:
        boxes: (N, 4) corners (x0, y0, x1, y1), pixels of the image.
        labels: (N,) int64, 0 to C-1.
        masks: (N, H, W) bool; H and W are the image's, before padding. None if `mask_crops`
            replace them, or if no masks are learned.
        mask_crops: (N, R, R) bool, each mask cropped to its box and resized; takes precedence over
            `masks`.
        semantic: (H, W) integers, 0 is background and class c is c + 1. If None, it is drawn from
            `masks`.
        stuff: (H, W) uint8, 0 is things, 1 to S are the stuff classes, 255 is unlabelled; used by
            models with a panoptic branch.
        semantic_cells: (ceil(H / 8), ceil(W / 8)) integers, `semantic` at every eighth pixel, which
            is all that the semantic loss reads; takes precedence over `semantic` and `masks`.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    mask_crops: Tensor | None = None
    semantic: Tensor | None = None
    stuff: Tensor | None = None
    semantic_cells: Tensor | None = None

    def __post_init__(self) -> None:
        num = len(self.labels)
        if self.boxes.shape != (num, 4):
            raise ValueError(f"boxes {tuple(self.boxes.shape)}: {num} labels need ({num}, 4)")
        for name in ("masks", "mask_crops"):
            value = getattr(self, name)
            if value is not None and (value.dim() != 3 or len(value) != num):
                raise ValueError(f"{name} {tuple(value.shape)}: {num} labels need ({num}, ., .)")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Target:
        """The same target on another device; `non_blocking` as in `Tensor.to`."""
        return _changed(self, lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Target:
        """The same target in pinned memory, from which a GPU copies while the CPU goes on."""
        return _changed(self, Tensor.pin_memory)


class FoundObjects(Protocol):
    """The objects that any detector found in one image, as an evaluation needs them."""

    @property
    def boxes(self) -> Tensor:
        """(N, 4) corners, pixels of the stored picture."""
        ...

    @property
    def scores(self) -> Tensor:
        """(N,) from 0 to 1."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 to C-1."""
        ...

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool at the size of the stored picture."""
        ...


@dataclass(frozen=True, repr=False)
class AnyDetections(ABC):
    """Base class of `Detections` and `UnpastedDetections`; a notebook shows them as a picture."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    location_index: Tensor
    proposal_boxes: Tensor
    image_size: tuple[int, int]
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    category_ids: tuple[int, ...] | None = field(default=None, kw_only=True)
    image: Tensor | None = field(default=None, kw_only=True)

    @abstractmethod
    def mask_parts(self, *, is_reversed: bool = False) -> Iterator[tuple[Region, Tensor]]:
        """For each mask, a region that contains it, and the (h, w) bool pixels in that region."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> Self:
        """Some of the detections, selected by a slice, a list of positions, or a boolean mask."""
        return _changed(self, lambda value: value[index])

    def to(self, device: torch.device | str) -> Self:
        """The same detections on another device; their `image` stays where it is."""
        return _changed(self, lambda value: value.to(device))

    @property
    def names(self) -> list[str]:
        """The class name of each object; "class 3" for label 3 if names are not known."""
        known = self.class_names
        return [f"class {i}" if known is None else known[i] for i in self.labels.tolist()]

    def filter(
        self,
        *,
        classes: str | int | Iterable[str | int] | None = None,
        score: float | None = None,
    ) -> Self:
        """The objects of the given classes (names or labels) that have at least the given score.

        Raises:
            ValueError: there is no such class; the message names similar ones.
        """
        is_left = torch.ones_like(self.labels, dtype=torch.bool)
        if classes is not None:
            labels = find_labels(classes, self.class_names)
            is_left &= torch.isin(self.labels, self.labels.new_tensor(labels))
        if score is not None:
            is_left &= self.scores >= score
        return self[is_left]

    def plot(self, image: AnyImage | None = None, *, title: str = "") -> Figure:
        """A matplotlib figure of the image with masks, boxes, class names and scores.

        Args:
            image: path, PIL image, array or tensor; by default the image that was predicted on.
            title: text above the picture.

        Raises:
            ValueError: no image is known, or it has another size.
        """
        from blendmask_lite.figures.detections import detections_figure

        return detections_figure(self._image(image), self, title=title)

    def save(self, path: str | os.PathLike[str], image: AnyImage | None = None) -> None:
        """Write the image, in its own size, with all objects drawn, as a file such as found.png.

        Args:
            path: its suffix is one of `IMAGE_SUFFIXES`.
            image: as for `plot`.

        Raises:
            ValueError: no image is known, it has another size, or the suffix is not supported.
            OSError: the file cannot be written.
        """
        from blendmask_lite.figures.detections import draw_detections

        path = Path(path)
        drawn = draw_detections(self._image(image), self)
        write_atomically(path, encode_image(drawn, path.suffix))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The objects as entries of a COCO results file, with masks as run lengths.

        Their category ids come from the data that the model was trained on. If these ids are not
        known, the labels are written instead.
        """
        from blendmask_lite.evaluation.results import image_results

        return image_results(image_id, self, self.category_ids).entries()

    def to_labelme(self, image_path: str) -> dict[str, Any]:
        """The content of the JSON file that labelme opens, with scores as descriptions.

        `image_path` is relative to the file's folder; see `polygons.labelme_file`. The file is
        marked as a draft, because nobody has looked at the objects yet.
        """
        scores = [f"{score:.3f}" for score in self.scores.tolist()]
        return labelme_file(
            self.mask_parts(),
            self.names,
            self.image_size,
            image_path=image_path,
            descriptions=scores,
            is_draft=True,
        )

    def to_yolo(self) -> list[str]:
        """The lines of a YOLO label file; see `evaluation.formats.yolo_lines`."""
        from blendmask_lite.evaluation.formats import yolo_lines

        return yolo_lines(self)

    def to_supervision(self) -> supervision.Detections:
        """The same detections as an object of the package supervision, if that is installed."""
        from blendmask_lite.evaluation.formats import supervision_detections

        return supervision_detections(self)

    def __repr__(self) -> str:
        pairs = zip(self.names, self.scores.tolist(), strict=True)
        told = listed([f"{printable(name)} {score:.2f}" for name, score in pairs])
        height, width = self.image_size
        size = f"{counted(len(self), 'object')} in {height} x {width} pixels"
        return f"{type(self).__name__}({size}{': ' if told else ''}{told})"

    def _repr_png_(self) -> bytes | None:
        """The picture that a notebook shows, if the image is known; large ones are made smaller."""
        from blendmask_lite.figures.detections import draw_detections

        if self.image is None:
            return None
        drawn = Image.fromarray(draw_detections(self.image, self))
        drawn.thumbnail((LARGEST_SHOWN, LARGEST_SHOWN))
        return encode_image(drawn)

    def _image(self, image: AnyImage | None) -> Tensor:
        image = self.image if image is None else image
        if image is None:
            raise ValueError("image: these detections do not hold their image; pass it")
        return image_tensor(image, "image")


@dataclass(frozen=True, repr=False)
class Detections(AnyDetections):
    """The objects found in one image, N of them, best first.

    Attributes:
        boxes: (N, 4) corners, pixels of the output image, clipped to it.
        scores: (N,) sqrt(class probability x centerness), 0 to 1.
        labels: (N,) int64, 0 to C-1.
        mask_logits: (N, R, R) float, covering `proposal_boxes`.
        location_index: (N,) int64, the location on the flattened pyramid that found the object.
        proposal_boxes: (N, 4) the boxes that the bases were cropped with, pixels of the padded
            input; they may reach outside it.
        image_size: (H, W) of the output.
        masks: (N, H, W) bool at the output size.
        class_names: C names; None if they are not known.
        category_ids: C numbers that stand for the labels in result files; None if not known.
        image: (3, H, W), the image that was predicted on; None if its size is not the output size.
    """

    masks: Tensor

    def mask_parts(self, *, is_reversed: bool = False) -> Iterator[tuple[Region, Tensor]]:
        """For each mask, a region that contains it, and the (h, w) bool pixels in that region."""
        for place in range(len(self))[:: -1 if is_reversed else 1]:
            yield from mask_parts(self.masks[place, None])


@dataclass(frozen=True, repr=False)
class UnpastedDetections(AnyDetections):
    """Detections whose masks are still R x R cells over their boxes.

    The masks of a hundred objects in a 12-megapixel photograph take more than a gigabyte. Here
    they are made one at a time, each only inside its box. `Detections` explains the other fields.

    Attributes:
        mask_threshold: probability from which a pixel belongs to the mask.
    """

    mask_threshold: float

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool at the output size, pasted at every call."""
        return paste_masks(self.mask_logits, self.boxes, self.image_size, self.mask_threshold)

    def mask_parts(self, *, is_reversed: bool = False) -> Iterator[tuple[Region, Tensor]]:
        """For each mask, a region that contains it, and the (h, w) bool pixels in that region.

        They are on the CPU, whatever device the detections are on.
        """
        order = list(range(len(self)))[:: -1 if is_reversed else 1]
        logits, boxes = (values.cpu()[order] for values in (self.mask_logits, self.boxes))
        return paste_parts(logits, boxes, self.image_size, self.mask_threshold)

    def pasted(self) -> Detections:
        """The same detections with whole-image masks."""
        values = dict(vars(self))
        del values["mask_threshold"]
        return Detections(**values, masks=self.masks)


def find_labels(
    classes: str | int | Iterable[str | int], class_names: Sequence[str] | None
) -> list[int]:
    """The labels of some classes, given by names or labels, one or several.

    Raises:
        ValueError: there is no such class; the message names similar ones.
    """
    names = list(class_names or [])
    labels = []
    for wanted in [classes] if isinstance(classes, str | int) else classes:
        if isinstance(wanted, str) and wanted in names:
            labels += [label for label, name in enumerate(names) if name == wanted]
        elif not isinstance(wanted, str) and (class_names is None or 0 <= wanted < len(names)):
            labels.append(int(wanted))
        else:
            near = difflib.get_close_matches(str(wanted), names, n=3)
            known = f"it has {listed(names) or 'no names, only labels'}"
            if near:
                known = f"did you mean {' or '.join(near)}?"
            raise ValueError(f"classes: the model has no class {wanted}; {known}")
    return labels


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic result: an instance, or all pixels of one stuff class.

    Attributes:
        id: its number in `PanopticResult.ids`, at least 1.
        label: 0 to C-1 for an instance; 1 to S for stuff, as in `Target.stuff`.
        area: number of pixels.
        score: the instance's score, 0 to 1; None for stuff and for a true instance.
        instance_index: its position in the `Detections` that were merged; None for stuff.
    """

    id: int
    label: int
    area: int
    score: float | None = None
    instance_index: int | None = None

    @property
    def is_thing(self) -> bool:
        """Whether it is an instance."""
        return self.instance_index is not None


@dataclass(frozen=True)
class PanopticResult:
    """Instances and stuff of one image, without overlaps.

    Attributes:
        ids: (H, W) int32 at the output size: the segment that a pixel belongs to, 0 for none.
        segments: first the instances, best first, then stuff by label.
    """

    ids: Tensor
    segments: list[Segment]

    def to(self, device: torch.device | str) -> PanopticResult:
        """The same result on another device."""
        return replace(self, ids=self.ids.to(device))


def _changed(record: T, change: Callable[[Tensor], Tensor]) -> T:
    """The record with all of its tensors changed."""
    tensors = {
        name: value
        for name, value in vars(record).items()
        if isinstance(value, Tensor) and name != "image"
    }
    changed: dict[str, Any] = {name: change(value) for name, value in tensors.items()}
    return replace(record, **changed)
