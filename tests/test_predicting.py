"""Everyday use: whatever an image is given as, `predict` finds the same objects in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask, InferenceConfig, load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.images import list_images, read_image

HEIGHT, WIDTH = 60, 90


@pytest.fixture(scope="module")
def model():
    """The shipped model, which finds something in every scene, at a small size."""
    model = load_model(shipped_checkpoint())
    model.inference = InferenceConfig(
        test_size=40, max_size=64, score_threshold=0, max_detections=5
    )
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images, a text, and a third image in a folder of its own."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "inner").mkdir()
    for number, name in enumerate(("b.png", "a.png", "inner/c.png")):
        Image.fromarray(scene(number)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def scene(number):
    """(60, 90, 3) uint8: a part of a generated image."""
    pixels = ShapesDataset(number + 1, seed=7).load(number).image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels[:HEIGHT, :WIDTH])


def sizes_seen(model, monkeypatch):
    """The sizes of the images that the network is given, batch by batch."""
    seen = []
    forward = model.forward

    def noticed(images):
        seen.append([tuple(image.shape[1:]) for image in images])
        return forward(images)

    monkeypatch.setattr(model, "forward", noticed)
    return seen


def same(one, other):
    return len(one) > 0 and one.boxes.equal(other.boxes) and one.masks.equal(other.masks)


def test_an_image_is_the_same_as_path_pil_image_and_array(model, folder):
    path = folder / "a.png"
    with Image.open(path) as image:
        kinds = [str(path), path, image, np.asarray(image), np.asarray(image)[None]]
        results = [model.predict(kind) for kind in kinds]
        mixed = model.predict([*kinds, read_image(path)])
    [wanted] = model.predict([read_image(path)], test_size=40)
    assert len(wanted) == 5 and wanted.image_size == wanted.masks.shape[1:] == (HEIGHT, WIDTH)
    assert all(len(found) == 1 and same(found[0], wanted) for found in results)
    assert len(mixed) == 6 and all(same(found, wanted) for found in mixed[:5])
    assert not same(mixed[5], wanted)


def test_images_are_resized_as_the_model_was_tested_and_tensors_only_when_asked(
    model, folder, monkeypatch
):
    seen = sizes_seen(model, monkeypatch)
    array = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    tensor = torch.zeros(3, HEIGHT, WIDTH)
    model.predict([array, tensor], batch_size=2)
    model.predict([array, tensor], test_size=20, batch_size=2)  # at most 20 x 64 / 40 = 32
    model.predict([array, tensor], test_size=30, max_size=36, batch_size=2)
    model.predict(array[:, :80], max_size=50)
    assert seen[0] == [(40, 60), (HEIGHT, WIDTH)]
    assert seen[1] == [(20, 30), (20, 30)]
    assert seen[2] == [(24, 36), (24, 36)]
    assert seen[3] == [(38, 50)]


def test_a_folder_and_a_pattern_are_read_in_order_and_in_batches(model, folder, monkeypatch):
    seen = sizes_seen(model, monkeypatch)
    a, b, c = (model.predict(folder / name)[0] for name in ("a.png", "b.png", "inner/c.png"))
    assert [same(*pair) for pair in zip(model.predict(folder), (a, b), strict=True)] == [True] * 2
    found = model.predict([folder / "inner", f"{folder}/*.png", folder / "a.png"])
    assert all(same(*pair) for pair in zip(found, (c, a, b, a), strict=True))
    assert {len(batch) for batch in seen} == {1}
    assert len(model.predict(f"{folder}/**/*.png", batch_size=2)) == 3
    assert [len(batch) for batch in seen[-2:]] == [2, 1]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder, tmp_path):
    odd = tmp_path / "photo[1].png"
    odd.write_bytes((folder / "a.png").read_bytes())
    assert list_images([odd, str(odd)]) == [odd, odd]
    assert list_images([f"{tmp_path}/photo*"]) == [odd]


def test_the_files_of_a_folder_or_pattern_are_sorted(tmp_path):
    names = [f"{number % 7}{number}.png" for number in range(40)]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_images([tmp_path])] == sorted(names)
    assert [path.name for path in list_images([f"{tmp_path}/*.png"])] == sorted(names)


def test_folders_inside_folders_are_searched_when_asked(folder):
    names = [path.name for path in list_images([folder], is_recursive=True)]
    assert names == ["a.png", "b.png", "c.png"]
    assert [path.name for path in list_images([folder])] == ["a.png", "b.png"]


def test_a_file_is_turned_upright_and_an_image_in_memory_is_taken_as_it_is(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "turned.jpg", exif=exif)
    assert model.predict(tmp_path / "turned.jpg")[0].image_size == (WIDTH, HEIGHT)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert model.predict(image)[0].image_size == (HEIGHT, WIDTH)


def test_grey_and_transparent_pil_images_are_read_as_files_are(model):
    for mode in ("L", "RGBA", "1"):
        assert model.predict(Image.new(mode, (WIDTH, HEIGHT)))[0].image_size == (HEIGHT, WIDTH)


def test_an_array_may_be_flipped_and_is_not_changed(model):
    array = scene(0)
    bgr = array[..., ::-1].copy()
    before = bgr.copy()
    assert same(model.predict(bgr[..., ::-1])[0], model.predict(array)[0])
    assert np.array_equal(bgr, before)


def test_frames_are_read_when_their_turn_comes_and_pasted_when_asked_for(model):
    asked = []

    def frames():
        for number in range(10**9):
            asked.append(number)
            yield scene(number)

    stream = model.predict_each(frames(), batch_size=2)
    first = next(stream)
    assert asked == [0, 1]
    assert len([first, next(stream), next(stream)]) == 3 and asked == [0, 1, 2, 3]
    assert first.masks.shape == (5, HEIGHT, WIDTH) and first.masks.equal(first.pasted().masks)
    assert not first.masks.requires_grad and torch.is_grad_enabled()


def test_output_sizes_are_those_of_all_images_whatever_their_batch(model, folder):
    sizes = [(10, 20), (30, 40), (50, 60)]
    images = [folder / "a.png", Image.new("RGB", (9, 9)), torch.zeros(3, 50, 50)]
    found = model.predict(images, output_sizes=sizes, batch_size=2)
    assert [each.image_size for each in found] == sizes
    with pytest.raises(ValueError, match="output_sizes: 2 for 3 images"):
        model.predict(images, output_sizes=sizes[:2])


def test_panoptic_segmentation_takes_images_as_predict_does(folder):
    panoptic = BlendMask(PRESETS["nano_panoptic"]).eval()
    [one, other] = panoptic.predict_panoptic(folder, test_size=64, batch_size=2)
    assert one.ids.shape == other.ids.shape == (HEIGHT, WIDTH)


WRONG = "expected a path, a PIL image, an array (H, W, 3) of uint8 or a tensor"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{folder}/missing.png", "{folder}/missing.png: no such file"),
        (Path("{folder}/missing.png"), "{folder}/missing.png: no such file"),
        ("{folder}/*.gif", "{folder}/*.gif: no file matches"),
        ("{empty}", "{empty}: a folder without images"),
        ("{folder}/notes.txt", "{folder}/notes.txt: cannot be read as a picture (empty, damaged"),
        ("https://example.org/a.png", "https://example.org/a.png: is an address, and only files"),
        (Path("http://example.org/a.png"), "is an address, and only files are read here"),
        ("file:///a.png", "`blendmask_lite.images.read_url` fetches an image from the web"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "images[0]: an array (60, 90) of uint8; " + WRONG),
        (np.zeros((3, 6, 9), np.uint8), "images[0]: an array (3, 6, 9) of uint8"),
        (np.zeros((6, 9, 4), np.uint8), "images[0]: an array (6, 9, 4) of uint8"),
        (np.full((6, 9, 3), np.nan), "images[0]: an array (6, 9, 3) of float64; " + WRONG),
        (np.zeros((0, 9, 3), np.uint8), "images[0]: (3, 0, 9); an image without pixels"),
        (Image.new("F", (9, 6)), "images[0]: cannot be read as a picture (its values are floating"),
        (Image.new("1", (10_000, 9_000)), "cannot be read as a picture (it has more than 89478485"),
        (torch.full((3, 6, 9), torch.nan), "images[0]: values from nan to nan"),
        (None, "images: NoneType; " + WRONG),
        (b"bytes", "images: bytes; " + WRONG),
        (7, "images: int; " + WRONG),
        ({"image": "a.png"}, "images: dict; " + WRONG),
        ([["a.png"]], "images[0]: list; " + WRONG),
        ([torch.zeros(3, 6, 9), None], "images[1]: NoneType; " + WRONG),
    ],
)
def test_what_is_no_image_is_refused_by_name(bad, message, model, folder, tmp_path):
    places = {"folder": folder, "empty": tmp_path}
    if isinstance(bad, str | Path):
        bad = type(bad)(str(bad).format(**places))
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message.format(**places))):
        model.predict(bad)


def test_what_is_missing_is_noticed_before_the_work(model, folder, monkeypatch):
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(FileNotFoundError, match=r"missing.png: no such file"):
        model.predict([folder / "a.png", "missing.png"])


def test_a_place_in_an_error_counts_over_all_batches(model):
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.full((3, 8, 8), 9.0)]
    with pytest.raises(ValueError, match=r"images\[2\]: values from 9 to 9"):
        model.predict(images, batch_size=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0: must be a whole number from 1"),
        ({"batch_size": 1.5}, "batch_size = 1.5: must be a whole number"),
        ({"batch_size": True}, "batch_size = True: must be a whole number"),
        ({"test_size": 0}, "test_size = 0: must lie between 1 and 8192"),
        ({"test_size": "big"}, "test_size = 'big': must be a whole number"),
        ({"test_size": 9000}, "test_size = 9000: must lie between 1 and 8192"),
        ({"max_size": 30}, "max_size = 30: below test_size = 40"),
        ({"test_size": 50, "max_size": 0}, "max_size = 0: must lie between 1 and 65536"),
    ],
)
def test_a_size_out_of_range_is_refused_by_name(arguments, message, model, folder):
    with pytest.raises(ValueError, match=re.escape(message)):
        model.predict(folder, **arguments)


def test_the_guide_runs_as_it_is_written(folder, tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parent.parent / "docs" / "predicting.md").read_text()
    shutil.copytree(folder, tmp_path / "photos")
    Image.fromarray(scene(0)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out.startswith("Detections(")
    assert {path.name for path in tmp_path.glob("*.png")} == {"found_1.png", "found_2.png"}


def test_a_pipe_is_refused_and_not_waited_for(model, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe.png: cannot be read as a picture \(it is no regul"):
        model.predict(tmp_path)
