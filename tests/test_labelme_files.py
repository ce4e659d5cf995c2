"""`data labelme` reads what labelme itself has written.

The files in `labelme_files/` were saved by labelme 6.3.1: shapes drawn with the mouse in its
window, and a draft of ours whose flag was unticked there. The expected numbers are the pixels that
were clicked. Only the mask was set without the mouse, because labelme's AI tools download models.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.labelme import convert_labelme
from blendmask_lite.masks import mask_parts
from blendmask_lite.polygons import labelme_file

FILES = Path(__file__).parent / "labelme_files"


@pytest.fixture
def put(tmp_path):
    """Puts a file of labelme's, and a black image, into the folder `photos`."""

    def put_file(name: str, **changes: object) -> dict:
        content = json.loads((FILES / f"{name}.json").read_text()) | changes
        path = tmp_path / "photos" / "labels" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        picture = Image.new("RGB", (content["imageWidth"], content["imageHeight"]))
        picture.save(path.parent / content["imagePath"])
        return content

    return put_file


@pytest.fixture
def converted(tmp_path):
    def convert() -> CocoDataset:
        convert_labelme(tmp_path / "photos", tmp_path / "coco")
        return CocoDataset(tmp_path / "coco")

    return convert


def test_every_kind_of_shape_with_an_area_has_the_place_where_it_was_drawn(put, converted):
    kinds = [shape["shape_type"] for shape in put("kinds")["shapes"]]
    found = converted()
    assert found.class_names == ("cat", "dog", "mask")
    target = found.load(0).target
    wanted = {
        "polygon": (0, (10, 10, 30, 30), 400),
        "rectangle": (0, (40, 10, 60, 30), 400),
        "oriented_rectangle": (0, (70, 10, 100, 40), 20**2 + 10**2),
        "circle": (0, (15, 50, 35, 70), math.pi * 10**2),
        "two polygons of a group": (1, (45, 50, 70, 60), 200),
        "mask": (2, (80, 60, 92, 68), 8 * 12 - 4 * 6),
    }
    assert set(kinds) == set(wanted) - {"two polygons of a group"}
    assert target.labels.tolist() == [label for label, _, _ in wanted.values()]
    assert target.boxes.tolist() == [list(box) for _, box, _ in wanted.values()]
    areas = target.masks.sum(dim=(1, 2)).tolist()
    assert areas == pytest.approx([area for _, _, area in wanted.values()], rel=0.01)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_kind_of_shape_without_an_area_is_named(number, put, converted):
    shape = json.loads((FILES / "lines.json").read_text())["shapes"][number]
    assert shape["shape_type"] == ("line", "linestrip", "point")[number]
    put("lines", shapes=[shape])
    with pytest.raises(ValueError, match=f"shape_type = '{shape['shape_type']}': has no area"):
        converted()


def test_an_image_whose_only_shape_was_deleted_has_no_object(put, converted):
    put("kinds")
    assert put("empty")["shapes"] == []
    found = converted()
    assert [len(sample.target.labels) for sample in found] == [0, 6]


def test_a_draft_comes_back_from_labelme_as_it_was_sent_without_its_flag(put, converted):
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    distance = torch.hypot(x - 20, y - 20)
    masks = torch.stack([(distance < 16) & (distance > 6), (x > 45) & (y > 10) & (y < 30)])
    sent = labelme_file(
        mask_parts(masks),
        ["ring", "bar"],
        (40, 60),
        image_path="../draft.png",
        descriptions=["0.612", "0.45"],
        is_draft=True,
    )
    back = put("corrected")
    assert back == sent | {"flags": {"draft": False}}
    assert [shape["group_id"] for shape in back["shapes"]] == [1, 1, None]
    found = converted()
    assert found.class_names == ("bar", "ring")
    assert found.load(0).target.labels.tolist() == [1, 0]
