"""Outputs: links, pipes and devices, permissions, and what cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blendmask_lite import PRESETS, BlendMask, save_model
from blendmask_lite.cli import main
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, STUFF_CLASSES, write_shapes
from blendmask_lite.files import (
    SHIPPED_MODELS,
    find_checkpoint,
    require_folder,
    require_writable,
    shipped_checkpoint,
    write_atomically,
)


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "numbers.json"
    target.write_bytes(b"old")
    link = tmp_path / "link.json"
    link.symlink_to("real/numbers.json")
    second = tmp_path / "second.json"
    second.symlink_to("link.json")
    require_writable(second)
    assert target.read_bytes() == b"old"
    write_atomically(second, b"new")
    assert link.is_symlink() and second.is_symlink()
    assert target.read_bytes() == b"new"
    assert not leftovers(tmp_path)


def test_a_link_to_a_file_that_is_not_there_yet_makes_that_file(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "later" / "numbers.json")
    require_writable(link)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "later" / "numbers.json").read_bytes() == b"new"


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "private.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_before_the_work_an_output_folder_is_made_but_none_for_an_output_file(tmp_path):
    path = tmp_path / "a" / "b" / "numbers.json"
    require_writable(path)
    assert list(tmp_path.iterdir()) == []
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    require_folder(tmp_path / "c" / "d")
    assert list((tmp_path / "c" / "d").iterdir()) == []


@pytest.mark.parametrize("missing", [(), ("O_NONBLOCK", "set_blocking")])  # as on Windows
def test_a_device_is_written_to_and_stays_a_device(missing, monkeypatch):
    for name in missing:
        monkeypatch.delattr(os, name)
    null = Path("/dev/null")
    require_writable(null)
    write_atomically(null, b"new")
    assert null.is_char_device()


def test_a_full_device_is_noticed_before_the_work():
    full = Path("/dev/full")
    for write in (require_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(OSError, match=r"/dev/full: cannot be written .No space left") as caught:
            write(full)
        assert caught.value.errno == errno.ENOSPC
    assert full.is_char_device()


def test_a_pipe_gets_the_bytes_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    while True:
        try:
            require_writable(pipe)  # must not end the reader
            break
        except OSError as error:  # the reader has not opened it yet
            assert error.errno == errno.ENXIO
    assert not received
    content = bytes(range(256)) * 1000  # more than a pipe holds
    write_atomically(pipe, content)
    reader.join(timeout=60)
    assert received == [content]
    assert pipe.is_fifo()


def test_a_pipe_without_a_reader_is_an_error_and_no_wait(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (require_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(OSError, match=r"pipe: cannot be written .nobody reads"):
            write(pipe)
    assert pipe.is_fifo()


def test_standard_output_in_a_file_keeps_what_was_printed_before(tmp_path):
    script = (
        "from pathlib import Path\n"
        "from blendmask_lite.files import *\n"
        "print('before')\n"
        "require_writable('/dev/stdout')\n"
        "write_atomically(Path('/dev/stdout'), b'numbers\\n')\n"
        "print('after')\n"
    )
    out = tmp_path / "out.txt"
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, check=True)
    assert out.read_text() == "before\nnumbers\nafter\n"


@pytest.fixture
def odd(tmp_path):
    """Outputs that cannot be written, by what is wrong with them."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    return {
        "Is a directory|it is a folder": tmp_path / "folder",
        "Not a directory": tmp_path / "file" / "numbers.json",
        "Too many levels": tmp_path / "one",
        "too long": tmp_path / ("n" * 300),
        "Permission denied|No such file|not permitted": Path("/proc/numbers.json"),
    }


def test_what_cannot_be_written_is_one_clear_error_before_the_work_and_after_it(odd):
    for reason, path in odd.items():
        for write in (require_writable, lambda path: write_atomically(path, b"new")):
            with pytest.raises(OSError, match=reason) as caught:
                write(path)
            assert str(caught.value).startswith(f"{path}: cannot be written (")


def test_a_folder_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "inner", Path("/dev/null")):
        with pytest.raises(OSError, match=f"{path}: cannot be written"):
            require_folder(path)


def test_a_folder_that_is_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=r"loop: cannot be written .Too many levels of symbolic"):
        require_folder(tmp_path / "loop")


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    # As the system does for everybody but root, whom a folder's mode does not stop.
    monkeypatch.setattr(Path, "touch", refuse)
    for require, path in ((require_writable, tmp_path / "a"), (require_folder, tmp_path)):
        with pytest.raises(OSError, match=r"cannot be written .Permission denied"):
            require(path)


def test_the_longest_name_of_a_file_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    require_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_name_of_the_package_means_its_checkpoint_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in SHIPPED_MODELS:
        assert find_checkpoint(name) == shipped_checkpoint(name)
        assert shipped_checkpoint(name).is_file()
    (tmp_path / "nano").write_bytes(b"")
    assert find_checkpoint("nano") == Path("nano")
    (tmp_path / "photos").mkdir()  # where one keeps photographs
    assert find_checkpoint("photos") == shipped_checkpoint("photos")
    assert find_checkpoint("other.pt") == Path("other.pt")
    with pytest.raises(ValueError, match="cat: the package has the models nano, small, photos"):
        shipped_checkpoint("cat")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "numbers.json"
    path.write_bytes(b"old")

    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"numbers.json: cannot be written .No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_commands_refuse_an_output_before_they_begin(tmp_path, capsys, monkeypatch):
    """Each of them would fail for its missing or foreign input, or work for minutes, first."""
    (tmp_path / "file").write_bytes(b"")
    bad = str(tmp_path / "file" / "out")
    data = str(tmp_path / "data")
    assert main(["shapes", data, "--images", "1"]) == 0
    model = str(shipped_checkpoint())
    commands = [
        ["export", str(tmp_path / "file"), "-o", f"{bad}.onnx"],
        ["convert", str(tmp_path / "file"), "-o", bad],
        ["shapes", bad],
        ["train", data, "-o", bad],
        ["evaluate", model, data, "--json", bad],
        ["evaluate", model, data, "--results", bad],
        ["evaluate", model, data, "--plot", bad],
        ["segment", data + "/train", "-o", bad],
        ["data", "check", data, "--json", bad],
        ["data", "coco", "--split", "val2017", "--root", bad],
        ["ablations", "1", "--runs", bad],
        ["ablations", "1", "--runs", str(tmp_path / "runs"), "-o", bad],
    ]
    monkeypatch.setattr(BlendMask, "forward", None)  # no work is done
    for command in commands:
        capsys.readouterr()
        assert main(command) == 1, command
        said = capsys.readouterr()
        assert "cannot be written (Not a directory)" in said.err, command
        assert said.err.count("\n") == 1, command


def test_commands_refuse_an_output_that_is_their_own_input(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["shapes", "data", "--images", "1", "--stuff"]) == 0
    shutil.copy(shipped_checkpoint(), "m.pt")
    panoptic = BlendMask(
        PRESETS["nano_panoptic"], class_names=SHAPE_CLASSES, stuff_names=STUFF_CLASSES
    )
    save_model(panoptic, Path("p.pt"))
    for folder in ("run", "out", "begun", "plots", "sent"):
        Path(folder).mkdir()
    shutil.copy("m.pt", "begun/best.safetensors")
    shutil.copy("m.pt", "out/results.json")
    Path("run/metrics.csv").write_text("iteration,loss,gradient_norm\n1,2,3\n")
    links = {
        "annotations.json": "data/annotations/instances_train.json",
        "picture.json": "data/train/000000.png",
        "m.onnx": "m.pt",
        "curves.png": "run/metrics.csv",
        "one.json": "two.json",
        "plots/mistakes.pdf": "m.pt",
        "plots/panoptic_quality.png": "data/train/000000.png",
        "sent/panoptic_train_blendmask_results": "data/annotations/panoptic_train",
    }
    for link, target in links.items():
        Path(link).symlink_to(Path(target).absolute())
    annotations, picture = links["annotations.json"], links["picture.json"]
    evaluate = ["evaluate", "m.pt", "data"]
    evaluate_stuff = ["evaluate", "p.pt", "data", "--panoptic"]
    commands = [
        (["data", "check", "data", "--json", annotations], "an annotation file"),
        (["data", "check", "data", "--json", "annotations.json"], "an annotation file"),
        (["data", "check", "data", "--json", picture], "one of the images"),
        (["data", "check", "data", "--decode", "--json", "picture.json"], "one of the images"),
        ([*evaluate, "--json", "m.pt"], "the checkpoint"),
        ([*evaluate, "--results", "annotations.json"], "a file of the data set"),
        ([*evaluate, "--json", picture], "a file of the data set"),
        ([*evaluate, "--json", "one.json", "--results", "two.json"], "--json and --results: both"),
        ([*evaluate, "--plot", "plots"], "mistakes.pdf: is the checkpoint"),
        ([*evaluate_stuff, "--plot", "plots"], "panoptic_quality.png: is a file of the data set"),
        ([*evaluate_stuff, "--panoptic-results", "sent"], "000000.png: is a file of the data set"),
        (["export", "m.pt", "-o", "m.onnx"], "the checkpoint"),
        (["convert", "m.pt", "-o", "m.pt"], "the file to convert"),
        (["segment", picture, "--weights", "out/results.json", "-o", "out"], "the checkpoint"),
        (
            ["train", "data", "-o", "begun", "--weights", "begun/best.safetensors"],
            "the run starts from",
        ),
        (["runs", "run", "--plot", "curves.png"], "a file of one of the runs"),
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for command, words in commands:
        capsys.readouterr()
        assert main(command) == 1, command
        assert words in capsys.readouterr().err.splitlines()[-1], command
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_generated_pictures_remove_no_device_that_their_annotations_are_linked_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "out" / "annotations" / "instances_train.json").symlink_to(pipe)
    with pytest.raises(OSError, match="nobody reads from this pipe"):
        write_shapes(tmp_path / "out", num_images=1, seed=0)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "{data}", "--validation", "nope"],
        ["train", "{data}", "--snapshots", "1"],
        ["train", "{data}", "--tensorboard", "0"],
        ["train", "{data}", "--weights", "nope.pt"],
        ["train", "{data}", "--weights", "{data}/train/000000.png"],
        ["train", "{data}", "--backbone-weights", "nope.pkl"],
        ["train", "{data}", "--accumulate", "3"],
        ["ablations", "1", "--seeds", "-1"],
        ["ablations", "1", "--iterations", "0"],
        ["data", "coco", "--split", "val2017", "--root", "new/out", "--images", "0"],
        ["data", "coco", "--split", "val2017", "--root", "new/out", "--seed", "-1"],
        ["convert", "http://[::1", "-o", "new/out/model.pt"],
        ["export", "nope.pt", "-o", "new/out/model.onnx"],
    ],
)
def test_a_refusal_leaves_no_folder(words, tmp_path, capsys, monkeypatch):
    write_shapes(tmp_path / "data", num_images=1)
    monkeypatch.chdir(tmp_path)
    command = [word.format(data=tmp_path / "data") for word in words]
    command += {
        "train": ["-o", "new/out", "--batch-size", "1"],
        "ablations": ["--runs", "new/runs", "-o", "new/out"],
    }.get(words[0], [])
    assert main(command) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
