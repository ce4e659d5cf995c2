"""What `blendmask-lite segment` reads, finds and writes when its options say so."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from blendmask_lite.cli import main
from blendmask_lite.cli.segment_files import FORMATS
from blendmask_lite.datasets.labelme import convert_labelme
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import object_color, rgb255
from blendmask_lite.model.blendmask import BlendMask


@pytest.fixture
def scenes(tmp_path):
    """A folder with two images, and one more in a folder inside it."""
    folder = tmp_path / "scenes"
    (folder / "inner").mkdir(parents=True)
    dataset = ShapesDataset(3, seed=7)
    for number, name in enumerate(("a.png", "b.png", "inner/a.png")):
        pixels = dataset.load(number).image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def segment(images, out, *options):
    """The status of the command with the shipped model of generated shapes."""
    return main(["segment", *map(str, images), "--weights", "nano", "-o", str(out), *options])


def results(out):
    return json.loads((out / "results.json").read_text())


def names_in(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


# ------------------------------------------------------------------ what is read


def test_patterns_and_folders_inside_folders_are_segmented(scenes, out):
    assert segment([scenes], out) == 0
    assert [Path(each["file_name"]).name for each in results(out)["images"]] == ["a.png", "b.png"]
    for words in ([scenes, "--recursive"], [f"{scenes}/**/*.png"]):
        assert segment(words, out.with_name("all")) == 0
        names = [each["file_name"] for each in results(out.with_name("all"))["images"]]
        assert names == [str(scenes / each) for each in ("a.png", "b.png", "inner/a.png")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{scenes}/*.gif"], "{scenes}/*.gif: no file matches"),
        (["{empty}"], "{empty}: a folder without images"),
        (["https://example.org/a.png"], "is an address, and only files are read here"),
        (["{scenes}", "--classes", "rign"], "the model has no class rign; did you mean ring?"),
        (["{scenes}", "--batch-size", "0"], "--batch-size 0: must be at least 1"),
        (["{scenes}", "--max-detections", "0"], "max_detections = 0: must lie between"),
        (["{scenes}", "--nms-iou", "2"], "nms_iou = 2.0: must lie between 0 and 1"),
        (["{scenes}", "--size", "0"], "test_size = 0: must lie between"),
        (["{scenes}", "--size", "90", "--max-size", "60"], "max_size = 60: below test_size = 90"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    words, message, scenes, out, tmp_path, capsys
):
    places = {"scenes": scenes, "empty": tmp_path / "empty"}
    places["empty"].mkdir()
    assert segment([word.format(**places) for word in words], out) == 1
    said = capsys.readouterr().err.strip()
    assert message.format(**places) in said and said.count("\n") == 0
    assert not out.exists()


@pytest.mark.parametrize("written", ["gif", "masks,", "pictures masks"])
def test_an_unknown_format_is_named_with_the_known_ones(written, scenes, out, capsys):
    with pytest.raises(SystemExit):
        segment([scenes], out, "--write", written)
    assert "expected some of pictures,coco,csv,masks,yolo,labelme" in capsys.readouterr().err


# ------------------------------------------------------------------ what is found


def test_classes_and_numbers_of_objects_are_limited(scenes, out):
    assert segment([scenes], out, "--threshold", "0.2") == 0
    everything = results(out)["annotations"]
    assert segment([scenes], out, "--threshold", "0.2", "--max-detections", "2") == 0
    assert [each["image_id"] for each in results(out)["annotations"]] == [1, 1, 2, 2]
    names = {each["id"]: each["name"] for each in results(out)["categories"]}
    found = sorted({names[each["category_id"]] for each in everything})
    assert len(found) > 2
    assert segment([scenes], out, "--threshold", "0.2", "--classes", ",".join(found[:2])) == 0
    chosen = [names[each["category_id"]] for each in results(out)["annotations"]]
    assert sorted(set(chosen)) == found[:2]
    assert len(chosen) == sum(names[each["category_id"]] in found[:2] for each in everything)


def test_what_was_found_is_counted_and_what_was_missed_has_its_score(scenes, out, capsys):
    image = scenes / "a.png"
    assert segment([image], out, "--threshold", "0.1") == 0
    content = results(out)
    names = {each["id"]: each["name"] for each in content["categories"]}
    counts = Counter(names[each["category_id"]] for each in content["annotations"])
    assert max(counts.values()) > 1
    told = ", ".join(f"{name} x {num}" if num > 1 else name for name, num in counts.items())
    assert capsys.readouterr().out == f"{image}: {told}\n"
    least = min(content["annotations"], key=lambda each: each["score"])
    wanted = names[least["category_id"]]
    best = max(
        each["score"]
        for each in content["annotations"]
        if each["category_id"] == least["category_id"]
    )
    for threshold, missed in ((best * 1.5, f"best score {best:.3f}"), (1, "none from 0.5")):
        options = ("--classes", wanted, "--threshold", str(threshold))
        assert segment([image], out, *options) == 0
        said = f"{image}: nothing found ({missed}; --threshold is {threshold:g})\n"
        assert capsys.readouterr().out == said


def test_sizes_batches_and_suppression_reach_the_model(scenes, out, monkeypatch):
    seen = []
    forward = BlendMask.forward

    def noticed(self, images):
        seen.append([tuple(image.shape[1:]) for image in images])
        assert self.inference.nms_iou == 0.3
        assert torch.is_autocast_enabled("cpu")
        return forward(self, images)

    monkeypatch.setattr(BlendMask, "forward", noticed)
    options = ("--size", "64", "--batch-size", "2", "--nms-iou", "0.3", "--precision", "bfloat16")
    assert segment([scenes], out, "--recursive", *options) == 0
    assert seen == [[(64, 64)] * 2, [(64, 64)]]
    assert {(each["height"], each["width"]) for each in results(out)["images"]} == {(128, 128)}


def test_a_batch_leaves_out_only_what_cannot_be_read_or_computed(scenes, out, monkeypatch, capsys):
    (scenes / "aa.png").write_bytes(b"no image")
    Image.new("RGB", (30, 20)).save(scenes / "c.png")
    forward = BlendMask.forward

    def fails(self, images):
        if any(image.shape[1] < image.shape[2] for image in images):
            raise RuntimeError("out of memory")
        return forward(self, images)

    monkeypatch.setattr(BlendMask, "forward", fails)
    assert segment([scenes], out, "--batch-size", "4") == 1
    said = capsys.readouterr()
    assert f"skipped: {scenes / 'aa.png'}: cannot be read" in said.err
    assert f"skipped: {scenes / 'c.png'}: out of memory" in said.err
    assert [each["id"] for each in results(out)["images"]] == [1, 3]
    assert "4/4 images  ETA 0:00" in said.err


# ------------------------------------------------------------------ what is written


def test_every_format_is_written_and_agrees_with_the_others(scenes, out):
    assert segment([scenes / "a.png"], out, "--write", ",".join(FORMATS)) == 0
    assert names_in(out) == [
        "0001_a.png",
        "labelme/a.json",
        "labels/0001_a.txt",
        "masks/0001_a.png",
        "results.csv",
        "results.json",
    ]
    content = results(out)
    entries = content["annotations"]
    names = [each["name"] for each in content["categories"]]
    categories = [names[each["category_id"] - 1] for each in entries]
    with Image.open(out / "masks/0001_a.png") as picture:
        owners = np.asarray(picture)
        colors = np.asarray(picture.convert("RGB"))
    first = coco_mask.decode(entries[0]["segmentation"]).astype(bool)
    assert np.array_equal(owners == 1, first) and owners.max() <= len(entries)
    assert (colors[first] == rgb255(object_color(0))).all() and not colors[owners == 0].any()
    rows = list(csv.DictReader((out / "results.csv").open(newline="")))
    assert [row["class"] for row in rows] == categories
    assert [int(row["area"]) for row in rows] == [
        int(coco_mask.area(each["segmentation"])) for each in entries
    ]
    assert [float(row["score"]) for row in rows] == [each["score"] for each in entries]
    assert {row["file_name"] for row in rows} == {str(scenes / "a.png")}
    lines = (out / "labels/0001_a.txt").read_text().splitlines()
    assert [names[int(line.split()[0])] for line in lines] == categories
    labelme = json.loads((out / "labelme/a.json").read_text())
    assert {each["label"] for each in labelme["shapes"]} == set(categories)
    assert (out / "labelme" / labelme["imagePath"]).resolve() == scenes / "a.png"


def test_a_draft_joins_the_labels_once_its_flag_is_unticked(scenes, tmp_path):
    drafts = scenes / "drafts"
    assert segment([scenes / "a.png"], drafts, "--write", "labelme") == 0
    with pytest.raises(ValueError, match="no label file with a shape, drafts aside"):
        convert_labelme(scenes, tmp_path / "coco")
    draft = drafts / "labelme" / "a.json"
    content = json.loads(draft.read_text())
    draft.write_text(json.dumps(content | {"flags": {"draft": False}}))
    found = convert_labelme(scenes, tmp_path / "coco")
    assert found.num_objects == {"train": len(results(drafts)["annotations"])}
    assert (tmp_path / "coco" / "train" / "a.png").is_file()
    assert segment([scenes / "a.png"], drafts, "--write", "labelme") == 1  # it would be lost


def test_drafts_are_named_as_labelme_looks_for_them_unless_images_share_a_name(scenes, out):
    (scenes / "A.jpg").write_bytes((scenes / "a.png").read_bytes())
    assert segment([scenes / "a.png", scenes / "b.png"], out, "--write", "labelme") == 0
    assert names_in(out) == ["labelme/a.json", "labelme/b.json", "results.json"]
    both = out.with_name("both")
    assert segment([scenes / "a.png", scenes / "A.jpg"], both, "--write", "labelme") == 0
    assert names_in(both) == ["labelme/0001_a.json", "labelme/0002_A.json", "results.json"]


def test_only_the_formats_asked_for_are_written_beside_the_results(scenes, out):
    assert segment([scenes / "a.png"], out, "--write", "yolo") == 0
    assert names_in(out) == ["labels/0001_a.txt", "results.json"]
    other = out.with_name("other")
    assert segment([scenes / "a.png"], other, "--write", "coco") == 0
    assert names_in(other) == ["results.json"]


def test_an_image_without_objects_has_files_too(scenes, out):
    words = ("--write", ",".join(FORMATS), "--threshold", "1")
    assert segment([scenes / "a.png"], out, *words) == 0
    assert (out / "labels/0001_a.txt").read_text() == ""
    with Image.open(out / "masks/0001_a.png") as picture:
        assert picture.size == (128, 128) and not np.asarray(picture).any()
    assert len((out / "results.csv").read_text().splitlines()) == 1


def test_more_objects_than_a_palette_has_are_numbered_as_well(scenes, out, monkeypatch):
    words = ("--write", "masks", "--threshold", "0", "--nms-iou", "1", "--max-detections", "400")
    assert segment([scenes / "a.png"], out, *words) == 0
    assert len(results(out)["annotations"]) > 255
    with Image.open(out / "masks/0001_a.png") as picture:
        owners = np.asarray(picture)
        assert owners.dtype == np.uint16 and owners.max() > 255


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("csv", "results.csv"),
        ("masks", "masks/0001_a.png"),
        ("yolo", "labels/0001_a.txt"),
        ("labelme", "labelme/a.json"),
    ],
)
def test_only_files_of_an_earlier_call_are_replaced_in_every_format(
    written, taken, scenes, out, capsys
):
    image = [scenes / "a.png"]
    assert segment(image, out, "--write", written) == 0
    assert segment(image, out, "--write", f"pictures,{written}") == 0
    assert segment(image, out, "--write", "pictures") == 0
    assert segment(image, out, "--write", written) == 0
    other = out.with_name("other")
    (other / taken).parent.mkdir(parents=True)
    (other / taken).write_bytes(b"precious")
    assert segment(image, other, "--write", written) == 1
    assert (
        f"{taken}: is there already, and results.json names no earlier" in capsys.readouterr().err
    )
    assert (other / taken).read_bytes() == b"precious"


@pytest.mark.parametrize("written", ["pictures", "csv", "masks", "yolo", "labelme"])
def test_a_file_that_was_changed_by_hand_is_kept_and_named(written, scenes, out, capsys):
    image = [scenes / "a.png"]
    assert segment(image, out, "--write", written) == 0
    [draft] = [file for file in out.rglob("*.*") if file.name != "results.json"]
    draft.write_bytes(b"corrected")
    assert segment(image, out, "--write", written) == 1
    assert f"{draft}: was changed after segment wrote it" in capsys.readouterr().err
    assert draft.read_bytes() == b"corrected"


def test_files_of_all_earlier_calls_may_be_replaced(scenes, out):
    for name in ("a.png", "b.png", "a.png"):
        assert segment([scenes / name], out, "--write", "labelme") == 0
    assert [Path(each["file_name"]).name for each in results(out)["images"]] == ["a.png"]
    assert {"labelme/a.json", "labelme/b.json"} < set(names_in(out))


def test_results_that_segment_did_not_write_are_kept(scenes, out, capsys):
    out.mkdir()
    own = json.dumps({"info": {}, "images": [], "annotations": [], "categories": []})
    (out / "results.json").write_text(own)
    assert segment([scenes], out) == 1
    assert "was not written by segment" in capsys.readouterr().err
    assert (out / "results.json").read_text() == own


def test_a_label_file_does_not_replace_an_image_of_the_same_call(scenes, capsys):
    (scenes / "masks").mkdir()
    taken = scenes / "masks" / "0001_a.png"
    taken.write_bytes((scenes / "b.png").read_bytes())
    before = taken.read_bytes()
    assert segment([scenes / "a.png", taken], scenes, "--write", "masks") == 1
    assert "masks/0001_a.png: is one of the images and would be lost" in capsys.readouterr().err
    assert taken.read_bytes() == before


def test_a_table_holds_names_that_are_no_text(scenes, out):
    odd = scenes / "caf\udce9,\n.png"  # a name of another encoding, with a comma and a line end
    odd.write_bytes((scenes / "a.png").read_bytes())
    assert segment([odd], out, "--write", "csv,labelme") == 0
    with (out / "results.csv").open(newline="", errors="surrogateescape") as file:
        assert {row["file_name"] for row in csv.DictReader(file)} == {str(odd)}
