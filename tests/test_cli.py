"""The command line as its users type it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask, load_model, save_model, shipped_checkpoint
from blendmask_lite.cli import main
from blendmask_lite.cli.options import told_few
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.images import read_image
from blendmask_lite.terminal import counted, printable
from blendmask_lite.training.run import StopRequest
from blendmask_lite.weights.checkpoint import read_checkpoint

HUGE = "1" + 30 * "0"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small COCO-layout folder of generated pictures."""
    folder = tmp_path_factory.mktemp("shapes")
    assert main(["shapes", str(folder), "--images", "4", "--seed", "5"]) == 0
    assert main(["shapes", str(folder), "--images", "2", "--seed", "6", "--split", "val"]) == 0
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A nano model that has learned nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = BlendMask(PRESETS["nano"], inference=replace(PRESET_INFERENCE["nano"]))
    save_model(model, path)
    return path


def test_shapes_do_not_replace_a_data_set_and_leave_nothing_when_refused(tmp_path, capsys):
    data, new = tmp_path / "data", tmp_path / "new"
    assert main(["shapes", str(data), "--images", "1"]) == 0
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert main(["shapes", str(data), "--images", "1", "--seed", "1"]) == 1
    assert "instances_train.json: is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    for words in (["--split", "a/b"], ["--seed", "-1"], ["--size", "31"], ["--images", "0"]):
        assert main(["shapes", str(new), *words]) == 1
        assert not new.exists()
    assert main(["shapes", str(new), "--images", "1", "--size", "32"]) == 0


def test_training_and_evaluating_on_a_folder(root, tmp_path, capsys):
    out = tmp_path / "run"
    options = [
        "--iterations",
        "2",
        "--batch-size",
        "2",
        "--split",
        "train",
        "--validation",
        "val",
        "--size",
        "64",
    ]
    assert main(["train", str(root), "-o", str(out), *options]) == 0
    messages = capsys.readouterr().err
    assert "learning rate 0.0025, scaled to 2 images a step" in messages
    assert " from 4 images: 2 steps of 2 show each 1 times" in messages
    assert "--validation val: 2 images with " in messages and "AP is largely chance" in messages
    assert "2/2" in messages and "ETA 0:00" in messages
    file = tmp_path / "scores.json"
    detections = tmp_path / "detections.json"
    evaluate = ["evaluate", str(out / "model.safetensors"), str(root), "--split", "val"]
    assert main([*evaluate, "--json", str(file), "--results", str(detections)]) == 0
    scores = json.loads(file.read_text())
    assert set(scores) >= {"mask", "box"}
    assert 0 <= scores["mask"]["AP"] <= 100
    assert isinstance(json.loads(detections.read_text()), list)
    said = capsys.readouterr()
    assert "AP50" in said.out
    [warning] = [line for line in said.err.splitlines() if "chance" in line]
    assert warning.startswith("blendmask-lite evaluate: 2 images with ")


@pytest.mark.parametrize(
    ("num_images", "num_objects", "expected"),
    [
        (1, 30, "1 image with 30 objects: on so few, "),
        (30, 1, "30 images with 1 object: on so few, "),
        (19, 20, "19 images with 20 objects: on so few, "),
        (20, 20, ""),
    ],
)
def test_an_ap_of_few_images_or_objects_is_called_chance(num_images, num_objects, expected):
    assert (told_few(num_images, num_objects) or "").startswith(expected)
    assert bool(told_few(num_images, num_objects)) == bool(expected)


def test_training_and_evaluating_on_some_classes_or_on_all_as_one(root, tmp_path, capsys):
    out, scores = tmp_path / "run", tmp_path / "scores.json"
    train = ["train", str(root), "--split", "train", "--iterations", "1", "--batch-size", "1"]
    train += ["--size", "64", "--preset", "nano"]
    assert main([*train, "-o", str(out), "--classes", "ring,star"]) == 0
    assert load_model(out / "model.safetensors").class_names == ("star", "ring")
    evaluate = ["evaluate", str(out / "model.safetensors"), str(root), "--split", "val"]
    assert main(evaluate) == 1
    assert "classes" in capsys.readouterr().err
    assert main([*evaluate, "--classes", "ring,star", "--json", str(scores)]) == 0
    one = [*train, "-o", str(tmp_path / "one"), "--one-class", "--validation", "val"]
    assert main(one) == 0
    assert load_model(tmp_path / "one" / "model.safetensors").class_names == ("object",)
    assert main([*train, "-o", str(tmp_path / "none"), "--classes", "rings"]) == 1
    assert "there is no 'rings'; close to it are ring" in capsys.readouterr().err
    assert main(["evaluate", str(out / "model.safetensors"), "shapes", "--one-class"]) == 1
    assert "--one-class: is for COCO's instances only" in capsys.readouterr().err


def test_weights_bring_their_architecture_unless_a_preset_is_named(root, tmp_path, capsys):
    train = ["train", str(root), "--split", "train", "--iterations", "1", "--batch-size", "1"]
    begin = [*train, "-o", str(tmp_path / "run"), "--size", "64"]
    assert main([*begin, "--preset", "small", "--classes", "ring"]) == 0
    weights = tmp_path / "run" / "model.safetensors"
    assert main([*train, "-o", str(tmp_path / "next"), "--weights", str(weights)]) == 0
    described = json.loads((tmp_path / "next" / "run.json").read_text())
    assert described["preset"] == "small" and described["train"]["train_sizes"] == [192]
    assert main([*train, "-o", str(tmp_path / "other"), "--weights", str(tmp_path / "run")]) == 1
    assert (
        "run: is a folder, expected a checkpoint file, such as model.safetensors in it"
        in capsys.readouterr().err
    )
    model = load_model(weights)
    save_model(BlendMask(replace(model.config, num_bases=7)), weights)
    assert main([*train, "-o", str(tmp_path / "other"), "--weights", str(weights)]) == 1
    assert "has the architecture of no preset; say --preset" in capsys.readouterr().err


def test_a_folder_does_not_take_the_name_of_a_model_of_the_package(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root / "train", tmp_path / "nano")  # as many have a folder `photos`
    assert main(["segment", "nano", "--weights", "nano", "--write", "coco"]) == 0
    train = ["train", str(root), "--split", "train", "--batch-size", "1", "--weights", "nano"]
    assert main([*train, "--iterations", "1", "-o", "run"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["weights"] == "nano"
    assert main(["train", "-o", "run", "--resume", "--weights", "nano", "--iterations", "2"]) == 0


def test_a_folder_named_shapes_is_trained_on_as_any_other(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root, tmp_path / "shapes")
    train = ["train", "shapes", "--iterations", "1", "--batch-size", "1", "--size", "64"]
    told = []
    for folder, words in (("named", ["--split", "train"]), ("generated", [])):
        assert main([*train, *words, "-o", folder]) == 0
        settings = json.loads((tmp_path / folder / "run.json").read_text())["train"]
        told.append((settings["channel_permutation"], settings["evaluate_every"]))
        shutil.rmtree(tmp_path / "shapes", ignore_errors=True)
        monkeypatch.setattr("blendmask_lite.cli.train.VALIDATION_SHAPES", 1)
        monkeypatch.setattr("blendmask_lite.cli.train.NUM_SHAPES", 2)
    assert told == [(False, None), (True, 1)]


TINY_RUN = ("--iterations", "4", "--batch-size", "2", "--size", "64", "--checkpoint-every", "2")


@pytest.fixture(scope="module")
def begun(root, tmp_path_factory):
    """A run of four iterations that was stopped after two, its data, and an undisturbed one."""
    folder = tmp_path_factory.mktemp("begun")
    data = shutil.copytree(root, folder / "data")
    options = [*TINY_RUN, "--split", "train", "--images", "1,3,2", "--seed", "3", "--half"]
    calls = iter(range(1))
    with pytest.MonkeyPatch.context() as stopping:
        stopping.chdir(folder)
        stopping.setattr(StopRequest, "__call__", lambda self: next(calls, None) is None)
        assert main(["train", "data", "-o", str(folder / "run"), *options]) == 130
    assert main(["train", str(data), "-o", str(folder / "whole"), *options]) == 0
    return folder / "run", data, folder / "whole"


@pytest.fixture
def stopped(begun, tmp_path):
    """The same, with the stopped run in a folder of the test's own."""
    out, data, whole = begun
    return shutil.copytree(out, tmp_path / "run"), data, whole


def test_a_run_continues_with_its_folder_alone(stopped, capsys):
    out, data, whole = stopped
    assert main(["train", "-o", str(out), "--resume"]) == 0
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    described = json.loads((out / "run.json").read_text())
    assert described["options"]["root"] == str(data)
    assert described["options"]["images"] == [1, 3, 2]
    assert described["sessions"][-1]["command"] == f"blendmask-lite train -o {out} --resume"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", "4"], "batch_size is 4, was 2"),
        (["--iterations", "3"], "iterations is 3, was 4"),
        (["--seed", "4"], "seed is 4, was 3"),
        (["--split", "val"], "--split is 'val', was 'train'"),
        (["--images", "1,3"], "--images is (1, 3), was [1, 3, 2]"),
        (["--validation", "val"], "--validation is 'val', was None"),
        (["--snapshots", "3"], "--snapshots is 3, was None"),
        (["--tensorboard"], "--tensorboard is 500, was None"),
        (["--watched-pictures", "2"], "--watched-pictures is 2, was None"),
        (["--weights", "other.pt"], "--weights is 'other.pt', was None"),
        (["--preset", "nano_panoptic"], "--preset is 'nano_panoptic', was 'nano'"),
        (["--frozen-stages", "3"], "frozen_stages is 3, was 0"),
        (["--schedule", "photos"], "learning_rate is"),
        (["--classes", "1"], "--classes is ('1',), was None"),
        (["--one-class"], "--one-class is True, was None"),
        (["--deterministic"], "is_deterministic is True, was False"),
    ],
)
def test_a_run_does_not_continue_with_options_that_contradict_its_own(
    words, message, stopped, capsys
):
    out, _, _ = stopped
    before = (out / "run.json").read_bytes()
    capsys.readouterr()
    assert main(["train", "-o", str(out), "--resume", *words]) == 1
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith(f"blendmask-lite train: {out}: cannot continue with other settings")
    assert message in last_line
    assert (out / "run.json").read_bytes() == before


def test_a_run_in_single_precision_does_not_end_in_half(root, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", str(root), "-o", out, *TINY_RUN, "--split", "train"]) == 0
    assert main(["train", "-o", out, "--resume", "--half"]) == 1
    assert "--half is True, was None" in capsys.readouterr().err


def test_a_longer_run_continues_and_is_continued_as_such(stopped, monkeypatch, capsys):
    out, _, _ = stopped
    with monkeypatch.context() as stopping:
        stopping.setattr(StopRequest, "__call__", lambda self: True)
        assert main(["train", "-o", str(out), "--resume", "--iterations", "6"]) == 130
    assert "continues to 6 iterations instead of 4" in capsys.readouterr().err
    assert main(["train", "-o", str(out), "--resume"]) == 0
    assert "instead of" not in capsys.readouterr().err
    assert read_checkpoint(out / "model.safetensors").metadata["iterations"] == 6
    described = json.loads((out / "run.json").read_text())
    change = {"at_iteration": 2, "from_iterations": 4, "to_iterations": 6}
    assert described["made_longer"] == [change]


def test_data_that_moved_is_named_and_can_be_shown(stopped, capsys):
    out, data, whole = stopped
    moved = data.rename(data.with_name("elsewhere"))
    try:
        assert main(["train", "-o", str(out), "--resume"]) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{data}: no such folder; say where the data of this run is now, as ROOT" in said
        assert main(["train", str(moved), "-o", str(out), "--resume"]) == 0
    finally:
        moved.rename(data)  # other tests have the same
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_without_a_run_there_is_nothing_to_continue(tmp_path, capsys):
    assert main(["train", "-o", str(tmp_path / "none"), "--resume"]) == 1
    assert "run.json: is missing; --resume needs ROOT" in capsys.readouterr().err
    (tmp_path / "run.json").write_text('{"train": {}}')
    assert main(["train", "-o", str(tmp_path), "--resume"]) == 1
    assert "does not say how the run was begun" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{")
    assert main(["train", "-o", str(tmp_path), "--resume"]) == 1
    assert "run.json: cannot be read" in capsys.readouterr().err
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    assert main(["train", "-o", str(tmp_path), "--resume"]) == 1
    assert "run.json: is no regular file" in capsys.readouterr().err
    (tmp_path / "run.json").unlink()
    assert main(["train", "-o", str(tmp_path)]) == 1
    assert "ROOT: needed, unless --resume continues a run" in capsys.readouterr().err


def test_only_the_chosen_images_are_trained_on(root, tmp_path):
    options = ["--iterations", "1", "--batch-size", "1", "--split", "train", "--images", "1,3"]
    assert main(["train", str(root), "-o", str(tmp_path), *options]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["num_images"] == 2


def test_training_leaves_out_images_without_objects_unless_they_are_chosen(root, tmp_path):
    folder = shutil.copytree(root, tmp_path / "data")
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    empty = content["images"][0]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != empty]
    file.write_text(json.dumps(content))
    options = ["--iterations", "1", "--batch-size", "1", "--split", "train"]
    assert main(["train", str(folder), "-o", str(tmp_path / "all"), *options]) == 0
    assert json.loads((tmp_path / "all" / "run.json").read_text())["num_images"] == 3
    options += ["--images", str(empty)]
    assert main(["train", str(folder), "-o", str(tmp_path / "chosen"), *options]) == 0
    assert json.loads((tmp_path / "chosen" / "run.json").read_text())["num_images"] == 1


def test_without_a_split_several_are_listed(root, checkpoint, capsys):
    assert main(["evaluate", str(checkpoint), str(root)]) == 1
    message = capsys.readouterr().err
    assert "train" in message and "val" in message and "Traceback" not in message


def test_segment_writes_pictures_and_coco_json_and_says_where(checkpoint, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 255, (60, 90), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "grey.png")
    Image.fromarray(np.dstack([noise] * 4)).save(pictures / "transparent.png")
    Image.fromarray(np.zeros((1, 1, 3), dtype=np.uint8)).save(pictures / "pixel.png")
    out = tmp_path / "out"
    command = ["segment", str(pictures), "--weights", str(checkpoint), "-o", str(out)]
    assert main([*command, "--threshold", "0"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"written to {out}"
    content = json.loads((out / "results.json").read_text())
    assert [image["height"] for image in content["images"]] == [60, 1, 60]
    assert content["annotations"]
    first = content["annotations"][0]
    assert set(first) >= {"id", "image_id", "category_id", "segmentation", "bbox", "score"}
    with Image.open(out / "0001_grey.png") as drawn:
        assert drawn.size == (90, 60)


def test_segment_turns_a_photograph_upright_and_waits_for_no_pipe(checkpoint, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    os.mkfifo(tmp_path / "pipe.png")
    command = ["segment", str(tmp_path / "pipe.png"), str(tmp_path / "turned.jpg")]
    out = tmp_path / "out"
    assert main([*command, "--weights", str(checkpoint), "-o", str(out)]) == 1
    assert "pipe.png: cannot be read as a picture (it is no regular" in capsys.readouterr().err
    [image] = json.loads((out / "results.json").read_text())["images"]
    assert (image["height"], image["width"]) == (60, 40)
    [drawn] = out.glob("*turned*.png")
    with Image.open(drawn) as picture:
        assert picture.size == (40, 60)


@pytest.mark.filterwarnings("default:.*grey values of 16 bits:UserWarning")
def test_a_warning_is_one_line_without_code(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("blendmask_lite.images._warned", [])
    picture = tmp_path / "deep.png"
    Image.fromarray(np.full((40, 60), 9000, dtype=np.uint16)).save(picture)
    command = ["segment", str(picture), "--weights", str(checkpoint), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    line, _ = capsys.readouterr().err.splitlines()  # and where everything was written
    assert line.startswith(f"warning: {picture} has grey values of 16 bits")


def test_segment_names_broken_pictures_and_does_the_others(checkpoint, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(tmp_path / "good.png")
    command = ["segment", str(tmp_path / "broken.jpg"), str(tmp_path / "good.png")]
    out = tmp_path / "out"
    assert main([*command, "--weights", str(checkpoint), "-o", str(out)]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert len(json.loads((out / "results.json").read_text())["images"]) == 1


@pytest.fixture
def pictures(tmp_path):
    """A folder of four pictures of noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        noise = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    return folder


def segment(checkpoint, pictures, out, *options):
    """The status of the command, with so many objects that there is something to write."""
    command = ["segment", str(pictures), "--weights", str(checkpoint), "-o", str(out)]
    return main([*command, "--threshold", "0", *options])


def test_category_ids_of_the_data_are_in_the_results_of_segment_and_evaluate(root, tmp_path):
    folder = shutil.copytree(root, tmp_path / "data")
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for each in content["categories"]:
        each["id"] *= 10
    for each in content["annotations"]:
        each["category_id"] *= 10
    file.write_text(json.dumps(content))
    ids = {each["id"]: each["name"] for each in content["categories"]}
    options = ["--split", "train", "--iterations", "1", "--batch-size", "1"]
    assert main(["train", str(folder), "-o", str(tmp_path / "run"), *options]) == 0
    for name in ("model.safetensors", "last.pt"):
        out = tmp_path / name.partition(".")[0]
        assert segment(tmp_path / "run" / name, folder / "train" / "000000.png", out) == 0
        found = json.loads((out / "results.json").read_text())
        assert {each["id"]: each["name"] for each in found["categories"]} == ids
        assert found["annotations"]
        assert {each["category_id"] for each in found["annotations"]} <= set(ids)
    evaluate = [
        "evaluate",
        str(tmp_path / "run" / "model.safetensors"),
        str(folder),
        "--split",
        "train",
    ]
    threshold = ["--score-threshold", "0", "--results", str(tmp_path / "found.json")]
    assert main([*evaluate, *threshold]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found and {each["category_id"] for each in found} <= set(ids)


def test_a_checkpoint_without_category_ids_counts_them_from_one(checkpoint, tmp_path):
    content = torch.load(shipped_checkpoint(), weights_only=True)
    content.pop("category_ids", None)
    torch.save(content, tmp_path / "old.pt")
    assert load_model(tmp_path / "old.pt").category_ids == tuple(range(1, 9))
    torch.save(content | {"category_ids": ["one"] * 8}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt: category_ids: expected"):
        load_model(tmp_path / "bad.pt")


def test_segment_never_holds_all_masks_of_a_picture(checkpoint, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("blendmask_lite.structures.paste_masks", None)
    monkeypatch.setattr("blendmask_lite.masks.lazy_zeros", None)
    assert segment(checkpoint, pictures, tmp_path / "out") == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(content["annotations"]) > 4


def test_pictures_of_one_name_do_not_share_a_result(checkpoint, pictures, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(pictures / "b.png", tmp_path / "other" / "a.png")
    command = ["segment", str(pictures / "a.png"), str(tmp_path / "other" / "a.png")]
    out = tmp_path / "out"
    assert main([*command, "--weights", str(checkpoint), "-o", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"0001_a.png", "0002_a.png", "results.json"}
    names = [each["file_name"] for each in json.loads((out / "results.json").read_text())["images"]]
    assert names == command[1:]


def test_a_picture_is_not_overwritten_by_the_result_of_another(checkpoint, pictures, capsys):
    taken = pictures / "0001_a.png"
    shutil.move(pictures / "d.png", taken)
    command = ["segment", str(pictures / "a.png"), str(taken), "--weights", str(checkpoint)]
    before = taken.read_bytes()
    assert main([*command, "-o", str(pictures)]) == 1
    assert "0001_a.png: is one of the images and would be lost" in capsys.readouterr().err
    assert taken.read_bytes() == before


def test_only_pictures_of_an_earlier_call_are_replaced(checkpoint, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert segment(checkpoint, pictures, out) == 0
    assert segment(checkpoint, pictures, out) == 0
    (pictures / "e.png").write_bytes((pictures / "d.png").read_bytes())
    (out / "0005_e.png").write_bytes(b"precious")
    assert segment(checkpoint, pictures, out) == 1
    assert "0005_e.png: is there already" in capsys.readouterr().err
    assert (out / "0005_e.png").read_bytes() == b"precious"
    (out / "results.json").write_text("[]")
    assert segment(checkpoint, pictures, out) == 1
    assert "results.json: is there already and was not" in capsys.readouterr().err
    assert (out / "results.json").read_text() == "[]"


def test_results_stay_if_no_picture_can_be_read(checkpoint, pictures, tmp_path):
    out = tmp_path / "out"
    assert segment(checkpoint, pictures, out) == 0
    before = (out / "results.json").read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert segment(checkpoint, tmp_path / "broken.png", out) == 1
    assert (out / "results.json").read_bytes() == before


def test_nothing_found_is_an_empty_list(checkpoint, pictures, tmp_path, capsys):
    assert segment(checkpoint, pictures, tmp_path / "out", "--threshold", "1") == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(content["images"]) == 4 and content["annotations"] == []
    assert "a.png: nothing found" in capsys.readouterr().out
    with (
        Image.open(tmp_path / "out" / "0001_a.png") as drawn,
        Image.open(pictures / "a.png") as own,
    ):
        assert np.array_equal(np.asarray(drawn), np.asarray(own))


def test_segment_counts_pictures_with_the_time_left_and_goes_on_after_a_bad_one(
    checkpoint, pictures, tmp_path, capsys
):
    (pictures / "b.png").write_bytes(b"no picture")
    (pictures / "inner.png").mkdir()
    os.mkfifo(pictures / "pipe.png")
    assert segment(checkpoint, pictures, tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "5/5 images  ETA 0:00" in said.err
    for name in ("b.png", "pipe.png"):
        assert said.err.count(f"skipped: {pictures / name}: cannot be read") == 1
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(each["file_name"]).name for each in content["images"]] == [
        "a.png",
        "c.png",
        "d.png",
    ]
    assert [each["id"] for each in content["images"]] == [1, 3, 4]
    numbers = [each["id"] for each in content["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))


def read_then(action, *, at):
    """A reader of pictures that does something else at one of them."""
    count = iter(range(1, 100))

    def read(path):
        if next(count) == at:
            action()
        return read_image(path)

    return read


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [interrupt, lambda: os.kill(os.getpid(), signal.SIGTERM)])
def test_segment_keeps_what_it_has_when_it_is_stopped(
    stop, checkpoint, pictures, tmp_path, monkeypatch
):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("blendmask_lite.cli.segment.read_image", read_then(stop, at=3))
    assert segment(checkpoint, pictures, tmp_path / "out") == 130
    assert signal.getsignal(signal.SIGTERM) == before
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(each["file_name"]).name for each in content["images"]] == ["a.png", "b.png"]
    drawn = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert drawn == ["0001_a.png", "0002_b.png", "results.json"]


def test_results_are_on_the_disk_while_segment_works(checkpoint, pictures, tmp_path, monkeypatch):
    """So a kill that cannot be caught leaves them, too."""
    seen = []
    results = tmp_path / "out" / "results.json"
    look = read_then(lambda: seen.append(json.loads(results.read_text())), at=2)
    monkeypatch.setattr("blendmask_lite.cli.segment.read_image", look)
    assert segment(checkpoint, pictures, tmp_path / "out") == 0
    assert len(seen[0]["images"]) == 1 and seen[0]["annotations"]


def test_results_are_written_into_a_pipe_once(checkpoint, pictures, tmp_path):
    out, read = tmp_path / "out", []
    out.mkdir()
    os.mkfifo(out / "results.json")
    reader = threading.Thread(target=lambda: read.append((out / "results.json").read_bytes()))
    reader.start()
    time.sleep(0.2)  # a pipe without a reader is refused
    assert segment(checkpoint, pictures, out) == 0
    reader.join(timeout=60)
    assert len(json.loads(read[0])["images"]) == 4


def test_results_of_an_earlier_call_stay_when_nothing_new_was_found(
    checkpoint, pictures, tmp_path, monkeypatch
):
    assert segment(checkpoint, pictures, tmp_path / "out") == 0
    before = (tmp_path / "out" / "results.json").read_bytes()
    monkeypatch.setattr("blendmask_lite.cli.segment.read_image", read_then(interrupt, at=1))
    assert segment(checkpoint, pictures, tmp_path / "out") == 130
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, pictures, capsys):
    model = BlendMask(PRESETS["nano"], class_names=[f"\x1b[31m{i}\u202e" for i in range(8)])
    save_model(model, tmp_path / "model.safetensors")
    shutil.move(pictures / "a.png", pictures / "a\x07.png")
    assert segment(tmp_path / "model.safetensors", pictures, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert not set("\x1b\x07\u202e") & set(said.out + said.err)
    assert "\\x1b[31m" in said.out and "a\\x07.png" in said.out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "missing.pt", "shapes"], "missing.pt"),
        (["evaluate", "{checkpoint}", "missing"], "missing"),
        (["segment", "missing.jpg", "--weights", "{checkpoint}"], "missing.jpg: no such file"),
        (["evaluate", "https://x.org/a.pt", "shapes"], "https://x.org/a.pt: is an address"),
        (["train", "http://x.org/a", "-o", "{tmp}"], "http://x.org/a: is an address"),
        (["data", "check", "http://x.org/a"], "http://x.org/a: is an address"),
        (["data", "labelme", "http://x.org", "-o", "{tmp}"], "http://x.org: is an address"),
        (["segment", "x", "--threshold", "2"], "--threshold 2.0"),
        (["shapes", "{tmp}", "--images", "0"], "--images 0"),
        (["shapes", "{tmp}", "--size", "7"], "7"),
        (["train", "shapes", "-o", "{tmp}", "--learning-rate", "-1"], "learning_rate = -1.0"),
        (["train", "shapes", "-o", "{tmp}", "--threads", "0"], "--threads 0"),
        (["train", "shapes", "-o", "{tmp}", "--device", "quantum"], "--device quantum"),
        (["train", "shapes", "-o", "{tmp}", "--device", "mps"], "--device mps: torch cannot"),
        (["train", "shapes", "-o", "{tmp}", "--device", "meta"], "--device meta: torch cannot"),
        (["train", "shapes", "-o", "{tmp}", "--device", "cuda:99"], "--device cuda:99: torch sees"),
        (
            ["train", "shapes", "-o", "{tmp}", "--threads", "99999999"],
            "--threads 99999999: at most",
        ),
        (["train", "shapes", "-o", "{tmp}", "--workers", "5000"], "--workers 5000: at most"),
        (["train", "shapes", "-o", "{tmp}", "--workers", "-1"], "--workers -1: must be at least 0"),
        (["train", "shapes", "-o", "{tmp}", "--batch-size", "-1"], "batch_size = -1"),
        (["train", "shapes", "-o", "{tmp}", "--batch-size", "0"], "batch_size = 0"),
        (["train", "shapes", "-o", "{tmp}", "--batch-size", HUGE], "batch_size = 1000"),
        (["train", "shapes", "-o", "{tmp}", "--iterations", "0"], "iterations = 0"),
        (["train", "shapes", "-o", "{tmp}", "--iterations", "-5"], "iterations = -5"),
        (["train", "shapes", "-o", "{tmp}", "--iterations", HUGE], "iterations = 1000"),
        (["train", "shapes", "-o", "{tmp}", "--seed", HUGE], "seed = 1000"),
        (["train", "shapes", "-o", "{tmp}", "--snapshots", HUGE], "--snapshots 1000"),
        (["train", "shapes", "-o", "{tmp}", "--watched-pictures", HUGE], "--watched-pictures 1000"),
        (["train", "shapes", "-o", "{tmp}", "--max-size", HUGE], "max_size = 1000"),
        (["train", "shapes", "-o", "{tmp}", "--learning-rate", "nan"], "learning_rate = nan"),
        (["train", "shapes", "-o", "{tmp}", "--learning-rate", "1e99"], "learning_rate = 1e+99"),
        (["train", "shapes", "-o", "{tmp}", "--clip-norm", "nan"], "clip_norm = nan"),
        (["train", "shapes", "-o", "{tmp}", "--jitter", "1,inf"], "jitter = (1.0, inf)"),
        (["train", "shapes", "-o", "{tmp}", "--jitter", "0.005,0.006"], "jitter = (0.005, 0.006)"),
        (["train", "shapes", "-o", "{tmp}", "--max-size", "0"], "max_size = 0"),
        (["evaluate", "{checkpoint}", "shapes", "--size", "1"], "--size 1: must be at least 16"),
        (["evaluate", "{checkpoint}", "shapes", "--images", "0"], "--images 0: must be at least 1"),
        (["evaluate", "{checkpoint}", "shapes", "--images", "-1"], "--images -1: must be"),
        (["train", "shapes", "-o", "{tmp}", "--accumulate", "3"], "accumulate = 3"),
        (["train", "shapes", "-o", "{tmp}", "--frozen-stages", "99"], "frozen_stages = 99"),
    ],
)
def test_bad_input_is_one_line_and_a_status(command, message, checkpoint, tmp_path, capsys):
    places = {"checkpoint": checkpoint, "tmp": tmp_path}
    assert main([word.format(**places) for word in command]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.count("\n") == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "x", "-o", "y", "--preset", "fotos"], "'fotos'; did you mean photos?"),
        (["train", "x", "-o", "y", "--optimizer", "lion"], "'lion'; there are sgd, adamw"),
        (["segmnt", "a.png"], "there is no 'segmnt'; did you mean segment?"),
        (["data", "chek", "x"], "there is no 'chek'; did you mean check?"),
        (["train", "x"], "the following arguments are required: -o/--out"),
        (["train", "x", "-o", "y", "--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_a_word_that_is_not_understood_is_one_line_with_the_closest_known_ones(
    command, message, capsys
):
    with pytest.raises(SystemExit, match="2"):
        main(command)
    said = capsys.readouterr().err.strip()
    assert message in said and said.count("\n") == 0


@pytest.mark.parametrize("ids", ["a", "0,,1", "1.0", "", "0,0"])
def test_ids_that_are_none_are_an_error_that_names_the_option(ids, capsys):
    for command, option in (
        (["evaluate", "model.safetensors", "data", "--ids", ids], "--ids"),
        (["train", "data", "-o", "x", "--images", ids], "--images"),
        (["ablations", "1", "--seeds", ids], "--seeds"),
    ):
        with pytest.raises(SystemExit):
            main(command)
        assert f"argument {option}: {ids!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["train", "shapes", "-o", "x", "--weights", ""], "--weights"),
        (["train", "shapes", "-o", "x", "--weights="], "--weights"),
        (["train", "shapes", "-o", "x", "--backbone-weights", ""], "--backbone-weights"),
        (["train", "shapes", "-o", ""], "-o/--out"),
        (["train", "", "-o", "x"], "ROOT"),
        (["segment", "a.png", ""], "IMAGE"),
        (["segment", "a.png", "--weights", ""], "--weights"),
        (["evaluate", "", "shapes"], "CHECKPOINT"),
        (["evaluate", "a.pt", "shapes", "--json", ""], "--json"),
        (["evaluate", "a.pt", "shapes", "--split", ""], "--split"),
        (["export", "", "-o", "a.onnx"], "CHECKPOINT"),
        (["convert", "a.pth", "-o", ""], "-o/--out"),
        (["data", "check", ""], "ROOT"),
    ],
)
def test_an_empty_value_is_an_error_that_names_the_option(command, named, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert f"argument {named}: is empty" in capsys.readouterr().err


def test_help_lists_every_command():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "blendmask_lite", "--help"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for name in ("train", "evaluate", "segment", "shapes"):
        assert name in shown.stdout


@pytest.mark.parametrize("size", ["1", "15", "640-999999999999", HUGE, "0", "-3"])
def test_a_size_that_nothing_can_be_learned_at_is_refused_at_once(size, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "shapes", "-o", str(tmp_path), f"--size={size}"])
    assert stop.value.code == 2
    assert f"argument --size: '{size}': " in capsys.readouterr().err


def test_unknown_image_ids_are_named(root, tmp_path, capsys):
    assert (
        main(["train", str(root), "-o", str(tmp_path), "--split", "train", "--images", "99"]) == 1
    )
    assert "99" in capsys.readouterr().err


def test_a_name_is_printed_without_what_a_terminal_would_obey():
    assert printable("a\x1b[31mb\r\n\x7f\x9b") == r"a\x1b[31mb\r\n\x7f\x9b"
    assert printable("\u202eabc\u2028\udcff") == r"\u202eabc\u2028\udcff"
    for name in ("", "grüne Tasse", "汉字", "a\u200cb", "👩\u200d🌾", "two words"):
        assert printable(name) == name


def test_one_of_a_kind_is_counted_without_a_plural():
    told = [counted(number, "image") for number in (0, 1, 2)]
    assert told == ["0 images", "1 image", "2 images"]
    assert counted(1, "class", "classes") == "1 class"
    assert counted(3, "class", "classes") == "3 classes"


def run_command(*words, **settings):
    """As a process of its own, without the threads of others."""
    return subprocess.run(
        [sys.executable, "-m", "blendmask_lite", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        **settings,
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line; --debug shows where"),
        (TypeError("no such thing"), "TypeError: no such thing; --debug shows where"),
        (KeyError("name"), "KeyError: 'name'; --debug shows where"),
        (RecursionError("too deep"), "RecursionError: too deep; --debug shows where"),
        (MemoryError(), "not enough memory (of this machine); --debug shows where"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            "not enough memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "9); --debug shows where",
        ),
        (ValueError("file\x1b[2J.json: broken"), "file\\x1b[2J.json: broken"),
        (OSError(28, "No space left on device", "runs/a"), "runs/a: No space left on device"),
    ],
)
def test_any_error_is_one_line_and_with_debug_a_traceback(error, message, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr("blendmask_lite.cli.runs.run", fail)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == f"blendmask-lite runs: {message}\n"
    for words in (["--debug", "runs"], ["runs", "--debug"]):
        with pytest.raises(type(error)):
            main(words)


def test_debug_is_taken_by_commands_of_commands(tmp_path):
    with pytest.raises(ValueError):
        main(["data", "check", str(tmp_path / "nothing"), "--debug"])


def test_a_name_that_the_output_cannot_encode_stops_no_command(monkeypatch):
    """On Windows, a file or a pipe often has an encoding of 256 characters."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    monkeypatch.setattr("blendmask_lite.cli.runs.run", lambda options: print("é 日") or 0)
    assert main(["runs"]) == 0
    assert written.getvalue().split() == [b"\xe9", rb"\u65e5"]


def test_an_interrupted_command_says_so_with_status_130(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("blendmask_lite.cli.runs.run", interrupt)
    assert main(["runs"]) == 130
    assert capsys.readouterr().err == "blendmask-lite runs: interrupted\n"


def test_a_reader_that_left_is_no_error(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "blendmask_lite", "runs", str(tmp_path)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_output_is_no_error(closed, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    command = f'"{sys.executable}" -m blendmask_lite runs "{tmp_path}" {closed}'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_tells_the_statuses():
    shown = run_command("--help").stdout
    for status in ("0  ", "1  ", "2  ", "130  ", "141  "):
        assert f"\n  {status}" in shown
