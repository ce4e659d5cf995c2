"""The photographs that come with a clone: their masks, licences and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from blendmask_lite import files
from blendmask_lite.cli import main
from blendmask_lite.datasets.check import check_folder
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.files import photos_folder
from blendmask_lite.weights.zoo import COCO_THING_IDS, COCO_THINGS

ROOT = Path(__file__).parents[1] / "data" / "photos"
CONTENT = json.loads((ROOT / "annotations" / "instances_photos.json").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
# May be passed on and changed, with the author's name at most.
FREE = {"CC0 1.0", "Public domain", "CC BY 2.0"}

MAX_SIDE = 640  # pixels
MAX_BYTES = 700_000  # of the whole folder
MAX_POINTS = 150  # of a polygon


def all_photos():
    return pytest.mark.parametrize(
        "image", CONTENT["images"], ids=[image["file_name"] for image in CONTENT["images"]]
    )


def test_photographs_are_found_and_open_with_the_labels_of_models_trained_on_coco():
    assert photos_folder() == ROOT
    dataset = CocoDataset(photos_folder())
    assert dataset.split == "photos"
    assert dataset.class_names == COCO_THINGS
    assert dataset.category_ids == COCO_THING_IDS
    assert all(len(sample.target.labels) > 0 for sample in dataset)


def test_without_a_clone_the_error_says_where_photographs_are(monkeypatch, tmp_path):
    package = tmp_path / "blendmask_lite"
    monkeypatch.setattr(files, "files", lambda name: package)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="clone") as error:
        photos_folder()
    assert str(tmp_path / "data" / "photos") in str(error.value)


@pytest.mark.parametrize("place", [".", "notebooks", "beside"])
def test_a_package_that_was_installed_from_a_clone_finds_it_from_the_notebook(
    monkeypatch, tmp_path, place
):
    clone = tmp_path / "beside" / "blendmask_lite"  # as on Colab
    described = clone / "data" / "photos" / "annotations" / "instances_photos.json"
    described.parent.mkdir(parents=True)
    described.write_text("{}")
    (clone / "notebooks").mkdir()
    monkeypatch.setattr(files, "files", lambda name: tmp_path / "site-packages" / "blendmask_lite")
    monkeypatch.chdir(clone.parent if place == "beside" else clone / place)
    assert photos_folder() == clone / "data" / "photos"


def test_data_check_finds_only_that_most_of_the_80_classes_are_not_shown(capsys):
    assert main(["data", "check", str(ROOT), "--decode"]) == 0
    assert "0 errors" in capsys.readouterr().out
    check = check_folder(ROOT, decode=True)
    found = [*check.between.sorted(), *check.splits[0].findings.sorted()]
    known = {"unused category", "category of one object", "gaps between category ids"}
    assert {finding.kind for finding in found} <= known


@all_photos()
def test_photograph_has_author_free_licence_and_source_in_both_files(image):
    licences = {licence["id"]: licence for licence in CONTENT["licenses"]}
    licence = licences[image["license"]]
    assert licence["name"] in FREE
    assert licence["url"].startswith("https://creativecommons.org/")
    row = next(line for line in README.splitlines() if line.startswith(f"| `{image['file_name']}`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 5 and all(cells)
    assert image["author"] and image["author"] in cells[1]
    assert cells[2].lower() == licence["name"].lower()
    package, *origin = image["source"].split("; ")
    assert ", " in package and all(part in cells[3] for part in (package, *origin))


def test_every_file_is_described_and_the_folder_stays_small():
    names = {image["file_name"] for image in CONTENT["images"]}
    assert {path.name for path in (ROOT / "images").iterdir()} == names
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) <= MAX_BYTES


@all_photos()
def test_photograph_is_a_jpeg_of_the_size_in_the_file(image):
    with Image.open(ROOT / "images" / image["file_name"]) as picture:
        assert picture.format == "JPEG" and picture.mode == "RGB"
        assert picture.size == (image["width"], image["height"])
        assert max(picture.size) <= MAX_SIDE
        assert not picture.getexif()  # no camera, no place, no rotation


@all_photos()
def test_masks_lie_in_the_image_and_have_the_areas_and_boxes_of_the_file(image):
    dataset = CocoDataset(ROOT).select([image["id"]])
    objects = [
        annotation
        for annotation in CONTENT["annotations"]
        if annotation["image_id"] == image["id"] and not annotation["iscrowd"]
    ]
    target = dataset.load(0).target
    assert len(objects) == len(target.masks)
    for annotation, mask in zip(objects, target.masks, strict=True):
        for polygon in annotation["segmentation"]:
            x, y = polygon[::2], polygon[1::2]
            assert 3 <= len(x) <= MAX_POINTS
            assert min(x) >= 0 and max(x) <= image["width"]
            assert min(y) >= 0 and max(y) <= image["height"]
        assert annotation["area"] == int(mask.sum())
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        x0, y0 = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - x0, int(rows.max()) + 1 - y0
        assert annotation["bbox"] == [x0, y0, width, height]


@all_photos()
def test_a_pixel_belongs_to_one_object_or_to_a_tie_and_its_wearer(image):
    target = CocoDataset(ROOT).select([image["id"]]).load(0).target
    is_tie = target.labels == COCO_THINGS.index("tie")
    twice = target.masks[~is_tie].sum(dim=0) > 1
    # Outlines of neighbours are rounded apart from each other: seams are at most 2 pixels thick.
    thinned = -torch.nn.functional.max_pool2d(-twice[None, None].float(), 3, stride=1)
    assert thinned.max() == 0
    persons = target.masks[target.labels == COCO_THINGS.index("person")]
    for tie in target.masks[is_tie]:
        assert (tie & persons).flatten(1).sum(dim=1).max() > 0.9 * tie.sum()
