"""Write the network as one graph: from an image (3, H, W), float32 RGB in [0, 1], to boxes, scores,
labels and R x R masks. Height and width may vary.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import torch

from blendmask_lite.files import (
    require_apart,
    require_writable,
    shipped_checkpoint,
    write_atomically,
)
from blendmask_lite.weights.checkpoint import load_model
from blendmask_lite.weights.export import export_onnx, export_program, smallest_side

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="default the shipped one"
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="FILE", help=".onnx, or .pt2 for torch.export"
    )


def run(options: argparse.Namespace) -> int:
    """Export the network; returns 0."""
    out = Path(options.out)
    if out.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"--out {out}: must end in .onnx or .pt2")
    checkpoint = options.checkpoint or shipped_checkpoint()
    require_apart([out], [checkpoint], "the checkpoint")
    require_writable(out)
    model = load_model(checkpoint)
    if out.suffix == ".onnx":
        export_onnx(model, out)
    else:
        buffer = io.BytesIO()
        torch.export.save(export_program(model), buffer)
        write_atomically(out, buffer.getvalue())
    size = out.stat().st_size / 1e6
    print(f"{out}: {size:.1f} MB, for images of at least {smallest_side(model)} pixels a side")
    return 0
