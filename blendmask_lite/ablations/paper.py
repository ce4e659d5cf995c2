"""What the paper measured on COCO: tables 1 to 7, all their columns."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["PAPER_COLUMNS", "PAPER_ROWS", "PAPER_TITLES"]

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

# Column names: "ms" is milliseconds an image on a GTX 1080 Ti, "box AP" and the others percent.
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
