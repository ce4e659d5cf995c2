"""`data labelme`: what becomes of labelme's shapes, there and back, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite.cli import main
from blendmask_lite.datasets.check import check_folder
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.labelme import convert_labelme
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.masks import mask_iou, mask_parts
from blendmask_lite.polygons import labelme_file

SIZE = (30, 40)  # of the images, height and width
SQUARE = [[5, 5], [15, 5], [15, 15], [5, 15]]


def encoded(image: Image.Image, kind: str = "PNG", **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def picture(shade: int = 90, size: tuple[int, int] = SIZE) -> Image.Image:
    """An image in which every row and column is its own."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return Image.fromarray(np.stack([rows, columns, rows * 0 + shade], -1).astype(np.uint8))


def shape(points, label="cat", kind="polygon", **fields) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None} | fields


def mask_text(mask) -> str:
    return base64.b64encode(encoded(Image.fromarray(np.asarray(mask)))).decode()


def write(folder: Path, name: str, *shapes: object, image: Image.Image | None = None, **fields):
    """A label file and its image, a PNG."""
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".png").write_bytes(encoded(image or picture()))
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imageData": None}
    content |= {"imagePath": f"{path.stem}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    path.write_text(json.dumps(content | fields))
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "coco"


def only_target(folder: Path, root: Path):
    convert_labelme(folder, root)
    return CocoDataset(root).load(0).target


def box(y0: int, y1: int, x0: int, x1: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    "given",
    [
        shape(SQUARE),
        {"label": "cat", "points": SQUARE},  # as old versions write it
        shape([[15, 15], [5, 5]], kind="rectangle"),
        shape([[5, 15], [15, 5]], kind="rectangle"),
        shape(SQUARE, kind="oriented_rectangle"),
        shape([[5, 5], [14, 14]], kind="mask", mask=mask_text(np.ones((10, 10), bool))),
    ],
)
def test_shapes_of_one_square_are_one_square(given, folder, root):
    write(folder, "a", given)
    target = only_target(folder, root)
    assert torch.equal(target.masks, box(5, 15, 5, 15)[None])


def test_a_circle_is_given_by_its_center_and_a_point_on_it(folder, root):
    write(folder, "a", shape([[20, 15], [20, 3]], kind="circle"))
    y, x = torch.meshgrid(torch.arange(30) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    disc = torch.hypot(x - 20, y - 15) < 12
    assert mask_iou(only_target(folder, root).masks, disc[None]) > 0.99


def test_a_mask_may_reach_over_the_border(folder, root):
    pixels = np.ones((8, 6), bool)
    pixels[3, 2] = False
    low = shape([[-2, 26], [3, 33]], kind="mask", mask=mask_text(pixels))
    high = shape([[37, -3], [42, 4]], kind="mask", mask=mask_text(pixels))
    write(folder, "a", low, high)
    wanted = torch.stack([box(26, 30, 0, 4), box(0, 5, 37, 40)])
    wanted[0, 29, 0] = wanted[1, 0, 39] = False
    assert torch.equal(only_target(folder, root).masks, wanted)


def test_a_group_is_one_object_for_each_of_its_labels(folder, root):
    other = [[x + 20, y] for x, y in SQUARE]
    write(
        folder,
        "a",
        shape(SQUARE, group_id=1),
        shape(other, group_id=1),
        shape(SQUARE, "dog", group_id=1),
        shape(SQUARE, group_id=None),
        shape(SQUARE, group_id=None),
    )
    target = only_target(folder, root)
    assert target.labels.tolist() == [0, 1, 0, 0]
    assert torch.equal(target.masks[0], box(5, 15, 5, 15) | box(5, 15, 25, 35))
    assert torch.equal(target.masks[1], target.masks[2])


def test_a_group_may_join_polygons_and_masks(folder, root):
    mask = shape([[20, 5]], kind="mask", mask=mask_text(np.ones((4, 3), bool)), group_id=7)
    write(folder, "a", shape(SQUARE, group_id=7), mask)
    wanted = box(5, 15, 5, 15) | box(5, 9, 20, 23)
    assert torch.equal(only_target(folder, root).masks, wanted[None])


def test_classes_are_in_the_order_of_the_alphabet_and_without_space_around(folder, root):
    write(folder, "a", shape(SQUARE, "tulip"), shape(SQUARE, " rose "))
    write(folder, "b", shape(SQUARE, "iris"))
    convert_labelme(folder, root)
    dataset = CocoDataset(root)
    assert dataset.class_names == ("iris", "rose", "tulip")
    assert dataset.load(0).target.labels.tolist() == [2, 1]


def test_masks_come_back_from_labelme_exactly_at_tolerance_0(folder, root):
    dataset = ShapesDataset(6, seed=4)
    for number, sample in enumerate(dataset):
        labels = [dataset.class_names[label] for label in sample.target.labels]
        parts, size = mask_parts(sample.target.masks), sample.original_size
        content = labelme_file(parts, labels, size, image_path=f"{number}.png", tolerance=0)
        image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        write(folder, str(number), image=image, **content)
    convert_labelme(folder, root)
    back = CocoDataset(root)
    for sample, found in zip(dataset, back, strict=True):
        assert torch.equal(found.image, sample.image)
        assert torch.equal(found.target.masks, sample.target.masks)
        names = [back.class_names[label] for label in found.target.labels]
        assert names == [dataset.class_names[label] for label in sample.target.labels]


def test_masks_come_back_from_labelme_almost_as_they_were_by_default(folder, root):
    x, y = torch.meshgrid(torch.arange(200) - 99.7, torch.arange(200) - 99.7, indexing="xy")
    distance = torch.hypot(x, y)
    bean = torch.hypot(x - y**2 / 150, y) < 50
    masks = torch.stack([distance < 60, (distance < 90) & (distance > 50), bean])
    names = ["disc", "ring", "bean"]
    content = labelme_file(mask_parts(masks), names, (200, 200), image_path="a.png")
    write(folder, "a", image=picture(size=(200, 200)), **content)
    target = only_target(folder, root)
    assert target.labels.tolist() == [1, 2, 0]
    assert (mask_iou(target.masks, masks) >= 0.99).all()


# ------------------------------------------------------------------ images


def test_the_check_finds_nothing_wrong_with_what_was_written(folder, root):
    for name in "abcdef":
        write(folder, name, shape(SQUARE), shape(SQUARE, "dog"), image=picture(ord(name)))
    convert_labelme(folder, root, val_share=0.4)
    check = check_folder(root, decode=True)
    assert check.count("error") == check.count("warning") == 0
    assert {split.split for split in check.splits} == {"train", "val"}


def test_images_are_copied_byte_by_byte_and_keep_their_subfolders(folder, root):
    for shade, name in enumerate(("monday/1", "tuesday/1", "2")):
        write(folder, name, shape(SQUARE), image=picture(shade))
    convert_labelme(folder, root)
    for name in ("monday/1", "tuesday/1", "2"):
        copied = root / "train" / f"{name}.png"
        assert copied.read_bytes() == (folder / f"{name}.png").read_bytes()
    assert len(CocoDataset(root)) == 3


def test_paths_with_backslashes_and_dots_are_followed(folder, root):
    path = write(folder, "labels/a", shape(SQUARE), imagePath="..\\images\\a.png")
    (folder / "images").mkdir()
    path.with_suffix(".png").rename(folder / "images" / "a.png")
    convert_labelme(folder, root)
    assert (root / "train" / "images" / "a.png").is_file()
    CocoDataset(root).load(0)


def test_an_image_is_named_by_its_own_place_and_outside_by_its_label_file(folder, root, tmp_path):
    write(folder, "drafts/0001_a", shape(SQUARE), imagePath="../a.png")
    (folder / "drafts" / "0001_a.png").rename(folder / "a.png")
    write(folder, "drafts/b", shape(SQUARE), imagePath="../../c.png")
    (folder / "drafts" / "b.png").rename(tmp_path / "c.png")
    convert_labelme(folder, root)
    assert names_of(root, "train") == {"a.png", "drafts/b.png"}


def test_a_label_file_that_was_moved_to_its_image_finds_it_there(folder, root):
    write(folder, "more/0001_a", shape(SQUARE), imagePath="..\\..\\photos\\more\\a.png")
    (folder / "more" / "0001_a.png").rename(folder / "more" / "a.png")
    (folder / "more" / "0001_a.json").rename(folder / "more" / "a.json")
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    convert_labelme(moved, root)
    assert names_of(root, "train") == {"more/a.png"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_inside_the_label_file_is_used_if_its_own_file_is_missing(kind, folder, root):
    data = encoded(picture(), kind)
    path = write(folder, "a", shape(SQUARE), imageData=base64.b64encode(data).decode())
    path.with_suffix(".png").unlink()
    convert_labelme(folder, root)
    assert (root / "train" / f"a.{kind.lower()}").read_bytes() == data
    CocoDataset(root).load(0)


def test_an_image_lying_on_its_side_is_stored_upright_as_labelme_shows_it(folder, root):
    upright = picture()
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # so that 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    write(folder, "a", shape(SQUARE), imagePath="a.jpg")
    (folder / "a.jpg").write_bytes(encoded(lying, "JPEG", exif=exif, quality=100))
    convert_labelme(folder, root)
    found = CocoDataset(root).load(0).image.float()
    wanted = torch.from_numpy(np.array(upright)).permute(2, 0, 1).float()
    assert found.shape == wanted.shape and (found - wanted).abs().mean() < 2


def test_images_without_shapes_stay_and_images_without_labels_are_counted(folder, root):
    write(folder, "a", shape(SQUARE))
    write(folder, "empty")
    (folder / "new.png").write_bytes(encoded(picture()))
    (folder / "results.json").write_text("[]")
    (folder / "settings.json").write_text("{}")
    (folder / "._a.json").write_bytes(b"\0")
    found = convert_labelme(folder, root)
    assert (found.num_images, found.num_objects) == ({"train": 2}, {"train": 1})
    assert (found.num_unlabelled, found.num_other) == (1, 2)


def test_drafts_are_left_out_until_their_flag_is_unticked(folder, root, capsys):
    write(folder, "a", shape(SQUARE))
    write(folder, "b", {"label": "no shape at all"}, flags={"draft": True})
    write(folder, "again", shape(SQUARE), imagePath="a.png", flags={"draft": True})
    (folder / "again.png").unlink()
    assert main(["data", "labelme", str(folder), "-o", str(root)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "left out: 2 drafts; once one is right, untick its flag draft in labelme"
    ]
    assert names_of(root, "train") == {"a.png"}
    write(folder, "b", flags={"draft": False})
    assert convert_labelme(folder, root).num_images == {"train": 2}


def test_a_folder_with_nothing_but_drafts_is_refused(folder, root):
    write(folder, "a", shape(SQUARE), flags={"draft": True})
    with pytest.raises(ValueError, match="no label file with a shape, drafts aside"):
        convert_labelme(folder, root)


# ------------------------------------------------------------------ splits


def names_of(root: Path, split: str) -> set[str]:
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    return {image["file_name"] for image in content["images"]}


def test_the_split_is_the_same_again_and_new_images_move_none(folder, root, tmp_path):
    for number in range(30):
        write(folder, f"{number}", shape(SQUARE))
    convert_labelme(folder, root, val_share=0.3)
    convert_labelme(folder, tmp_path / "again", val_share=0.3)
    train, val = names_of(root, "train"), names_of(root, "val")
    assert names_of(tmp_path / "again", "val") == val
    assert 4 <= len(val) <= 14 and len(train | val) == 30 and not train & val
    for number in range(30, 60):
        write(folder, f"{number}", shape(SQUARE))
    convert_labelme(folder, root, val_share=0.3)
    assert train < names_of(root, "train") and val < names_of(root, "val")
    convert_labelme(folder, tmp_path / "other", val_share=0.3, seed=1)
    assert names_of(tmp_path / "other", "val") != names_of(root, "val")


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_split_is_empty(share, folder, root):
    write(folder, "a", shape(SQUARE))
    with pytest.raises(ValueError, match="only one labelled image"):
        convert_labelme(folder, root, val_share=share)
    for name in "bcd":
        write(folder, name, shape(SQUARE))
    convert_labelme(folder, root, val_share=share)
    assert min(len(names_of(root, "train")), len(names_of(root, "val"))) == 1


# ------------------------------------------------------------------ writing


def test_a_second_call_replaces_the_first(folder, root):
    for name in "abc":
        write(folder, name, shape(SQUARE))
    convert_labelme(folder, root, val_share=0.4)
    write(folder, "a", shape(SQUARE), shape(SQUARE), image=picture(1))
    convert_labelme(folder, root, val_share=0.4)
    [split] = [split for split in ("train", "val") if "a.png" in names_of(root, split)]
    dataset = CocoDataset(root, split)
    assert len(dataset.load(0).target.masks) == 2
    assert (root / split / "a.png").read_bytes() == (folder / "a.png").read_bytes()


def test_an_image_that_lost_its_labels_is_removed_and_others_files_stay(folder, root):
    for name in ("a", "inner/b"):
        write(folder, name, shape(SQUARE))
    convert_labelme(folder, root)
    (root / "train" / "mine.png").write_bytes(b"mine")
    (folder / "inner" / "b.json").unlink()
    convert_labelme(folder, root)
    left = sorted(path.name for path in (root / "train").rglob("*.png"))
    assert left == ["a.png", "mine.png"] and (folder / "inner" / "b.png").exists()


@pytest.mark.parametrize("other", [{}, {"val_share": 0.5}, {"val_share": 0.4, "seed": 1}])
def test_images_never_move_between_the_splits_of_a_folder(other, folder, root):
    for name in "abc":
        write(folder, name, shape(SQUARE))
    convert_labelme(folder, root)
    convert_labelme(folder, root, val_share=0.4)
    before = names_of(root, "val")
    with pytest.raises(ValueError, match=r"was made with --val 0\.4 --seed 0, and another choice"):
        convert_labelme(folder, root, **other)
    assert names_of(root, "val") == before


def test_files_from_elsewhere_are_never_replaced(folder, root):
    write(folder, "a", shape(SQUARE))
    (root / "train").mkdir(parents=True)
    (root / "train" / "a.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a\.png: another image is there"):
        convert_labelme(folder, root)
    assert (root / "train" / "a.png").read_bytes() == b"mine"
    (root / "train" / "a.png").unlink()
    (root / "annotations").mkdir()
    mine = root / "annotations" / "instances_val.json"
    mine.write_text(json.dumps({"images": [], "info": {"description": "mine"}}))
    with pytest.raises(FileExistsError, match=r"instances_val\.json: is there, from elsewhere"):
        convert_labelme(folder, root)
    assert "mine" in mine.read_text() and not list((root / "train").iterdir())


def test_a_folder_that_is_a_link_is_followed(folder, root, tmp_path):
    write(folder, "a", shape(SQUARE))
    (tmp_path / "disk").mkdir()
    root.symlink_to(tmp_path / "disk")
    convert_labelme(folder, root)
    convert_labelme(folder, root)
    assert (tmp_path / "disk" / "train" / "a.png").is_file() and root.is_symlink()


def test_an_output_that_is_a_link_to_the_image_itself_is_refused(folder, root):
    write(folder, "a", shape(SQUARE))
    (root / "train").mkdir(parents=True)
    (root / "train" / "a.png").symlink_to(folder / "a.png")
    with pytest.raises(ValueError, match="would be lost"):
        convert_labelme(folder, root)


@pytest.mark.parametrize("name", [".", "coco"])
def test_the_new_folder_may_not_lie_among_the_label_files(name, folder):
    write(folder, "a", shape(SQUARE))
    with pytest.raises(ValueError, match="is in the folder of the label files"):
        convert_labelme(folder, folder / name)


def test_the_command_says_what_it_has_done(folder, root, capsys):
    for name in "abcdef":
        write(folder, name, shape(SQUARE, "rose"))
    (folder / "new.png").write_bytes(encoded(picture()))
    assert main(["data", "labelme", str(folder), "-o", str(root), "--val", "0.3"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith(f"{root}: train, ") and lines[1].startswith(f"{root}: val, ")
    assert lines[2:] == [
        "classes, and their objects: rose (6)",
        "left out: 1 image without a label file",
    ]
    assert "6/6 label files" in printed.err and "6/6 images" in printed.err
    assert main(["data", "labelme", str(folder), "-o", str(root), "--val", "2"]) == 1
    assert capsys.readouterr().err == "blendmask-lite data: --val 2: must be between 0 and 1\n"


# ------------------------------------------------------------------ what is refused

NAN = math.nan


@pytest.mark.parametrize(
    "given, words",
    [
        (shape(SQUARE[:2]), r"a polygon with 2 points, expected at least 3"),
        (shape(SQUARE, label=3), r"label = 3 is not text on one line"),
        (shape(SQUARE, label=" "), r"label = ' ' is not text"),
        (shape(SQUARE, label="a\nb"), r"is not text on one line"),
        (shape([*SQUARE, [NAN, 1]]), r"points = .* is no list of x and y"),
        (shape([*SQUARE, [1e9, 1]]), r"points = .* is no list of x and y"),
        (shape([*SQUARE, [1, 2, 3]]), r"points = .* is no list of x and y"),
        (shape([*SQUARE, [True, 1]]), r"points = .* is no list of x and y"),
        (shape("here"), r"points = 'here' is no list"),
        (shape(SQUARE, group_id="a"), r"group_id = 'a' is not a whole number"),
        (shape(SQUARE[:2], kind="line"), r"shape_type = 'line': has no area"),
        (shape(SQUARE, kind="cube"), r"shape_type = 'cube': is of no known type"),
        (shape(SQUARE, kind=["polygon"]), r"shape_type = \['polygon'\]: is of no known type"),
        (shape(SQUARE, kind="rectangle"), r"a rectangle with 4 points, expected 2"),
        (shape([[9, 9], [9, 9]], kind="circle"), r"the circle covers no pixel"),
        (shape([[100, 100], [110, 100], [110, 110]]), r"the polygon covers no pixel"),
        (shape(SQUARE, kind="mask"), r"a mask without an image of it"),
        (shape(SQUARE, kind="mask", mask="?"), r"mask is damaged"),
        (shape(SQUARE, kind="mask", mask="aaaa"), r"mask: cannot be read"),
        (shape([[99, 99]], kind="mask", mask=mask_text(np.ones((2, 2), bool))), r"no pixel"),
        ("cat", r"is 'cat', which is no shape"),
    ],
)
def test_a_shape_that_is_none_is_named_and_nothing_is_written(given, words, folder, root):
    path = write(folder, "a", shape(SQUARE), given)
    with pytest.raises(ValueError, match=words) as refused:
        convert_labelme(folder, root)
    assert str(refused.value).startswith(f"{path}: shapes[1]: ")
    assert "\n" not in str(refused.value)
    assert not root.exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"imageHeight": 31}, r"its labels are for 40 x 31 pixels, but its image is 40 x 30"),
        ({"imageWidth": "40"}, r"its labels are for '40' x 30 pixels"),
        ({"imagePath": "b.png"}, r"imagePath: .*b\.png: no such picture"),
        ({"imagePath": 7}, r"imagePath = 7 is no file name"),
        ({"imagePath": "a" * 300}, r"imagePath: .*cannot be read as a picture \(.*name too long"),
        ({"imagePath": "."}, r"imagePath: .*it is a folder"),
        ({"imagePath": "a.json"}, r"imagePath: .*cannot be read as a picture"),
        ({"imagePath": "b.png", "imageData": "?"}, r"imageData is damaged"),
        ({"imagePath": "b.png", "imageData": 5}, r"imageData is damaged"),
        ({"imagePath": "b.png", "imageData": "aaaa"}, r"imageData: cannot be read as a picture"),
        ({"shapes": {}}, r"shapes = \{\} is no list"),
    ],
)
def test_a_label_file_that_does_not_fit_is_named(change, words, folder, root):
    path = write(folder, "a", shape(SQUARE), **change)
    with pytest.raises(ValueError, match=words) as refused:
        convert_labelme(folder, root)
    assert str(refused.value).startswith(f"{path}: ")
    assert not root.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"shapes": [}'])
def test_damaged_json_is_named(content, folder, root):
    (folder / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: is damaged or not JSON"):
        convert_labelme(folder, root)


def test_all_damaged_files_are_named_at_once(folder, root):
    first = write(folder, "a", shape(SQUARE[:2]))
    write(folder, "b", shape(SQUARE))
    others = [write(folder, "c", shape(SQUARE), imagePath="d.png"), folder / "e.json"]
    others[1].write_text("{")
    with pytest.raises(ValueError, match="with 2 points, expected at least 3; damaged as") as named:
        convert_labelme(folder, root)
    assert str(named.value).startswith(f"{first}: shapes[0]: ")
    assert str(named.value).endswith(f"; damaged as well: {others[0]}, {others[1]}")


def test_two_label_files_of_one_image_are_named(folder, root):
    write(folder, "a", shape(SQUARE))
    write(folder, "b", shape(SQUARE), imagePath="a.png")
    with pytest.raises(ValueError, match=r"a\.json and .*b\.json: name the same image"):
        convert_labelme(folder, root)


def test_a_folder_without_labels_is_refused(folder, root, tmp_path):
    with pytest.raises(ValueError, match="no label file with a shape"):
        convert_labelme(folder, root)
    with pytest.raises(ValueError, match="no such folder"):
        convert_labelme(tmp_path / "none", root)
    with pytest.raises(ValueError, match="--seed -1"):
        convert_labelme(folder, root, seed=-1)


def test_a_name_that_no_coco_reader_takes_is_refused(folder, root):
    write(folder, "a\nb/c", shape(SQUARE))
    with pytest.raises(ValueError, match=r"image 1: file_name = 'a\\nb/c.png' is not the name"):
        convert_labelme(folder, root)
    assert not root.exists()


def test_a_place_that_cannot_be_written_to_is_said_before_the_work(folder, root):
    (folder / "a.json").write_text("{")
    root.write_text("mine")
    with pytest.raises(OSError, match="cannot be written"):
        convert_labelme(folder, root)


def test_sizes_may_be_missing_from_the_label_file(folder, root):
    write(folder, "a", shape(SQUARE), imageHeight=None, imageWidth=None)
    assert len(only_target(folder, root).masks) == 1
