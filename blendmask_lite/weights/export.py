"""The network as one graph, from an image to boxes and masks: `torch.export` and ONNX.

Height and width stay open; an image is one tensor, there is no batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from blendmask_lite.boxes import clip_boxes, has_sides
from blendmask_lite.config import LEVEL_STRIDES
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.fcos import Proposals, suppress
from blendmask_lite.model.inputs import require_pixels

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["PRECISIONS", "Deployed", "export_onnx", "export_program", "smallest_side"]


OPSET = 20  # deformable convolution needs 19, RoIAlign's half pixels 16
LARGEST_SIDE = 8192  # pixels
OUTPUTS = ("boxes", "scores", "labels", "masks")
PRECISIONS = ("float32", "float16", "int8")  # of an ONNX file
MOST_FOLDED = 2**31  # elements of a constant that may be computed when the file is written


class Deployed(nn.Module):
    """`BlendMask.predict` for one image, without branches that depend on values.

    It stops before pasting: R x R masks and their boxes are small, whole masks are not.

    Args:
        model: its `inference` settings become constants of the graph.
    """

    def __init__(self, model: BlendMask) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find the objects of one image.

        Args:
            image: (3, H, W) float32, RGB, in [0, 1].

        Returns:
            boxes (N, 4) corners, pixels, clipped to the image; scores (N,); labels (N,) int64;
            masks (N, R, R) probabilities, to be pasted into these boxes.
        """
        settings = self.model.inference
        output = self.model([image])
        candidates = self.model.candidates(output, 0)
        found = suppress(
            _with_two_empty(candidates),
            nms_iou=settings.nms_iou,
            max_detections=settings.max_detections,
        )
        index = torch.stack([torch.zeros_like(found.labels), found.location_index], dim=1)
        masks = self.model.masks_at(output, index, found.boxes).sigmoid()
        boxes = clip_boxes(found.boxes, (image.shape[1], image.shape[2]))
        place = has_sides(boxes).nonzero()[:, 0]
        return boxes[place], found.scores[place], found.labels[place], masks[place]


def _with_two_empty(candidates: Proposals) -> Proposals:
    """Two boxes without area added at the end, which `Deployed` drops with all such boxes.

    torch.export takes it from torchvision that suppression keeps at least two boxes, and the graph
    checks it: an image with one object would be an error.
    """
    two = candidates.boxes.new_zeros(2, 4)
    index = candidates.labels.new_zeros(2)
    return Proposals(
        boxes=torch.cat([candidates.boxes, two]),
        scores=torch.cat([candidates.scores, two[:, 0]]),
        labels=torch.cat([candidates.labels, index]),
        location_index=torch.cat([candidates.location_index, index]),
    )


def smallest_side(model: BlendMask) -> int:
    """Pixels that an image for the graph must have: two cells on the coarsest level.

    A level of one cell would be a graph of its own, because one cell can be broadcast.
    """
    strides = [*model.config.level_strides, LEVEL_STRIDES["p5"]]
    return max(strides) + 1


@torch.no_grad()
def export_program(model: BlendMask) -> ExportedProgram:
    """The model as a `torch.export` graph: `program.module()(image)`; see `Deployed`.

    Args:
        model: in evaluation mode; height and width of the image stay open, from
            `smallest_side` to 8192 pixels.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("model: in training mode; call model.eval() first")
    least = smallest_side(model)
    example = torch.zeros(3, 2 * least, 3 * least, device=model.device)
    sides = {1: Dim("height", min=least, max=LARGEST_SIDE)}
    sides |= {2: Dim("width", min=least, max=LARGEST_SIDE)}
    return torch.export.export(
        Deployed(model),
        (example,),
        dynamic_shapes={"image": sides},
        # What it cannot prove of open sizes, such as 64 ceil(W / 32) != 1, it checks later.
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def export_onnx(
    model: BlendMask,
    path: str | Path,
    *,
    precision: str = "float32",
    calibration: Iterable[Tensor] = (),
) -> None:
    """Write an ONNX file with the input `image` and the outputs of `Deployed`.

    Class names, mask threshold and test size are in the file's metadata, as JSON.

    Args:
        model: in evaluation mode, on the CPU.
        path: of the file; replaced in one step.
        precision: "float32"; "float16" stores the weights in half the bytes; "int8" also computes
            the convolutions in 8 bits. Inputs and outputs do not change. See `docs/export.md`.
        calibration: for "int8", some images like those that the model will see, at the same size:
            (3, H, W), RGB, float in [0, 1] or uint8.

    Raises:
        ImportError: the packages of `pip install "blendmask_lite[export]"` are missing.
        ValueError: the model is in training mode; there is no such precision; or for "int8", there
            are no images, or one is too small.
    """
    images = _calibration_images(model, precision, calibration)
    try:
        import onnxscript.optimizer  # noqa: F401  # torch.onnx needs it, and says so in ten lines

        from blendmask_lite.weights import quantization
    except ImportError:
        raise ImportError('ONNX needs packages: pip install "blendmask_lite[export]"') from None
    proto = _onnx_graph(model)
    if precision == "float16":
        quantization.store_in_float16(proto)
    elif precision == "int8":
        proto = quantization.quantize_convolutions(proto, map(_as_input, images))
    write_atomically(Path(path), proto.SerializeToString())


def _onnx_graph(model: BlendMask) -> ModelProto:
    """The model in float32, with its metadata."""
    from onnxscript import optimizer

    onnx_program = torch.onnx.export(
        export_program(model),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=list(OUTPUTS),
        verbose=False,
    )
    assert onnx_program is not None
    # Large weights are multiplied with their frozen norms here, or they could not be quantized.
    optimizer.optimize(
        onnx_program.model, input_size_limit=MOST_FOLDED, output_size_limit=MOST_FOLDED
    )
    proto = onnx_program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # where in whose files each node comes from: half a megabyte
    settings = model.inference
    metadata = {
        "class_names": list(model.class_names),
        "mask_threshold": settings.mask_threshold,
        "test_size": settings.test_size,
        "max_size": settings.max_size,
        "smallest_side": smallest_side(model),
    }
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    return proto


def _calibration_images(
    model: BlendMask, precision: str, calibration: Iterable[Tensor]
) -> list[Tensor]:
    """The images, after a check of everything that would fail late."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: must be one of {', '.join(PRECISIONS)}")
    images = list(calibration)
    if precision == "int8" and not images:
        raise ValueError("precision = 'int8': needs images for calibration")
    require_pixels(images)
    least = smallest_side(model)
    for image in images:
        height, width = image.shape[1:]
        if min(height, width) < least:
            raise ValueError(f"calibration: {height} x {width} pixels; a side has at least {least}")
    return images


def _as_input(image: Tensor) -> NDArray[np.float32]:
    """The graph's input, of an image as the model takes it."""
    scale = 255 if image.dtype == torch.uint8 else 1
    return (image.float() / scale).numpy()
