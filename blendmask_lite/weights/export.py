"""The network as one graph, from an image to boxes and masks: `torch.export` and ONNX.

Height and width may vary; the input is one image, not a batch.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator
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
from blendmask_lite.model.output import BlendMaskOutput

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "PRECISIONS",
    "Deployed",
    "Explorable",
    "export_onnx",
    "export_program",
    "smallest_side",
]


OPSET = 20  # deformable convolution needs 19, RoIAlign's half pixels 16
LARGEST_SIDE = 8192  # pixels
OUTPUTS = ("boxes", "scores", "labels", "masks")
EXPLORABLE_OUTPUTS = ("boxes", "scores", "labels", "attentions", "bases", "stride")
# Fields of the config: what equations 1 to 4 need, and how the graph turns the image into its
# input.
EXPLORED_FIELDS = (
    "merger",
    "num_bases",
    "attention_size",
    "mask_size",
    "attention_interpolation",
    "bases_pooling",
    "size_divisor",
    "channel_order",
    "pixel_mean",
    "pixel_std",
)
PRECISIONS = ("float32", "float16", "int8")  # of the weights in an ONNX file
MOST_FOLDED = 2**31  # elements of a constant that may be computed when the file is written


class Deployed(nn.Module):
    """`BlendMask.predict` for one image, without branches that depend on values.

    It stops before pasting, because whole-image masks are much larger than R x R masks and boxes.

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
        output = self.model([image])
        found, index = _find(self.model, output)
        masks = self.model.masks_at(output, index, found.boxes).sigmoid()
        boxes = clip_boxes(found.boxes, (image.shape[1], image.shape[2]))
        place = has_sides(boxes).nonzero()[:, 0]
        return boxes[place], found.scores[place], found.labels[place], masks[place]


class Explorable(nn.Module):
    """The same objects, with the bases and attentions of their masks (equations 1 to 4).

    It is for programs that compute the masks themselves, as `lab/static/equations.js` does in a
    web page.

    Args:
        model: a model with one of the package's mergers; its `inference` settings become constants.
    """

    def __init__(self, model: BlendMask) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Find the objects of one image, and leave their masks to the caller.

        Args:
            image: (3, H, W) float32, RGB, in [0, 1].

        Returns:
            boxes (N, 4) corners, pixels, along which the bases are cropped; they may reach outside
            the image, and are clipped to it before pasting; scores (N,); labels (N,) int64;
            raw attentions (N, A); bases (K, H/s, W/s) of the padded image; stride s, () int64, in
            pixels.
        """
        output = self.model([image])
        found, index = _find(self.model, output)
        attentions = self.model.attentions_at(output, index)
        place = has_sides(clip_boxes(found.boxes, (image.shape[1], image.shape[2]))).nonzero()[:, 0]
        # Computed from a map, because the exporter warns of outputs that are constants.
        stride = found.labels[:0].sum() + self.model.bottom.stride
        return (
            found.boxes[place],
            found.scores[place],
            found.labels[place],
            attentions[place],
            output.bases[0],
            stride,
        )


def _find(model: BlendMask, output: BlendMaskOutput) -> tuple[Proposals, Tensor]:
    """The boxes of one image after suppression, some without area, and their (N, 2) indices."""
    settings = model.inference
    found = suppress(
        _with_two_empty(model.candidates(output, 0)),
        nms_iou=settings.nms_iou,
        max_detections=settings.max_detections,
    )
    return found, torch.stack([torch.zeros_like(found.labels), found.location_index], dim=1)


def _with_two_empty(candidates: Proposals) -> Proposals:
    """Two boxes without area added at the end, which are dropped later with all such boxes.

    Torchvision tells torch.export that suppression keeps at least two boxes, and the graph checks
    this: an image with one object would be an error.
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
    """Smallest side of an image for the graph, in pixels: two cells on the coarsest level.

    A level of one cell would need another graph, because one cell can be broadcast.
    """
    strides = [*model.config.level_strides, LEVEL_STRIDES["p5"]]
    return max(strides) + 1


@torch.no_grad()
def export_program(model: BlendMask, *, explore: bool = False) -> ExportedProgram:
    """The model as a `torch.export` graph: `program.module()(image)`; see `Deployed`.

    Args:
        model: a model in evaluation mode. The image's height and width may be anything from
            `smallest_side` to 8192 pixels.
        explore: return bases and attentions instead of masks; see `Explorable`.

    Raises:
        ValueError: the model is in training mode, or is to be explored but has your own merger.
    """
    if model.training:
        raise ValueError("model: in training mode; call model.eval() first")
    if explore and "merger" in model.own_parts:
        raise ValueError(f"merger {model.own_parts['merger']}: has no equations to explore")
    least = smallest_side(model)
    example = torch.zeros(3, 2 * least, 3 * least, device=model.device)
    sides = {1: Dim("height", min=least, max=LARGEST_SIDE)}
    sides |= {2: Dim("width", min=least, max=LARGEST_SIDE)}
    with _without_torchvisions_warning():
        return torch.export.export(
            Explorable(model) if explore else Deployed(model),
            (example,),
            dynamic_shapes={"image": sides},
            # What cannot be proved for all sizes, such as 64 ceil(W / 32) != 1, is checked later.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextlib.contextmanager
def _without_torchvisions_warning() -> Iterator[None]:
    """Torchvision's NMS calls torch by an older name, which no user can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*create_unbacked_symint")
        yield


def export_onnx(
    model: BlendMask,
    path: str | Path,
    *,
    precision: str = "float32",
    calibration: Iterable[Tensor] = (),
    explore: bool = False,
) -> None:
    """Write an ONNX file with the input `image` and the outputs of `Deployed` or `Explorable`.

    The file's metadata have class names, mask threshold and test size as JSON; with `explore`, also
    the settings that equations 1 to 4 need.

    Args:
        model: a model in evaluation mode, on the CPU.
        path: the file to write; it is replaced in one step.
        precision: "float32"; "float16" stores the weights in half the bytes; "int8" also computes
            the convolutions in 8 bits. Inputs and outputs do not change. See `docs/export.md`.
        calibration: some images for "int8", (3, H, W), RGB, float in [0, 1] or uint8. They should
            have the size and content of the images that the model will see.
        explore: write bases and attentions instead of masks; see `Explorable`.

    Raises:
        ImportError: the packages of `pip install "blendmask_lite[export]"` are missing.
        ValueError: the model is in training mode; it is to be explored but has your own merger;
            there is no such precision; or, for "int8", there are no images or one is too small.
    """
    images = _checked_images(model, precision, calibration)
    try:
        import onnxscript.optimizer  # noqa: F401  # torch.onnx needs it, and says so in ten lines

        from blendmask_lite.weights import quantization
    except ImportError:
        raise ImportError('ONNX needs packages: pip install "blendmask_lite[export]"') from None
    proto = _onnx_graph(model, explore=explore)
    if precision == "float16":
        quantization.store_in_float16(proto)
    elif precision == "int8":
        proto = quantization.quantize_convolutions(proto, map(_as_input, images))
    write_atomically(Path(path), proto.SerializeToString())


def _onnx_graph(model: BlendMask, *, explore: bool) -> ModelProto:
    """The model in float32, with its metadata."""
    from onnxscript import optimizer

    program = export_program(model, explore=explore)
    with _without_torchvisions_warning():
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(EXPLORABLE_OUTPUTS if explore else OUTPUTS),
            optimize=False,  # done below, with larger limits
            verbose=False,
        )
    assert onnx_program is not None
    # Large weights are folded with their frozen norms, too; otherwise they could not be quantized.
    optimizer.optimize(
        onnx_program.model, input_size_limit=MOST_FOLDED, output_size_limit=MOST_FOLDED
    )
    proto = onnx_program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # the source line of each node: half a megabyte
    settings = model.inference
    metadata: dict[str, object] = {
        "class_names": list(model.class_names),
        "mask_threshold": settings.mask_threshold,
        "test_size": settings.test_size,
        "max_size": settings.max_size,
        "smallest_side": smallest_side(model),
    }
    if explore:
        metadata |= {field: getattr(model.config, field) for field in EXPLORED_FIELDS}
        metadata["stride"] = model.bottom.stride
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    return proto


def _checked_images(
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
    """The graph's input made from an image that the model accepts."""
    scale = 255 if image.dtype == torch.uint8 else 1
    return (image.float() / scale).numpy()
