"""Pictures of a COCO split whose annotations a server keeps, such as test-dev2017.

Chapter 05 of the course. There is nothing to learn from or to evaluate on, but detections can be
written for the server.
"""

from __future__ import annotations

from typing import Any

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_entries import AnnotationFile, index_entries
from blendmask_lite.datasets.coco_files import read_lists, refuse_in

__all__ = ["ImageListDataset"]


class ImageListDataset(CocoDataset):
    """A split of a COCO folder without annotations; its samples hold no objects.

    ROOT/annotations/image_info_SPLIT.json lists pictures and categories. The pictures are looked
    for as those of `CocoDataset`; COCO's test-dev2017 has its own in the folder test2017.
    """

    _prefix = "image_info_"

    def ground_truth(self) -> dict[str, Any]:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.annotation_file}: has no annotations, so there are no scores")

    def _read(self) -> AnnotationFile:
        content = read_lists(self.annotation_file, "images", "categories")
        return index_entries(content | {"annotations": []}, refuse_in(self.annotation_file))
