"""Which of LVIS's classes COCO's 80 are."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

from blendmask_lite.weights.zoo import COCO_THINGS

__all__ = ["LVIS_NAMES", "find_coco_classes"]

# LVIS v1 calls 59 classes as COCO does, with underscores, and these otherwise.
_OTHERWISE = {
    "car": "car_(automobile)",
    "bus": "bus_(vehicle)",
    "train": "train_(railroad_vehicle)",
    "fire hydrant": "fireplug",
    "tie": "necktie",
    "skis": "ski",
    "sports ball": "ball",
    "wine glass": "wineglass",
    "orange": "orange_(fruit)",
    "hot dog": "sausage",
    "donut": "doughnut",
    "couch": "sofa",
    "potted plant": "flowerpot",
    "tv": "television_set",
    "laptop": "laptop_computer",
    "mouse": "mouse_(computer_equipment)",
    "remote": "remote_control",
    "keyboard": "computer_keyboard",
    "cell phone": "cellular_telephone",
    "microwave": "microwave_oven",
    "hair drier": "hair_dryer",
}
LVIS_NAMES: MappingProxyType[str, str] = MappingProxyType(
    {name: _OTHERWISE.get(name, name.replace(" ", "_")) for name in COCO_THINGS}
)


def find_coco_classes(categories: dict[int, dict[str, Any]], path: Path) -> dict[int, str]:
    """The categories of LVIS that are COCO's classes: id -> COCO's name, in COCO's order.

    A category is found by its name, or else by one of its synonyms.

    Args:
        categories: id -> category with name and, mostly, synonyms.
        path: of their file, for errors.

    Raises:
        ValueError: one of the 80 is no category, or is several, or two of them are the same.
    """
    by_name: dict[str, list[int]] = {}
    by_synonym: dict[str, list[int]] = {}
    for number, category in categories.items():
        by_name.setdefault(category["name"], []).append(number)
        for synonym in category.get("synonyms", ()):
            by_synonym.setdefault(synonym, []).append(number)
    found: dict[int, str] = {}
    for name, lvis_name in LVIS_NAMES.items():
        numbers = by_name.get(lvis_name) or by_synonym.get(lvis_name, [])
        if len(numbers) != 1:
            what = f"{len(numbers)} categories are" if numbers else "no category is"
            raise ValueError(f"{path}: {what} called {lvis_name!r}, COCO's {name!r}")
        if numbers[0] in found:
            raise ValueError(
                f"{path}: category {numbers[0]} is COCO's {found[numbers[0]]!r} and {name!r}"
            )
        found[numbers[0]] = name
    return found
