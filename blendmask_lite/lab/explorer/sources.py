"""Sources of the explorer's models and images; both are checked before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from torch import Tensor
from traitlets import Int, Unicode

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesDataset, draw_shapes
from blendmask_lite.files import SHIPPED_MODELS, find_checkpoint, photos_folder
from blendmask_lite.images import decode_image
from blendmask_lite.lab.parts import STATIC, check_index, control
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.adelaidet import load_adelaidet
from blendmask_lite.weights.checkpoint import load_model
from blendmask_lite.weights.zoo import PUBLISHED, find_published

__all__ = [
    "Picture",
    "UploadButton",
    "advice_about",
    "is_of_photos",
    "model_field",
    "open_folder",
    "open_model",
    "open_photos",
    "open_picture",
    "open_shapes",
    "read_upload",
    "redraw_shapes",
]


MOST_BYTES = 8_000_000


class UploadButton(anywidget.AnyWidget):
    """A button to choose or drop an image, whose file goes to one function and is not kept."""

    _esm = STATIC / "upload.js"
    _css = STATIC / "upload.css"
    label = Unicode("Choose an image, or drop one here").tag(sync=True)
    accept = Unicode("image/*").tag(sync=True)  # types that the browser's dialog offers
    most_bytes = Int(MOST_BYTES).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._callback: Callable[[str, bytes | int], None] | None = None
        self.on_msg(self._receive)

    def on_upload(self, callback: Callable[[str, bytes | int], None]) -> None:
        """Call `callback` with the name and content of every file from now on.

        The page does not send files that are too large; the callback gets their size in bytes
        instead of the content.
        """
        self._callback = callback

    def close(self) -> None:
        """Remove the button from the page."""
        self._callback = None
        super().close()

    def _receive(
        self, _widget: Any, content: dict[str, Any], buffers: Sequence[memoryview]
    ) -> None:
        if self._callback is not None:
            name, size = str(content["name"]), int(content["size"])
            self._callback(name, bytes(buffers[0]) if buffers else size)


MODEL_CHOICES = (*SHIPPED_MODELS, *PUBLISHED)
RELEASED = {".pth", ".pkl"}  # suffixes of the released code's files
NUM_SHAPES = 10_000  # number of images for a seed
LEAST_SIDE = 8  # shortest side of an uploaded image, pixels; a smaller one shows nothing
MOST_PIXELS = 40_000_000  # largest size of an uploaded image
MOST_RATIO = 20  # largest ratio of longer to shorter side; beyond it, resizing leaves only a line


@dataclass(frozen=True)
class Picture:
    """An image and its origin."""

    name: str  # name for titles
    image: Tensor  # (3, H, W) uint8 or float in [0, 1], not resized
    sample: Sample | None = None  # the image with its true objects; None if they are unknown
    class_names: tuple[str, ...] = ()  # names of the labels in `sample`


def model_field(description: str, width: int, placeholder: str) -> widgets.Combobox:
    """A field for the source that `open_model` takes."""
    tooltip = "small, for generated shapes, and photos, for photographs, come with this package"
    options: dict[str, Any] = {
        "options": MODEL_CHOICES,
        "ensure_option": False,
        "tooltip": tooltip,
    }
    return control(widgets.Combobox, description, width, placeholder=placeholder, **options)


def open_model(source: str) -> BlendMask:
    """The model that the user names.

    Args:
        source: a name of `SHIPPED_MODELS`, a name from the model zoo or a URL (fetched once, then
            cached), a file of the released code (.pth, .pkl), or a checkpoint of this package.

    Raises:
        OSError, ValueError: there is no such file, or it cannot be read; see `load_model` and
            `load_adelaidet`.
    """
    source = source.strip()
    if not source:
        raise ValueError("model: empty; type small, photos, a published name or a file")
    if find_published(source) is not None or source.startswith(("http://", "https://")):
        return load_adelaidet(source)
    path = find_checkpoint(Path(source).expanduser())
    return load_adelaidet(path) if path.suffix in RELEASED else load_model(path)


def open_shapes(seed: int, model: BlendMask) -> ShapesDataset:
    """Generated images at the model's size; for small seeds, no training used them."""
    return draw_shapes(NUM_SHAPES, seed=seed, size=model.inference.test_size)


def redraw_shapes(dataset: ShapesDataset, model: BlendMask) -> ShapesDataset:
    """The same scenes at the size of another model."""
    size = draw_shapes(0, size=model.inference.test_size).config.size
    config = replace(dataset.config, size=size)
    return ShapesDataset(len(dataset), seed=dataset.seed, config=config)


def open_photos(model: BlendMask) -> CocoDataset:
    """The photographs of a clone with their masks; all of one class if the model has only one."""
    return CocoDataset(photos_folder(), is_one_class=len(model.class_names) == 1)


def is_of_photos(dataset: InstanceDataset) -> bool:
    """Whether these are the photographs of a clone."""
    try:
        return isinstance(dataset, CocoDataset) and dataset.root == photos_folder()
    except FileNotFoundError:  # there is no clone
        return False


def open_folder(root: str, split: str = "") -> CocoDataset:
    """Open a folder in COCO's layout; an empty `split` selects the only one.

    Raises:
        ValueError: there is no such folder or split, a file is damaged, or there are no images.
    """
    if not root.strip():
        raise ValueError("folder: empty; type the path of a folder in COCO's layout")
    dataset = CocoDataset(Path(root.strip()).expanduser(), split.strip() or None)
    if len(dataset) == 0:
        raise ValueError(f"{root}: a data set without images")
    return dataset


def open_picture(dataset: InstanceDataset, index: int) -> Picture:
    """An image of a data set, with its true objects if their masks are known.

    Raises:
        ValueError: there is no such image, or it is damaged.
    """
    check_index("image", index, len(dataset))
    sample = dataset.load(index)
    name = f"image {index}"
    if isinstance(dataset, ShapesDataset):
        name = f"shapes, seed {dataset.seed}, {name}"
    has_masks = sample.target.masks is not None
    return Picture(name, sample.image, sample if has_masks else None, dataset.class_names)


def read_upload(name: str, content: bytes | int) -> Picture:
    """An uploaded image, turned upright.

    Args:
        name: the file's name.
        content: the file's content, or its size if the page did not send it.

    Raises:
        ValueError: the file is not an image or damaged, or the image is too large, too small or too
            elongated.
    """
    size = content if isinstance(content, int) else len(content)
    if isinstance(content, int) or size > MOST_BYTES:
        raise ValueError(
            f"{name}: {size / 1e6:.1f} MB; images may have {MOST_BYTES / 1e6:.0f} MB, so make it "
            "smaller first"
        )
    image = decode_image(content, name=name, max_pixels=MOST_PIXELS)
    check_picture(image, name)
    return Picture(name, image)


def check_picture(image: Tensor, name: str) -> None:
    """Refuse an image that cannot be shown.

    Raises:
        ValueError: it has the wrong shape, or a side is too short.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"{name}: shape {tuple(image.shape)}, expected (3, H, W), RGB")
    height, width = image.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        raise ValueError(f"{name}: {width} x {height} pixels; no side may be below {LEAST_SIDE}")
    if max(height, width) > MOST_RATIO * min(height, width):
        raise ValueError(
            f"{name}: {width} x {height} pixels; one side may be at most {MOST_RATIO} times the "
            "other"
        )


def advice_about(model: BlendMask, picture: Picture) -> str:
    """Advice if model and image do not go together; otherwise empty."""
    if picture.sample is None and model.class_names == SHAPE_CLASSES:
        return (
            f"This model was trained on generated shapes ({', '.join(SHAPE_CLASSES)}) and can find "
            "nothing else in your image. For photographs, type photos, a published name such as "
            "R_50_3x (fetched once) or a checkpoint of your own into the field “model”, and press "
            "“Load model”."
        )
    if picture.sample is not None and picture.class_names != model.class_names:
        return (
            "The model knows other classes than this data set: its detections mean little here, "
            "and AP cannot be measured."
        )
    return ""
