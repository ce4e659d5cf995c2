"""Pictures and objects of LVIS, or of data in its format.

Chapter 05 of the course. Gupta et al., "LVIS", section 2. Its thousand and more classes are not
looked for in every picture: each says which classes are known to be absent, and of which only some
objects are marked. Evaluation goes by that.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Self

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_entries import AnnotationFile, index_entries
from blendmask_lite.datasets.coco_files import read_lists, refuse_in
from blendmask_lite.datasets.entries import TEXT, Problem, Report, Rule, entries_by_id, is_id
from blendmask_lite.datasets.lvis_classes import find_coco_classes

__all__ = ["CocoClassesOfLvis", "LvisDataset"]

ABSENT, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"
ID_LIST = Rule(
    "a list of whole numbers", lambda value: isinstance(value, list) and all(map(is_id, value))
)
IMAGE = {"coco_url": Rule(TEXT.words, TEXT.holds, is_required=False), ABSENT: ID_LIST}
IMAGE |= {PARTIAL: ID_LIST}
CATEGORY = {
    "name": TEXT,
    "frequency": Rule('"r", "c" or "f"', lambda value: value in ("r", "c", "f")),
}


class LvisDataset(CocoDataset):
    """A split of LVIS.

    ROOT/annotations/lvis_SPLIT.json describes it, such as v1_val. The pictures are COCO's, in the
    folders train2017 and val2017 of ROOT or of ROOT/images, to which the address of each points.

    `ground_truth` says what each picture is known not to hold, and for each class whether it is
    rare, common or frequent ("r", "c", "f"); `evaluate_detections` goes by it. There are no
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
        """The same data set with the pictures of one of COCO's folders only.

        Raises:
            ValueError: there are none.
        """
        ids = [n for n in self.image_ids if PurePath(self._images[n]["file_name"]).parts[0] == name]
        if not ids:
            raise ValueError(f"{self.annotation_file}: has no pictures of the folder {name}")
        return self.select(ids)

    def _read(self) -> AnnotationFile:
        content = read_lists(self.annotation_file, "images", "annotations", "categories")
        report = refuse_in(self.annotation_file)
        categories = entries_by_id("category", content["categories"], CATEGORY, report)
        self._frequencies = {number: each["frequency"] for number, each in categories.items()}
        for image in entries_by_id("image", content["images"], IMAGE, report).values():
            _check_lists(image, self._frequencies, report)
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
    """A split of LVIS with COCO's 80 classes only, under COCO's names and in COCO's order.

    LVIS's outlines are finer than COCO's. A model of COCO's classes is compared with them for the
    AP* of BlendMask, table 11 (PointRend, section 4.1).

    Raises:
        ValueError: see `CocoDataset`; or a class of COCO is none of LVIS, or several.
    """

    def _chosen(
        self, content: AnnotationFile, categories: dict[int, dict[str, Any]]
    ) -> AnnotationFile:
        chosen = find_coco_classes(categories, self.annotation_file)
        for image in content.images.values():
            image |= {key: [n for n in image[key] if n in chosen] for key in (ABSENT, PARTIAL)}
        annotations = {
            image_id: [each for each in every if each["category_id"] in chosen]
            for image_id, every in content.annotations.items()
        }
        return AnnotationFile(images=content.images, annotations=annotations, categories=chosen)


def _check_lists(image: dict[str, Any], known: dict[int, str], report: Report) -> None:
    for key in (ABSENT, PARTIAL):
        unknown = [number for number in image[key] if number not in known]
        if unknown:
            text = f"{key} holds {unknown[0]}, which is not among the file's categories"
            report(Problem("unknown category_id", f"image {image['id']}", text))
