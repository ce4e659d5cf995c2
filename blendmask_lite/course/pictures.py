"""Images unlike those that the shipped model was trained on: a real photograph if there is one."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from blendmask_lite.datasets.shapes import ShapesConfig, draw_scene

__all__ = ["unusual_picture"]

PHOTOGRAPHS_VARIABLE = "BLENDMASK_COCO"


def unusual_picture(number: int = 0, *, size: int = 256) -> tuple[Tensor, str]:
    """A photograph from the COCO folder that BLENDMASK_COCO names, or else a large generated scene.

    Args:
        number: index of the image.
        size: shorter side, pixels.

    Returns:
        (3, H, W) uint8, and its description in a few words.

    Raises:
        ValueError: the folder has no photographs.
    """
    root = os.environ.get(PHOTOGRAPHS_VARIABLE, "")
    if not root:
        scene = draw_scene(1_000, number, ShapesConfig(size=size))
        image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        return image, f"a generated scene of {size} x {size} pixels"
    files = sorted(Path(root).rglob("*.jpg"))
    if not files:
        raise ValueError(f"{PHOTOGRAPHS_VARIABLE} = {root!r}: no .jpg file in this folder or below")
    with Image.open(files[number % len(files)]) as photograph:
        image = pil_to_tensor(photograph.convert("RGB"))
    return resize(image, [size], antialias=True), "a photograph"
