"""Smaller ONNX files: weights in float16, or convolutions in int8.

Both keep inputs, outputs and everything after the head as they are: boxes, suppression and masks
stay float32. `docs/export.md` tells how much accuracy is lost.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, load_model, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

__all__ = ["quantize_convolutions", "store_in_float16"]

LEAST_STORED = 1024  # weights in a tensor; a smaller one, such as a bias, is not worth a node
LARGEST_FLOAT16 = 65504.0


def store_in_float16(proto: ModelProto) -> None:
    """Store the large weights in float16; the runtime converts them back when it loads the file.

    Our choice: computing in float16 would gain nothing on a CPU, which computes convolutions in at
    least float32. A tensor with a weight beyond 65504 stays as it is.

    Args:
        proto: the graph; it is changed in place.
    """
    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < LEAST_STORED:
            continue
        weights = numpy_helper.to_array(tensor)
        if np.abs(weights).max() > LARGEST_FLOAT16:
            continue
        name = tensor.name
        stored = numpy_helper.from_array(weights.astype(np.float16), f"{name}.float16")
        tensor.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def quantize_convolutions(proto: ModelProto, images: Iterable[NDArray[np.float32]]) -> ModelProto:
    """The graph with its convolutions in int8: weights per channel, features per map.

    The ranges of features are measured on the images. Deformable convolutions and the top
    layer stay float32. Our choice: weights have 7 bits, because sums of products may overflow on
    CPUs without VNNI instructions if they have 8. It changes the AP on shapes by 0.2 or less.

    Args:
        proto: the graph that `export_onnx` makes.
        images: (3, H, W) in [0, 1] for calibration, similar to the images that the model will see.
    """
    prepared = ModelProto()
    prepared.CopyFrom(proto)
    _give_own_biases(prepared)
    add_pre_process_metadata(prepared)  # otherwise a warning would recommend what has been done
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            prepared,
            path,
            _Images(images),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantized = load_model(path)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(proto.metadata_props)
    return quantized


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: Iterable[NDArray[np.float32]]) -> None:
        self._left: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of one more run, or None after the last."""
        image = next(self._left, None)
        return None if image is None else {"image": image}


def _give_own_biases(proto: ModelProto) -> None:
    """Copy each convolution's bias under a name of its own.

    The head's layers are used on every level. onnxruntime quantizes a shared bias again for each
    level, and its new names may already be in use: the second `cat_1` would become `cat_11`.
    """
    graph = proto.graph
    biases = {tensor.name: tensor for tensor in graph.initializer}
    shared = set()
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in biases:
            own = TensorProto()
            own.CopyFrom(biases[node.input[2]])
            own.name = f"{node.name}.bias"
            shared.add(node.input[2])
            node.input[2] = own.name
            graph.initializer.append(own)
    used = {name for node in graph.node for name in node.input}
    for name in shared - used:
        graph.initializer.remove(biases[name])
