"""`blendmask-lite evaluate`: tables, files for servers, LVIS."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from blendmask_lite import PRESETS, BlendMask, InferenceConfig
from blendmask_lite.cli import main
from blendmask_lite.datasets.lvis import LVIS_NAMES
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, write_shapes
from blendmask_lite.weights.checkpoint import save_model
from blendmask_lite.weights.zoo import COCO_THINGS

TINY = replace(
    PRESETS["nano"], stem_channels=8, stage_width=8, pyramid_channels=16, bottom_channels=16
)


def write_model(path, class_names):
    """A random model that finds twenty objects in every picture."""
    torch.manual_seed(0)
    model = BlendMask(
        replace(TINY, num_classes=len(class_names)),
        inference=InferenceConfig(
            test_size=64, max_size=107, score_threshold=0.0, max_detections=20
        ),
        class_names=class_names,
    )
    save_model(model, path)
    return str(path)


def squares(number, image_id, category_id, x=10, y=10, side=20):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
        "bbox": [x, y, side, side],
        "area": side * side,
    }


def write_pictures(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        noise = bytes(random.Random(number).choices(range(256), k=64 * 96 * 3))
        Image.frombytes("RGB", (96, 64), noise).save(folder / f"{number:012}.jpg")


@pytest.fixture
def shapes_root(tmp_path):
    write_shapes(tmp_path / "shapes", num_images=2, seed=2)
    return tmp_path / "shapes"


def test_a_row_for_each_class_is_printed_and_stored(shapes_root, tmp_path, capsys):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    report = tmp_path / "report.json"
    arguments = ["evaluate", model, str(shapes_root), "--per-class", "--json", str(report)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    head = lines.index(next(line for line in lines if line.startswith("class ")))
    assert [line.split()[0] for line in lines[head + 1 :]] == list(SHAPE_CLASSES)
    classes = json.loads(report.read_text())["classes"]
    truth = json.loads(next((shapes_root / "annotations").glob("*.json")).read_text())
    for number, each in enumerate(classes, start=1):
        own = [entry for entry in truth["annotations"] if entry["category_id"] == number]
        assert each["num_objects"] == len(own)
        assert (each["mask"]["AP"] is None) == (not own)
        assert set(each["mask"]) == set(each["box"]) == {"AP", "AP50", "AP75"}
    # Some of the 20 detections of a picture may have no pixel and are left out.
    assert 30 <= sum(each["num_detections"] for each in classes) <= 40


def test_data_without_objects_gives_its_results_and_a_status(shapes_root, tmp_path, capsys):
    model = write_model(tmp_path / "model.pt", SHAPE_CLASSES)
    path = next((shapes_root / "annotations").glob("*.json"))
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:1]
    path.write_text(json.dumps(content))
    file = tmp_path / "found.json"
    arguments = ["evaluate", model, str(shapes_root), "--results", str(file)]
    assert main(arguments) == 0
    assert capsys.readouterr().err.count("no evaluated image has an object") == 0
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    file.unlink()
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == ["mask", *("-" * 7)]
    assert "nothing could be measured: no evaluated image has an object" in said.err
    assert 30 <= len(json.loads(file.read_text())) <= 40


def test_a_damaged_true_mask_is_refused_before_the_work(shapes_root, tmp_path, capsys, monkeypatch):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    path = next((shapes_root / "annotations").glob("*.json"))
    content = json.loads(path.read_text())
    content["annotations"][3]["segmentation"] = {"size": [64, 256], "counts": [16384]}
    path.write_text(json.dumps(content))
    monkeypatch.delattr(BlendMask, "predict")
    assert main(["evaluate", model, str(shapes_root)]) == 1
    number = content["annotations"][3]["id"]
    assert f"{path}: annotation {number}: segmentation: for [64, 256]" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_images_and_say_the_results_once(shapes_root, tmp_path):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    arguments = ["evaluate", model, str(shapes_root), "--device", "cpu", "--json"]
    assert main([*arguments, str(tmp_path / "alone.json")]) == 0
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = str(chosen.getsockname()[1])
    # As torchrun starts them.
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "blendmask_lite", *arguments, str(tmp_path / "two.json")],
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), **shared},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [each.communicate(timeout=240) for each in processes]
    assert [each.returncode for each in processes] == [0, 0], said
    assert "AP50" in said[0][0] and "1/1" in said[0][1]  # one of the two images
    assert said[1] == ("", "")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "alone.json").read_bytes()


def test_options_change_how_many_objects_are_found(shapes_root, tmp_path):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    file = tmp_path / "found.json"
    arguments = ["evaluate", model, str(shapes_root), "--results", str(file)]
    assert main([*arguments, "--max-detections", "3"]) == 0
    assert 4 <= len(json.loads(file.read_text())) <= 6
    assert main([*arguments, "--score-threshold", "1"]) == 0
    assert json.loads(file.read_text()) == []


@pytest.fixture
def hidden_root(tmp_path):
    """COCO's test-dev2017: a list of pictures and categories, pictures in test2017/."""
    root = tmp_path / "coco"
    write_pictures(root / "test2017", [1, 19])
    content = {
        "info": {},
        "images": [
            {"id": number, "file_name": f"{number:012}.jpg", "height": 64, "width": 96}
            for number in (1, 19)
        ],
        "licenses": [],
        "categories": [
            {"supercategory": "x", "id": number, "name": name}
            for number, name in zip(range(2, 18, 2), SHAPE_CLASSES, strict=True)
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content))
    return root


def test_detections_of_a_split_without_annotations_are_written_for_its_server(
    hidden_root, tmp_path, capsys
):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    arguments = ["evaluate", model, str(hidden_root), "--split", "test-dev2017"]
    assert main([*arguments, "--results", str(tmp_path / "sent")]) == 0
    assert "There are no scores" in capsys.readouterr().out
    path = tmp_path / "sent" / "detections_test-dev2017_blendmask_results.json"
    with zipfile.ZipFile(path.with_suffix(".zip")) as archive:
        assert archive.namelist() == [path.name]  # no folder
        assert archive.read(path.name) == path.read_bytes()
    entries = json.loads(path.read_text())
    assert len(entries) > 20
    assert {each["image_id"] for each in entries} == {1, 19}
    assert {each["category_id"] for each in entries} <= set(range(2, 18, 2))

    # The official tools read them, and take the areas from the masks.
    images = COCO(str(hidden_root / "annotations" / "image_info_test-dev2017.json"))
    found = images.loadRes(str(path))
    assert len(found.anns) == len(entries)
    for each in found.anns.values():
        assert each["area"] == found.annToMask(each).sum()


def test_a_name_that_the_server_would_not_take_is_refused_before_the_work(
    hidden_root, tmp_path, capsys
):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    arguments = ["evaluate", model, str(hidden_root), "--split", "test-dev2017", "--results"]
    assert main([*arguments, str(tmp_path / "mine.json")]) == 1
    assert "detections_test-dev2017_NAME_results.json" in capsys.readouterr().err
    name = tmp_path / "detections_test-dev2017_mine_results.json"
    assert main([*arguments, str(name)]) == 0
    assert name.is_file() and name.with_suffix(".zip").is_file()


@pytest.mark.parametrize("more", [[], ["--results", "x", "--per-class"]])
def test_scores_of_a_split_without_annotations_are_refused(hidden_root, tmp_path, capsys, more):
    model = write_model(tmp_path / "model.safetensors", SHAPE_CLASSES)
    assert main(["evaluate", model, str(hidden_root), "--split", "test-dev2017", *more]) == 1
    assert "test-dev2017 has no annotations, so there are no scores" in capsys.readouterr().err


def write_lvis(root, names):
    write_pictures(root / "val2017", [1, 2])
    images = [
        {
            "id": number,
            "coco_url": f"http://images.cocodataset.org/val2017/{number:012}.jpg",
            "height": 64,
            "width": 96,
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
        for number in (1, 2)
    ]
    categories = [
        {"id": number, "name": name, "synonyms": [name], "frequency": "rcf"[number % 3]}
        for number, name in enumerate(names, start=1)
    ]
    content = {"images": images, "categories": categories}
    content["annotations"] = [squares(1, 1, 1), squares(2, 2, len(names))]
    (root / "annotations").mkdir()
    (root / "annotations" / "lvis_v1_val.json").write_text(json.dumps(content))


def test_lvis_is_evaluated_by_its_own_rules_with_up_to_300_detections(tmp_path, capsys):
    names = ("wolf", "mug", "kayak")
    write_lvis(tmp_path / "lvis", names)
    model = write_model(tmp_path / "model.safetensors", names)
    file = tmp_path / "found.json"
    arguments = ["evaluate", model, str(tmp_path / "lvis"), "--split", "lvis_v1_val"]
    assert main([*arguments, "--results", str(file)]) == 0
    assert capsys.readouterr().out.split()[:10] == [
        *("AP", "AP50", "AP75", "APS", "APM", "APL", "APr", "APc", "APf", "AR300")
    ]
    assert 100 < len(json.loads(file.read_text())) <= 600


def test_a_model_of_cocos_classes_is_evaluated_on_lvis(tmp_path, capsys):
    names = sorted(LVIS_NAMES.values())
    write_lvis(tmp_path / "lvis", [*names, "wolf"])
    model = write_model(tmp_path / "model.safetensors", COCO_THINGS)
    report = tmp_path / "report.json"
    arguments = ["evaluate", model, str(tmp_path / "lvis"), "--coco-classes"]
    assert main([*arguments, "--json", str(report)]) == 0
    numbers = json.loads(report.read_text())
    assert [each["name"] for each in numbers["classes"]] == list(COCO_THINGS)
    # Category 1 is the first of the sorted names, an airplane; the wolf is no class of COCO's.
    counted = {each["name"]: each["num_objects"] for each in numbers["classes"]}
    assert names[0] == "airplane"
    assert counted.pop("airplane") == 1 and not any(counted.values())
    # All pictures are of val2017.
    assert main([*arguments, "--folder", "val2017"]) == 0
    assert main([*arguments, "--folder", "train2017"]) == 1
    assert "no images of the folder train2017" in capsys.readouterr().err
    # Without the option, the classes do not fit.
    assert main(["evaluate", model, str(tmp_path / "lvis"), "--split", "lvis_v1_val"]) == 1
    assert "the model knows 80 classes" in capsys.readouterr().err
