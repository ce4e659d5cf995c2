"""Where the explorer's models and images come from, each checked before anything changes.

A button takes an image from the reader's disk without trusting its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from torch import Tensor
from traitlets import Int, Unicode

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesDataset
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.images import decode_image
from blendmask_lite.lab.parts import STATIC, control
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.adelaidet import load_adelaidet
from blendmask_lite.weights.checkpoint import load_model
from blendmask_lite.weights.zoo import PUBLISHED, find_published

__all__ = [
    "SHIPPED",
    "Picture",
    "UploadButton",
    "advice_about",
    "model_field",
    "open_folder",
    "open_model",
    "open_picture",
    "open_shapes",
    "read_upload",
]


MOST_BYTES = 8_000_000


class UploadButton(anywidget.AnyWidget):
    """Choose or drop a file; its content goes to one function and is kept nowhere.

    Args:
        label: on the button.
        accept: kinds of files that the browser's dialog offers, as HTML's `accept`.
    """

    _esm = STATIC / "upload.js"
    _css = STATIC / "upload.css"
    label = Unicode("").tag(sync=True)
    accept = Unicode("").tag(sync=True)
    most_bytes = Int(MOST_BYTES).tag(sync=True)

    def __init__(self, *, label: str, accept: str = "image/*") -> None:
        super().__init__(label=label, accept=accept)
        self._callback: Callable[[str, bytes | int], None] | None = None
        self.on_msg(self._receive)

    def on_upload(self, callback: Callable[[str, bytes | int], None]) -> None:
        """Call `callback` with name and content of every file from now on.

        A file that the page does not send, because it is too large, comes as its size in bytes.
        """
        self._callback = callback

    def close(self) -> None:
        """Remove it from the page."""
        self._callback = None
        super().close()

    def _receive(
        self, _widget: Any, content: dict[str, Any], buffers: Sequence[memoryview]
    ) -> None:
        if self._callback is not None:
            name, size = str(content["name"]), int(content["size"])
            self._callback(name, bytes(buffers[0]) if buffers else size)


SHIPPED = "shipped"
MODEL_CHOICES = (SHIPPED, *PUBLISHED)
RELEASED = {".pth", ".pkl"}  # what files of the released code are called
NUM_SHAPES = 10_000  # of a seed
LEAST_SIDE = 8  # of an own picture, pixels: on less there is nothing to look at
MOST_PIXELS = 40_000_000  # of an own picture
MOST_RATIO = 20  # longer to shorter side: beyond, the longer side shrinks to a line


@dataclass(frozen=True)
class Picture:
    """A picture and where it comes from.

    Attributes:
        name: for titles.
        image: (3, H, W) uint8 or float in [0, 1], not resized.
        sample: with the true objects; None where nobody knows them.
        class_names: of the labels in `sample`.
    """

    name: str
    image: Tensor
    sample: Sample | None = None
    class_names: tuple[str, ...] = ()


def model_field(description: str, width: int, placeholder: str) -> widgets.Combobox:
    """A field for what `open_model` takes."""
    options: dict[str, Any] = {"options": MODEL_CHOICES, "ensure_option": False}
    return control(widgets.Combobox, description, width, placeholder=placeholder, **options)


def open_model(source: str) -> BlendMask:
    """A model by what a reader types.

    Args:
        source: "shipped", a name of the model zoo or a URL (fetched once, then in the cache), a
            file of the released code (.pth, .pkl), or a checkpoint of this package.

    Raises:
        OSError, ValueError: no such file, or none that can be read; see `load_model` and
            `load_adelaidet`.
    """
    source = source.strip()
    if not source:
        raise ValueError(f"model: empty; type {SHIPPED!r}, a published name or a file")
    if source == SHIPPED:
        return load_model(shipped_checkpoint())
    if find_published(source) is not None or source.startswith(("http://", "https://")):
        return load_adelaidet(source)
    path = Path(source).expanduser()
    return load_adelaidet(path) if path.suffix in RELEASED else load_model(path)


def open_shapes(seed: int) -> ShapesDataset:
    """Generated pictures; the training's have other seeds than small numbers."""
    return ShapesDataset(NUM_SHAPES, seed=seed)


def open_folder(root: str, split: str = "") -> CocoDataset:
    """A folder in COCO's layout.

    Args:
        root: the folder.
        split: empty takes the only one there is.

    Raises:
        ValueError: no such folder or split, a damaged file, or no pictures.
    """
    if not root.strip():
        raise ValueError("folder: empty; type the path of a folder in COCO's layout")
    dataset = CocoDataset(Path(root.strip()).expanduser(), split.strip() or None)
    if len(dataset) == 0:
        raise ValueError(f"{root}: a data set without pictures")
    return dataset


def open_picture(dataset: InstanceDataset, index: int) -> Picture:
    """A picture of a data set, with its true objects where their masks are known.

    Raises:
        ValueError: no such picture, or a damaged one.
    """
    if not 0 <= index < len(dataset):
        raise ValueError(f"picture {index}: the data set has {len(dataset)}, from 0")
    sample = dataset.load(index)
    name = f"picture {index}"
    if isinstance(dataset, ShapesDataset):
        name = f"shapes, seed {dataset.seed}, picture {index}"
    has_masks = sample.target.masks is not None
    return Picture(name, sample.image, sample if has_masks else None, dataset.class_names)


def read_upload(name: str, content: bytes | int) -> Picture:
    """An own picture, upright.

    Args:
        name: of the file.
        content: of the file, or its size where the page did not send it.

    Raises:
        ValueError: too large, too small, too long, damaged or no picture.
    """
    size = content if isinstance(content, int) else len(content)
    if isinstance(content, int) or size > MOST_BYTES:
        raise ValueError(
            f"{name}: {size / 1e6:.1f} MB; pictures up to {MOST_BYTES / 1e6:.0f} MB are taken, "
            "so make it smaller first"
        )
    image = decode_image(content, name=name, max_pixels=MOST_PIXELS)
    check_picture(image, name)
    return Picture(name, image)


def check_picture(image: Tensor, name: str) -> None:
    """Refuse what cannot be shown.

    Raises:
        ValueError: another shape, or a side that is too short.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"{name}: shape {tuple(image.shape)}, expected (3, H, W), RGB")
    height, width = image.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"{name}: {width} x {height} pixels; each side needs {LEAST_SIDE} at least"
        )
    if max(height, width) > MOST_RATIO * min(height, width):
        raise ValueError(
            f"{name}: {width} x {height} pixels; one side may be {MOST_RATIO} times the other"
        )


def advice_about(model: BlendMask, picture: Picture) -> str:
    """What to know where model and picture do not belong together; empty where they do."""
    knows_shapes = model.class_names == SHAPE_CLASSES
    if picture.sample is None and knows_shapes:
        return (
            f"This model has seen generated shapes only ({', '.join(SHAPE_CLASSES)}): in your own "
            "picture it can find nothing else. For photographs type a published name such as "
            "R_50_3x (fetched once) or a checkpoint of your own into the field “model”, and press "
            "“Load model”."
        )
    if picture.sample is not None and picture.class_names != model.class_names:
        return (
            "The model knows other classes than this data set: what it finds here means little, "
            "and AP cannot be measured."
        )
    return ""
