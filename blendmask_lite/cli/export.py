"""Write the network as one graph: from an image (3, H, W), float32 RGB in [0, 1], to boxes, scores,
labels and R x R masks, or with --explore to what these masks are made of. Height and width may
vary.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import torch
from torch import Tensor

from blendmask_lite.datasets.shapes import SHAPE_CLASSES, draw_shapes
from blendmask_lite.files import (
    find_checkpoint,
    require_apart,
    require_writable,
    write_atomically,
)
from blendmask_lite.images import list_images, read_image, resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.checkpoint import load_model
from blendmask_lite.weights.export import (
    PRECISIONS,
    export_onnx,
    export_program,
    smallest_side,
)

__all__ = ["add_options", "run"]

MOST_CALIBRATION = 50  # images; with 10 or 200, AP on shapes is no better


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "checkpoint",
        nargs="?",
        default="nano",
        metavar="CHECKPOINT",
        help="checkpoint: a file, or nano (the default), small or photos, which come with the "
        "package",
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="FILE",
        help="file to write: .onnx, or .pt2 for torch.export",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="precision of an ONNX file: float16 stores the weights in half the bytes, int8 also "
        "computes the convolutions in 8 bits; default: float32",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DIR",
        help="for int8: folder of images like those that the model will see, of which "
        f"{MOST_CALIBRATION} are read; default: generated shapes, if the model was trained on them",
    )
    parser.add_argument(
        "--explore",
        action="store_true",
        help="write attentions, bases and their stride instead of masks, for programs that compute "
        "equations 1 to 4 themselves",
    )


def run(options: argparse.Namespace) -> int:
    """Export the network; returns 0."""
    out = Path(options.out)
    if out.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"--out {out}: must end in .onnx or .pt2")
    if out.suffix != ".onnx" and options.precision != "float32":
        raise ValueError(f"--precision {options.precision}: is for .onnx, not for {out.suffix}")
    if options.calibrate and options.precision != "int8":
        raise ValueError("--calibrate: is for --precision int8")
    checkpoint = find_checkpoint(options.checkpoint)
    require_apart([out], [checkpoint], "the checkpoint")
    require_writable(out)
    model = load_model(checkpoint)
    if out.suffix == ".onnx":
        images = _calibration_images(options, model) if options.precision == "int8" else []
        export_onnx(
            model,
            out,
            precision=options.precision,
            calibration=images,
            explore=options.explore,
        )
    else:
        buffer = io.BytesIO()
        torch.export.save(export_program(model, explore=options.explore), buffer)
        write_atomically(out, buffer.getvalue())
    size = out.stat().st_size / 1e6
    print(f"{out}: {size:.1f} MB, for images of at least {smallest_side(model)} pixels a side")
    return 0


def _calibration_images(options: argparse.Namespace, model: BlendMask) -> list[Tensor]:
    """(3, H, W) uint8 images at the model's test size."""
    settings = model.inference
    if options.calibrate:
        if not Path(options.calibrate).is_dir():
            raise ValueError(f"--calibrate {options.calibrate}: no such folder")
        paths = list_images([options.calibrate])
        number = min(len(paths), MOST_CALIBRATION)
        images = (read_image(paths[k * len(paths) // number]) for k in range(number))
    elif tuple(model.class_names) == SHAPE_CLASSES:
        shapes = draw_shapes(MOST_CALIBRATION, size=settings.test_size)
        images = (shapes.load_image(k) for k in range(MOST_CALIBRATION))
    else:
        raise ValueError("--precision int8: needs --calibrate DIR, a folder of images")
    return [resize_for_test(image, settings.test_size, settings.max_size) for image in images]
