"""The rows of the paper's tables 1 to 7: results on COCO, and models for 128-pixel images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from blendmask_lite.config import PRESETS, ModelConfig

__all__ = ["PAPER_COLUMNS", "PAPER_ROWS", "PAPER_TITLES", "TABLES", "Row", "find_table"]


PAPER_TITLES: MappingProxyType[int, str] = MappingProxyType(
    {
        1: "merging",
        2: "resolutions of bases and attentions",
        3: "number of bases",
        4: "features that the bottom module reads",
        5: "interpolation of the attentions",
        6: "sampling of the bases",
        7: "bottom module",
    }
)

# Column names: "ms" is milliseconds per image on a GTX 1080 Ti, all others are percentages.
PAPER_COLUMNS: MappingProxyType[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("AP", "AP50", "AP75"),
        2: ("ms", "AP", "APS", "APM", "APL"),
        3: ("AP", "AP50", "AP75"),
        4: ("ms", "AP", "AP50", "AP75"),
        5: ("AP", "AP50", "AP75"),
        6: ("AP", "AP50", "AP75"),
        7: ("ms", "box AP", "AP", "AP50", "AP75"),
    }
)

# Row names say what differs; the numbers follow PAPER_COLUMNS.
PAPER_ROWS: MappingProxyType[int, dict[str, tuple[float, ...]]] = MappingProxyType(
    {
        1: {
            "weighted sum": (29.7, 52.2, 30.1),
            "assembler": (30.3, 52.5, 31.3),
            "blender": (31.6, 53.4, 33.3),
        },
        2: {
            "R 28, M 2": (72.7, 30.6, 14.3, 34.1, 42.5),
            "R 28, M 4": (72.9, 31.6, 14.8, 35.2, 45.0),
            "R 28, M 7": (73.9, 32.0, 15.3, 35.6, 45.0),
            "R 56, M 4": (72.9, 32.5, 14.9, 36.1, 46.0),
            "R 56, M 7": (74.1, 33.1, 15.1, 36.6, 47.7),
            "R 56, M 14": (77.7, 33.3, 16.3, 36.8, 47.4),
        },
        3: {
            "K 1": (30.6, 52.9, 31.6),
            "K 2": (31.2, 53.4, 32.3),
            "K 4": (33.1, 54.1, 34.9),
            "K 8": (33.0, 53.9, 34.9),
        },
        4: {
            "C3, C5, M 7": (74.1, 33.1, 54.1, 34.9),
            "C3, C5, M 14": (77.7, 33.3, 54.1, 35.3),
            "P3, P5, M 7": (72.5, 33.3, 54.2, 35.3),
            "P3, P5, M 14": (76.4, 33.4, 54.3, 35.5),
        },
        5: {
            "nearest, M 7": (33.3, 54.2, 35.3),
            "nearest, M 14": (33.4, 54.3, 35.5),
            "bilinear, M 7": (33.5, 54.3, 35.7),
            "bilinear, M 14": (33.6, 54.6, 35.6),
        },
        6: {
            "nearest, R 28": (30.5, 53.0, 31.6),
            "nearest, R 56": (31.9, 53.6, 33.4),
            "bilinear, R 28": (32.4, 54.4, 34.5),
            "bilinear, R 56": (33.6, 54.6, 35.6),
        },
        7: {
            "DeepLabV3+": (76.5, 38.8, 33.6, 54.6, 35.6),
            "+ semantic loss": (76.5, 39.2, 34.2, 54.9, 36.4),
            "+ twice the width": (78.5, 39.1, 34.3, 54.9, 36.6),
            "+ P2, P5": (86.4, 39.2, 34.4, 55.0, 36.8),
            "Proto-P3": (85.2, 39.0, 34.4, 54.9, 36.8),
            "Proto-FPN": (78.8, 39.1, 34.4, 54.9, 36.8),
        },
    }
)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: what differs from other rows, as in `PAPER_ROWS`.
        settings: settings of the toy model: R_K_M and everything else that differs.
        model: the architecture to train.
    """

    name: str
    settings: str
    model: ModelConfig


# Section 4.1: DeepLabV3+ on C3, C5, attentions upsampled by nearest neighbour, no semantic loss.
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
    """`model` with the given R and M."""
    return replace(model, mask_size=mask_size, attention_size=attention_size)


# By the row's name in PAPER_ROWS. R and M are half the paper's, because pictures are smaller.
_MODELS: dict[int, dict[str, ModelConfig]] = {
    # The contestants in the caption: one attention per base, with the blender's softmax; one base
    # for each of 4 x 4 tiles and no attentions; 28_4_4. YOLACT's and FCIS's own settings differ.
    1: {
        "weighted sum": _sized(_START, 28, 1),
        "assembler": replace(_sized(_START, 28, 4), merger="assembler", num_bases=16),
        "blender": _sized(_START, 28, 4),
    },
    2: {
        "R 28, M 2": _sized(_START, 14, 1),
        "R 28, M 4": _sized(_START, 14, 2),
        "R 28, M 7": _sized(_START, 14, 4),
        "R 56, M 4": _sized(_START, 28, 2),
        "R 56, M 7": _sized(_START, 28, 4),
        "R 56, M 14": _sized(_START, 28, 7),
    },
    3: {f"K {k}": replace(_sized(_START, 28, 4), num_bases=k) for k in (1, 2, 4, 8)},
    4: {
        "C3, C5, M 7": _sized(_START, 28, 4),
        "C3, C5, M 14": _sized(_START, 28, 7),
        "P3, P5, M 7": _sized(_PYRAMID, 28, 4),
        "P3, P5, M 14": _sized(_PYRAMID, 28, 7),
    },
    5: {
        "nearest, M 7": _sized(_PYRAMID, 28, 4),
        "nearest, M 14": _sized(_PYRAMID, 28, 7),
        "bilinear, M 7": _sized(_BILINEAR, 28, 4),
        "bilinear, M 14": _sized(_BILINEAR, 28, 7),
    },
    6: {
        "nearest, R 28": replace(_sized(_BILINEAR, 14, 4), bases_pooling="pool"),
        "nearest, R 56": replace(_sized(_BILINEAR, 28, 7), bases_pooling="pool"),
        "bilinear, R 28": _sized(_BILINEAR, 14, 4),
        "bilinear, R 56": _sized(_BILINEAR, 28, 7),
    },
    7: {
        "DeepLabV3+": _TABLE_7,
        "+ semantic loss": _SEMANTIC,
        "+ twice the width": _WIDE,
        "+ P2, P5": replace(_WIDE, bottom_inputs=("p2", "p5")),
        "Proto-P3": replace(_WIDE, bottom="proto_p3", bottom_inputs=("p3",)),
        "Proto-FPN": replace(
            _SEMANTIC, bottom="proto_fpn", bottom_inputs=("p3", "p4", "p5"), num_bottom_convs=2
        ),
    },
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
            for name, model in ((name, _MODELS[number][name]) for name in names)
        )
        for number, names in PAPER_ROWS.items()
    }
)


def find_table(number: int) -> tuple[Row, ...]:
    """The rows of a table.

    Raises:
        ValueError: the paper has no ablation with this number.
    """
    if number not in TABLES:
        raise ValueError(f"table {number}: the ablations are tables {min(TABLES)} to {max(TABLES)}")
    return TABLES[number]
