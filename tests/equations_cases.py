"""Cases for lab/static/equations.js: questions as JSON, and the package's own answers.

They are drawn when the tests run, for every R, M, K, interpolation, pooling and method. Tensors
are float32 in base64.
"""

from __future__ import annotations

import base64
from itertools import product
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.boxes import clip_boxes
from blendmask_lite.masks import paste_parts
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum, crop_bases

TOLERANCE = 1e-4
MASK_SIZES, ATTENTION_SIZES, NUM_BASES = (1, 7, 14, 28, 56), (1, 2, 3, 7, 14), (1, 2, 4, 9)
BASES_SIZES = ((16, 16), (11, 27))  # (H, W), cells
STRIDES = (4, 8)
# Inside the image, across its border, outside it, thinner than a cell, and the whole image and
# more; as fractions of the image's sides.
BOXES = (
    (0.2, 0.3, 0.7, 0.9),
    (-0.3, -0.2, 0.4, 0.5),
    (0.8, 0.6, 1.6, 1.4),
    (1.2, 1.2, 1.5, 1.6),
    (0.5, 0.5, 0.502, 0.9),
    (-0.1, -0.1, 1.1, 1.1),
)


def drawn_cases() -> list[dict[str, Any]]:
    """All questions with their answers: plain values."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    sizes = product(MASK_SIZES, ATTENTION_SIZES, NUM_BASES)
    for number, (R, M, K) in enumerate((R, M, K) for R, M, K in sizes if M <= R):
        H, W = BASES_SIZES[number % 2]
        stride = STRIDES[number // 2 % 2]
        bases = 6 * torch.randn(K, H, W, generator=generator)
        share = torch.tensor(BOXES[number % len(BOXES)])
        box = share * torch.tensor([W, H, W, H]) * stride
        shape: dict[str, Any] = {"bases": bases, "stride": stride, "box": box, "R": R, "M": M}
        attentions = 4 * torch.randn(K * M * M, generator=generator)
        for interpolation in ("bilinear", "nearest"):
            merger = Blender(num_bases=K, attention_size=M, mode=interpolation)
            words = {"method": "blender", "interpolation": interpolation}
            cases.append(_case(merger, attentions, words | shape))
        if M > 1:
            continue
        coefficients = 2 * torch.randn(K, generator=generator)
        for is_yolact in (False, True):
            summed = WeightedSum(num_bases=K, has_tanh=is_yolact, has_relu=is_yolact)
            words = {"method": "weighted_sum", "hasTanh": is_yolact, "hasRelu": is_yolact}
            cases.append(_case(summed, coefficients, words | shape))
        pooled = {"method": "weighted_sum", "pooling": "pool"}
        cases.append(_case(WeightedSum(num_bases=K), coefficients, pooled | shape))
        if K in (1, 4, 9):
            tiles = {"method": "assembler"}
            cases.append(_case(Assembler(num_bases=K), torch.zeros(0), tiles | shape))
    return cases


def _case(
    merger: Blender | WeightedSum | Assembler, numbers: Tensor, question: dict[str, Any]
) -> dict[str, Any]:
    bases, box, R, stride = (question[name] for name in ("bases", "box", "R", "stride"))
    K, H, W = bases.shape
    image_size = (H * stride - 3, W * stride - 1)  # the padded image ends at the last cell
    crops = crop_bases(
        bases[None],
        box[None],
        torch.zeros(1, dtype=torch.int64),
        size=R,
        stride=stride,
        pooling=question.get("pooling", "align"),
    )
    logits = merger(crops, numbers[None])
    shown = crops.relu() if question.get("hasRelu") else crops
    scores = merger.scores(numbers[None], R)
    clipped = clip_boxes(box[None], image_size)
    pasted = torch.zeros(image_size, dtype=torch.bool)
    (region, part), *_ = paste_parts(logits, clipped, image_size)
    pasted[region] = part
    answer = {
        "crops": shown[0],
        "scores": scores[0],
        "products": (shown * scores)[0],
        "logits": logits[0],
        "probabilities": logits[0].sigmoid(),
        "pasted": pasted,
    }
    plain = {
        name: _encoded(value) if isinstance(value, Tensor) else value
        for name, value in question.items()
    }
    return plain | {
        "K": K,
        "H": H,
        "W": W,
        "box": box.tolist(),
        "numbers": _encoded(numbers),
        "imageSize": image_size,
        "answer": {name: _encoded(value) for name, value in answer.items()},
    }


def _encoded(values: Tensor) -> str:
    return base64.b64encode(values.float().contiguous().numpy().tobytes()).decode()
