"""Scenes to begin a talk with: hard cases of generated shapes, and a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesConfig, ShapesDataset
from blendmask_lite.datasets.shapes.hard_cases import draw_hard_case
from blendmask_lite.datasets.shapes.scene import scene_sample
from blendmask_lite.datasets.transforms import resize_sample
from blendmask_lite.files import photos_folder, shipped_checkpoint
from blendmask_lite.images import resized_size
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["PRESETS", "Preset", "open_preset"]

CASES = {"twins": "touching twins", "star in ring": "star in ring", "overhang": "overhang"}
SHAPES, PHOTOGRAPH = "shapes", "photograph"
PRESETS = (SHAPES, *CASES, PHOTOGRAPH)
PHOTO_NUMBER = 6  # the dog: one large animal, whole
SHAPES_SEED = 7


@dataclass(frozen=True)
class Preset:
    """A scene with a network that was trained on such scenes."""

    model: BlendMask
    image: Tensor  # (3, H, W) at the network's size
    target: Target


def open_preset(name: str, models: Sequence[BlendMask]) -> Preset:
    """One of the `PRESETS`.

    Args:
        name: name of the preset.
        models: the loaded models; one that knows the scene's classes is used again.

    Raises:
        FileNotFoundError: this is not a clone; only a clone has the photographs.
    """
    if name == PHOTOGRAPH:
        model = _known(models, ("object",)) or load_model(shipped_checkpoint("photos"))
        sample = CocoDataset(photos_folder(), is_one_class=True).load(PHOTO_NUMBER)
        height, width = sample.image.shape[-2:]
        limits = model.inference.test_size, model.inference.max_size
        sample = resize_sample(sample, resized_size((height, width), *limits))
        return Preset(model, sample.image, sample.target)
    model = _known(models, SHAPE_CLASSES) or load_model(shipped_checkpoint("small"))
    size = model.inference.test_size
    if name == SHAPES:
        sample = ShapesDataset(1, seed=SHAPES_SEED, config=ShapesConfig(size=size)).load(0)
    else:
        sample = scene_sample(draw_hard_case(CASES[name], size=size), 0)
    return Preset(model, sample.image, sample.target)


def _known(models: Sequence[BlendMask], names: Sequence[str]) -> BlendMask | None:
    return next((model for model in models if tuple(model.class_names) == tuple(names)), None)
