"""LVIS: its images, objects and class frequencies, and the 80 of its classes that COCO has."""

from __future__ import annotations

from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Self

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_entries import (
    TEXT,
    AnnotationFile,
    Rule,
    entries_by_id,
    index_entries,
    is_id,
    read_lists,
    refuse_in,
)
from blendmask_lite.weights.zoo import COCO_THINGS

__all__ = ["LVIS_NAMES", "CocoClassesOfLvis", "LvisDataset", "find_coco_classes"]

ABSENT, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"
ID_LIST = Rule(
    "a list of whole numbers", lambda value: isinstance(value, list) and all(map(is_id, value))
)
ADDRESS = Rule(TEXT.words, TEXT.holds, is_required=False)
IMAGE = {"coco_url": ADDRESS, ABSENT: ID_LIST, PARTIAL: ID_LIST}
CATEGORY = {
    "name": TEXT,
    "frequency": Rule('"r", "c" or "f"', lambda value: value in ("r", "c", "f")),
}
# LVIS v1 uses COCO's names for 59 of COCO's classes, but with underscores; these have other names.
OTHER_NAMES = {
    **{"car": "car_(automobile)", "bus": "bus_(vehicle)", "train": "train_(railroad_vehicle)"},
    **{"fire hydrant": "fireplug", "tie": "necktie", "skis": "ski", "sports ball": "ball"},
    **{"wine glass": "wineglass", "orange": "orange_(fruit)", "hot dog": "sausage"},
    **{"donut": "doughnut", "couch": "sofa", "potted plant": "flowerpot", "tv": "television_set"},
    **{"laptop": "laptop_computer", "mouse": "mouse_(computer_equipment)"},
    **{"remote": "remote_control", "keyboard": "computer_keyboard"},
    **{"cell phone": "cellular_telephone", "microwave": "microwave_oven"},
    **{"hair drier": "hair_dryer"},
}
LVIS_NAMES: MappingProxyType[str, str] = MappingProxyType(
    {name: OTHER_NAMES.get(name, name.replace(" ", "_")) for name in COCO_THINGS}
)


class LvisDataset(CocoDataset):
    """A split of LVIS.

    ROOT/annotations/lvis_SPLIT.json describes the split, for example v1_val. The images are COCO's,
    in the folders train2017 and val2017 of ROOT or of ROOT/images; the URL of each image names the
    folder.

    `ground_truth` has the classes verified to be absent from each image, and whether each class is
    rare, common or frequent ("r", "c", "f"); `evaluate_detections` uses both. There are no
    crowds.
    """

    _prefix = "lvis_"

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of `image_ids` in LVIS's format."""
        content = super().ground_truth()
        for category in content["categories"]:
            category["frequency"] = self._frequencies[category["id"]]
        return content

    def of_folder(self, name: str) -> Self:
        """The same data set with only the images of one COCO folder; ValueError if it has none."""
        ids = [n for n in self.image_ids if PurePath(self._images[n]["file_name"]).parts[0] == name]
        if not ids:
            raise ValueError(f"{self.annotation_file}: has no images of the folder {name}")
        return self.select(ids)

    def _read(self) -> AnnotationFile:
        content = read_lists(self.annotation_file, "images", "annotations", "categories")
        report = refuse_in(self.annotation_file)
        categories = entries_by_id("category", content["categories"], CATEGORY, report)
        self._frequencies = {n: category["frequency"] for n, category in categories.items()}
        for image in entries_by_id("image", content["images"], IMAGE, report).values():
            for key in (ABSENT, PARTIAL):
                if unknown := [n for n in image[key] if n not in categories]:
                    text = f"{key} holds {unknown[0]}, which is not among the file's categories"
                    report("unknown category_id", f"image {image['id']}", text)
            if "coco_url" in image:
                image["file_name"] = "/".join(image["coco_url"].split("/")[-2:])
        for annotation in content["annotations"]:
            if isinstance(annotation, dict):
                annotation["iscrowd"] = 0
        return self._chosen(index_entries(content, report), categories)

    def _chosen(
        self, content: AnnotationFile, categories: dict[int, dict[str, Any]]
    ) -> AnnotationFile:
        return content


class CocoClassesOfLvis(LvisDataset):
    """A split of LVIS with only COCO's 80 classes, under COCO's names and in COCO's order.

    LVIS's outlines are finer than COCO's. Evaluating a model of COCO's classes against them gives
    the AP* of BlendMask, table 11 (PointRend, section 4.1). See `find_coco_classes` for errors.
    """

    def _chosen(
        self, content: AnnotationFile, categories: dict[int, dict[str, Any]]
    ) -> AnnotationFile:
        chosen = find_coco_classes(categories, self.annotation_file)
        for image in content.images.values():
            image |= {key: [n for n in image[key] if n in chosen] for key in (ABSENT, PARTIAL)}
        return content.of_categories(chosen)


def find_coco_classes(categories: dict[int, dict[str, Any]], path: Path) -> dict[int, str]:
    """The categories of LVIS that are COCO's classes: id -> COCO's name, in COCO's order.

    Args:
        categories: id -> category, matched by its "name" or otherwise by one of its "synonyms".
        path: path of the annotation file, for errors.

    Raises:
        ValueError: one of the 80 classes matches no category or several, or two of them match the
            same one.
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
