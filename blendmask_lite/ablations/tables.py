"""The rows of the paper's tables 1 to 7 as models for 128-pixel pictures.

Generated shapes are 20 to 60 pixels large, a fifth of COCO's objects at 800 pixels. So R and M are
half of the paper's, and in tables 1 to 6 the bottom module reads one level lower, C2 or P2 in
place of C3 or P3. M = 7 / 2 is rounded to 4. Table 7 is about this very step from stride 8 to 4
and begins at P3, as the paper does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from blendmask_lite.ablations.paper import PAPER_ROWS
from blendmask_lite.config import PRESETS, ModelConfig

__all__ = ["TABLES", "Row", "find_table"]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: what differs, as in `PAPER_ROWS`.
        settings: the same for the toy model: R_K_M and what else differs.
        model: architecture to train.
    """

    name: str
    settings: str
    model: ModelConfig


# Section 4.1: DeepLabV3+ on C3, C5, attentions enlarged by nearest neighbour, no semantic loss.
_START = replace(
    PRESETS["nano"],
    bottom="deeplab",
    bottom_inputs=("c2", "c5"),
    attention_interpolation="nearest",
    semantic_weight=0.0,
)
_PYRAMID = replace(_START, bottom_inputs=("p2", "p5"))
_BILINEAR = replace(_PYRAMID, attention_interpolation="bilinear")
_TABLE_7 = replace(_BILINEAR, bottom_inputs=("p3", "p5"), mask_size=28, attention_size=7)
_SEMANTIC = replace(_TABLE_7, semantic_weight=PRESETS["nano"].semantic_weight)
_WIDE = replace(_SEMANTIC, bottom_channels=2 * _SEMANTIC.bottom_channels)


def _sized(model: ModelConfig, mask_size: int, attention_size: int) -> ModelConfig:
    """`model` with this R and M."""
    return replace(model, mask_size=mask_size, attention_size=attention_size)


_MODELS: dict[int, tuple[ModelConfig, ...]] = {
    1: (
        replace(_sized(_START, 14, 1), merger="weighted_sum", num_bases=32),
        replace(_sized(_START, 14, 7), merger="assembler", num_bases=49),
        _sized(_START, 14, 2),
    ),
    2: tuple(
        _sized(_START, r, m) for r, m in ((14, 1), (14, 2), (14, 4), (28, 2), (28, 4), (28, 7))
    ),
    3: tuple(replace(_sized(_START, 28, 4), num_bases=k) for k in (1, 2, 4, 8)),
    4: tuple(_sized(model, 28, m) for model in (_START, _PYRAMID) for m in (4, 7)),
    5: tuple(_sized(model, 28, m) for model in (_PYRAMID, _BILINEAR) for m in (4, 7)),
    6: tuple(
        replace(_sized(_BILINEAR, r, m), bases_pooling=pooling)
        for pooling in ("pool", "align")
        for r, m in ((14, 4), (28, 7))
    ),
    7: (
        _TABLE_7,
        _SEMANTIC,
        _WIDE,
        replace(_WIDE, bottom_inputs=("p2", "p5")),
        replace(_WIDE, bottom="proto_p3", bottom_inputs=("p3",)),
        replace(
            _SEMANTIC, bottom="proto_fpn", bottom_inputs=("p3", "p4", "p5"), num_bottom_convs=2
        ),
    ),
}


def _settings(model: ModelConfig) -> str:
    size = f"{model.mask_size}_{model.num_bases}"
    if model.merger == "blender":
        size += f"_{model.attention_size}"
    return f"{size}, {'+'.join(model.bottom_inputs).upper()}, width {model.bottom_channels}"


TABLES: MappingProxyType[int, tuple[Row, ...]] = MappingProxyType(
    {
        number: tuple(
            Row(name=name, settings=_settings(model), model=model)
            for name, model in zip(PAPER_ROWS[number], models, strict=True)
        )
        for number, models in _MODELS.items()
    }
)


def find_table(number: int) -> tuple[Row, ...]:
    """The rows of a table.

    Raises:
        ValueError: the paper has no ablation of this number.
    """
    if number not in TABLES:
        raise ValueError(f"table {number}: the ablations are tables {min(TABLES)} to {max(TABLES)}")
    return TABLES[number]
