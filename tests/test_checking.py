"""`data check`: what it finds in folders with one mistake each, and that it goes on after it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blendmask_lite.cli import main
from blendmask_lite.datasets.check import check_folder
from blendmask_lite.datasets.check.annotations import crosses_itself
from blendmask_lite.datasets.check.problems import KINDS, SEVERITIES
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import write_shapes

HEIGHT, WIDTH = 40, 60
SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]  # 20 x 20 pixels


def annotation(number, *, image_id=1, segmentation=SQUARE, **more):
    """An object without a mistake, unless `more` makes one."""
    entry = {"id": number, "image_id": image_id, "category_id": 3, "segmentation": segmentation}
    return entry | {"bbox": [10, 5, 20, 20], "area": 400, "iscrowd": 0} | more


def square(x, y, side=10):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def write_folder(root, annotations, *, split="train", images=None, categories=None, **more):
    """A folder with images 1 and 2, of which the second has an object in any case."""
    images = images or [
        {"id": i, "file_name": f"{split}{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
    ]
    (root / split).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(split))
    for image in images:
        pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / split / image["file_name"])
    content = {
        "images": images,
        "annotations": [*annotations, annotation(1000, image_id=2)],
        "categories": categories or [{"id": 3, "name": "cat"}],
        **more,
    }
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def findings_of(root, split="train", **options):
    """kind -> (count, examples) of a split."""
    [check] = [each for each in check_folder(root, **options).splits if each.split == split]
    return {each.kind: (each.count, each.examples) for each in check.findings.sorted()}


def test_a_sound_folder_has_no_findings_and_its_numbers_are_right(tmp_path):
    crowd = annotation(3, segmentation={"size": [HEIGHT, WIDTH], "counts": [100, 300, 2000]})
    del crowd["bbox"], crowd["area"]
    write_folder(tmp_path, [annotation(1), crowd | {"iscrowd": 1}])
    check = check_folder(tmp_path, decode=True)
    assert check.splits[0].findings.sorted() == []
    assert check.count("error") == check.count("warning") == check.count("note") == 0
    assert check.splits[0].numbers == {
        "images": 2,
        "images_without_objects": 0,
        "objects": 2,
        "crowds": 1,
        "most_objects_in_an_image": 1,
        "instances_by_size": {"small": 2, "medium": 0, "large": 0},
        "classes": [{"id": 3, "name": "cat", "objects": 2}],
    }


@pytest.mark.parametrize("decode", [False, True])
def test_generated_shapes_with_stuff_have_no_errors(tmp_path, decode):
    write_shapes(tmp_path, num_images=3, stuff=True)
    check = check_folder(tmp_path, decode=decode)
    assert check.count("error") == 0
    assert check.splits[0].numbers["panoptic"]["annotations"] == 3


BOX = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
MISTAKES = [
    ("malformed entry", annotation("7"), "annotation number 0: id = '7' is not a whole number"),
    ("malformed entry", annotation(7, area=math.nan), "annotation 7: area = nan"),
    ("duplicate id", annotation(1000), "annotation 1000: its id comes twice"),
    ("unknown image_id", annotation(7, image_id=9), "annotation 7: image_id 9"),
    ("unknown category_id", annotation(7, category_id=4), "annotation 7: category_id 4"),
    ("damaged mask", annotation(7, segmentation=[[1, 2, 3]]), "[1, 2, 3] is no polygon"),
    (
        "damaged mask",
        annotation(7, segmentation=[[0, 0, 9e5, 9e5, -9e5, 0]]),
        "3.6e+06 pixels long",
    ),
    (
        "mask of another size",
        annotation(7, segmentation={"size": [WIDTH, HEIGHT], "counts": [2400]}),
        "annotation 7: segmentation: for [60, 40] pixels, the image has [40, 60]",
    ),
    ("empty mask", annotation(7, segmentation=[]), "annotation 7: covers no pixel"),
    ("empty mask", annotation(7, segmentation=BOX), "annotation 7: covers no pixel"),
    (
        "self-crossing polygon",
        annotation(7, segmentation=[[10, 5, 30, 25, 30, 5, 10, 25]]),
        "annotation 7: a polygon of 4 corners crosses itself",
    ),
    (
        "polygon outside",
        annotation(7, segmentation=[[10, 5, 30, 5, 30, 25, -8, 25]], bbox=[0, 5, 30, 20]),
        "annotation 7: a corner lies 8 pixels outside",
    ),
    ("box outside", annotation(7, bbox=[10, 5, 20, 38]), "in an image of 60 x 40 pixels"),
    ("degenerate box", annotation(7, bbox=[10, 5, 20, 0]), "bbox = [10, 5, 20, 0]"),
    (
        "box beside its mask",
        annotation(7, bbox=[10, 5, 30, 25]),  # corners instead of a size
        "bbox = [10, 5, 30, 25], its mask has [10.0, 5.0, 20.0, 20.0]",
    ),
    ("area beside its mask", annotation(7, area=900), "area = 900, its mask has 400 pixels"),
    ("crowd with polygons", annotation(7, iscrowd=1), "annotation 7: has iscrowd = 1"),
]


@pytest.mark.parametrize(("kind", "entry", "text"), MISTAKES)
def test_a_mistake_is_found_and_named_and_all_others_are_found_as_well(tmp_path, kind, entry, text):
    twins = [annotation(8, image_id=2), annotation(9, image_id=2)]
    write_folder(tmp_path, [entry, *twins])
    found = findings_of(tmp_path)
    count, [example] = found[kind]
    assert count == 1
    assert text in example
    twice = "train2.png: annotation 9: has class and mask of annotation 8"
    assert twice in found["same object twice"][1]


def test_of_each_kind_all_are_counted_and_the_first_five_shown(tmp_path):
    write_folder(tmp_path, [annotation(i, image_id=9) for i in range(1, 9)])
    count, examples = findings_of(tmp_path)["unknown image_id"]
    assert count == 8
    assert [each.split(":")[0] for each in examples] == [f"annotation {i}" for i in range(1, 6)]


def test_an_image_that_is_refused_does_not_make_its_annotations_errors(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "2.png", "height": 10**9, "width": 10**9},
    ]
    write_folder(tmp_path, [annotation(1)], images=images)
    found = findings_of(tmp_path)
    assert set(found) == {"image too large", "unlisted image", "category of one object"}
    assert "1000000000 x 1000000000" in found["image too large"][1][0]


def test_masks_of_an_image_that_would_fill_the_memory_are_refused(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": 9000, "width": 9000} for i in (1, 2)]
    # 2^32 pixels are 53 masks of 9000 x 9000.
    entries = [annotation(i, segmentation=square(i, i)) for i in range(1, 55)]
    write_folder(tmp_path, entries, images=images)
    assert findings_of(tmp_path)["image too large"][0] == 1


def test_pictures_are_compared_with_their_entries(tmp_path):
    names = ["good", "gone", "cut", "text", "small", "deep", "turned"]
    images = [
        {"id": i, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
        for i, name in enumerate(names, start=1)
    ]
    again = images[0] | {"id": 99}
    write_folder(tmp_path, [], images=[*images, again])
    folder = tmp_path / "train"
    (folder / "gone.png").unlink()
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (WIDTH // 2, HEIGHT)).save(folder / "small.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 999, dtype=np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "turned.png", "JPEG", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "more.png")

    def entries_of(found, kind):
        return [each.split(":")[0] for each in found.get(kind, (0, []))[1]]

    for decode in (False, True):
        found = findings_of(tmp_path, decode=decode)
        assert entries_of(found, "missing image") == ["image 2"]
        assert entries_of(found, "size mismatch") == ["image 5"]
        assert entries_of(found, "deep image") == ["image 6"]
        assert entries_of(found, "rotated image") == ["image 7"]
        assert entries_of(found, "file listed twice") == ["image 99"]
        assert found["unlisted image"] == (1, ["train: more.png has no entry"])
        # A header tells nothing about what is behind it.
        damaged = ["image 3", "image 4"] if decode else ["image 4"]
        assert entries_of(found, "damaged image") == damaged


def test_a_picture_that_only_another_split_has_is_missing(tmp_path):
    for split in ("train", "val_all"):
        images = [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)
        ]
        write_folder(tmp_path, [annotation(1)], split=split, images=images)
    (tmp_path / "train" / "2.png").unlink()
    found = findings_of(tmp_path)
    assert found["missing image"] == (1, ["image 2: 2.png is in none of the split's folders"])
    assert check_folder(tmp_path, decode=True).between.sorted() == []  # nor is image 3 of val_all


def test_a_picture_of_no_known_range_of_values_is_an_error_as_for_the_reader(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    picture = tmp_path / "train" / "train1.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, dtype=np.float32)).save(picture, "TIFF")
    assert "floating-point" in findings_of(tmp_path)["damaged image"][1][0]
    Image.fromarray(np.full((HEIGHT, WIDTH), 2**20, dtype=np.int32)).save(picture, "TIFF")
    found = findings_of(tmp_path, decode=True)
    assert "beyond 16 bits" in found["damaged image"][1][0]


def test_names_from_files_cannot_write_to_the_terminal(tmp_path, capsys):
    split, turning = "tr\x1b[2Jain", "\u202ecat"
    categories = [{"id": 3, "name": turning}, {"id": 4, "name": turning}]
    write_folder(tmp_path, [annotation(1)], split=split, categories=categories)
    images = [
        {"id": i, "file_name": f"{i}\u202egnp.png", "height": HEIGHT, "width": WIDTH}
        for i in (1, 2)
    ]
    write_folder(tmp_path, [], split="val", images=images)
    (tmp_path / "val" / "1\u202egnp.png").unlink()
    (tmp_path / "val" / "\udcff\x07.png").write_bytes(b"")

    assert main(["data", "check", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    text = "".join((shown.out + shown.err).split("\n"))
    assert text.replace("\r", "").isprintable()
    for name in (r"tr\x1b[2Jain", r"\u202ecat", r"\u202egnp.png", r"\udcff\x07.png"):
        assert name in text

    for loaded in (CocoDataset(tmp_path, "val"), None):
        with pytest.raises(ValueError) as caught:
            CocoDataset(tmp_path) if loaded is None else loaded.load(0)
        assert str(caught.value).isprintable()


def test_equal_pictures_are_found_by_content_within_a_split_and_between_splits(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    write_folder(tmp_path, [annotation(1)], split="validation")
    first = (tmp_path / "train" / "train1.png").read_bytes()
    (tmp_path / "train" / "train2.png").write_bytes(first)
    (tmp_path / "validation" / "validation1.png").write_bytes(first)
    check = check_folder(tmp_path, decode=True)
    [same] = check.splits[0].findings.sorted()
    assert (same.kind, same.count) == ("same image twice", 1)
    [shared] = check.between.sorted()
    assert shared.kind == "image in two splits"
    assert shared.examples == ["train and validation: image 1 is image 1"]
    assert check_folder(tmp_path).between.sorted() == []


def test_splits_that_use_one_file_or_other_classes_are_named(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    images = [{"id": 7, "file_name": "train/train1.png", "height": HEIGHT, "width": WIDTH}]
    entry = annotation(1, image_id=7)
    content = {"images": images, "annotations": [entry], "categories": [{"id": 3, "name": "dog"}]}
    (tmp_path / "annotations" / "instances_test.json").write_text(json.dumps(content))
    found = {each.kind: each.examples for each in check_folder(tmp_path).between.sorted()}
    assert found["image in two splits"] == ["test and train: image 7 is image 1"]
    assert found["other classes than another split"] == [
        "test and train: only one of them has cat, dog"
    ]


def test_numbers_of_classes_crowds_and_shapes_are_looked_at(tmp_path):
    categories = [{"id": i, "name": name} for i, name in ((3, "cat"), (4, "dog"), (9, "cat"))]
    generator = random.Random(0)
    crowds = [
        annotation(
            i,
            segmentation=square(generator.randrange(50), generator.randrange(30)),
            iscrowd=1,
            bbox=None,
        )
        for i in range(1, 25)
    ]
    for each in crowds:
        del each["bbox"], each["area"]
    write_folder(tmp_path, crowds, categories=categories)
    found = findings_of(tmp_path)
    assert [each.split(" ")[1] for each in found["unused category"][1]] == ["4:", "9:"]
    assert found["category name twice"][1] == ["category 9: cat is the name of category 3, too"]
    assert found["gaps between category ids"][1] == ["category 9: follows category 4"]
    assert found["mostly crowds"][1] == ["annotations: 24 of 25 are crowds"]
    assert found["rectangular masks"][1] == ["annotations: 25 of 25 masks fill their boxes"]
    assert found["image without objects"][1] == ["image 1: train1.png has no object"]


def test_classes_of_one_object_and_of_almost_one_name_are_warned_of(tmp_path):
    names = enumerate(("cat", "Cat", "hot dog", " hot  dog", "dog"), start=3)
    categories = [{"id": i, "name": name} for i, name in names]
    entries = [
        annotation(i, category_id=category) for i, category in ((1, 4), (2, 5), (3, 5), (4, 6))
    ]
    write_folder(tmp_path, entries, categories=categories)
    found = findings_of(tmp_path)
    assert found["category names alike"][1] == [
        "category 4: is 'Cat' beside 'cat'",
        "category 6: is ' hot  dog' beside 'hot dog'",
    ]
    assert found["category of one object"][1] == [
        "category 3: cat has one object, in train2.png",
        "category 4: Cat has one object, in train1.png",
        "category 6:  hot  dog has one object, in train1.png",
    ]


def test_data_of_crowds_alone_is_an_error_as_for_training(tmp_path):
    write_shapes(tmp_path, num_images=2)
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for entries in ([each | {"iscrowd": 1} for each in content["annotations"]], []):
        path.write_text(json.dumps(content | {"annotations": entries}))
        found = check_folder(tmp_path).splits[0].findings.sorted()
        assert (found[0].kind, found[0].examples) == (
            "no objects",
            ["annotations: no image has an object"],
        )
        CocoDataset(tmp_path)
        with pytest.raises(ValueError, match=r"instances_train\.json: no image has an object"):
            CocoDataset(tmp_path, filter_empty=True)


def test_an_image_with_more_objects_than_evaluation_counts_is_noted(tmp_path):
    entries = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 3,
            "segmentation": square(i % 50, i // 50 * 7, side=4 + i % 3),
        }
        for i in range(1, 102)
    ]
    write_folder(tmp_path, entries)
    assert findings_of(tmp_path)["crowded image"][1] == ["image 1: train1.png has 101 objects"]


def test_fields_of_lvis_are_noticed(tmp_path):
    write_folder(tmp_path, [], categories=[{"id": 3, "name": "cat", "frequency": "r"}])
    assert findings_of(tmp_path)["LVIS fields"][1] == ["categories: have frequency"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("unknown segment", lambda c: c["annotations"][0]["segments_info"].pop()),
        (
            "unseen segment",
            lambda c: c["annotations"][0]["segments_info"].append(
                {"id": 77, "category_id": 1, "area": 5}
            ),
        ),
        (
            "segment of another area",
            lambda c: c["annotations"][0]["segments_info"][0].update(area=1),
        ),
        (
            "unknown category_id",
            lambda c: c["annotations"][0]["segments_info"][0].update(category_id=999),
        ),
        ("duplicate id", lambda c: c["annotations"].append(c["annotations"][0])),
        ("image without segments", lambda c: c["annotations"].pop()),
        ("segments without image", lambda c: c["annotations"][0].update(image_id=55)),
        ("no stuff", lambda c: [each.update(isthing=1) for each in c["categories"]]),
        ("malformed entry", lambda c: c["annotations"][0]["segments_info"].append("x")),
        ("missing image", lambda c: c["annotations"][0].update(file_name="gone.png")),
        ("unreadable file", lambda c: c.pop("categories")),
    ],
)
def test_panoptic_files_are_compared_with_their_pictures(tmp_path, kind, change):
    write_shapes(tmp_path, num_images=2, stuff=True)
    path = tmp_path / "annotations" / "panoptic_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert kind in findings_of(tmp_path, decode=True)


def test_a_damaged_file_is_reported_and_the_other_splits_are_checked(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    write_folder(tmp_path, [], split="validation").write_text('{"images": [')
    (tmp_path / "annotations" / "panoptic_other.json").write_text("{}")
    check = check_folder(tmp_path)
    assert [each.split for each in check.splits] == ["train", "validation"]
    assert check.splits[0].findings.sorted() == []
    [finding] = check.splits[1].findings.sorted()
    assert finding.kind == "unreadable file"
    assert "instances_validation.json: is damaged" in finding.examples[0]
    assert [each.kind for each in check.between.sorted()] == ["panoptic without instances"]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ([0, 0, 4, 0, 4, 4, 0, 4], False),
        ([0, 0, 4, 4, 4, 0, 0, 4], True),
        ([0, 0, 4, 0, 4, 4, 2, 0, 0, 4], False),  # a corner on a side
        ([0, 0, 4, 0, 4, 0, 4, 4, 0, 4], False),  # a corner twice
        ([0, 0, 8, 0, 8, 6, 2, 6, 2, -2, 0, -2], True),
        ([1, 1, 1, 1, 1, 1], False),
    ],
)
def test_crossing_sides_are_told_from_touching_ones(corners, expected):
    assert crosses_itself(np.array(corners, dtype=np.float64).reshape(-1, 2)) is expected


def test_the_command_prints_every_kind_with_its_meaning_and_writes_json(tmp_path, capsys):
    write_folder(tmp_path, [annotation(7, image_id=9), annotation(8, area=900)])
    file = tmp_path / "found.json"
    assert main(["data", "check", str(tmp_path), "--json", str(file)]) == 1
    printed, progress = capsys.readouterr()
    for text in ("unknown image_id", "annotation 7: image_id 9", "Remove it.", "area beside"):
        assert text in printed
    assert "1 error, 1 warning, 0 notes" in printed
    assert "pixels were not read" in printed
    assert "2/2 images of train  ETA 0:00" in progress
    content = json.loads(file.read_text())
    assert (content["errors"], content["warnings"]) == (1, 1)
    split = content["splits"]["train"]
    assert split["statistics"]["objects"] == 2
    first = split["findings"][0]
    assert (first["kind"], first["severity"], first["count"]) == ("unknown image_id", "error", 1)
    assert first["meaning"] == KINDS["unknown image_id"].meaning


def test_the_status_is_0_with_warnings_alone_and_1_for_no_folder(tmp_path, capsys):
    write_folder(tmp_path, [annotation(8, area=900)])
    assert main(["data", "check", str(tmp_path), "--decode"]) == 0
    assert "0 errors, 1 warning, 0 notes" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path), "--split", "other"]) == 1
    assert "no split 'other', there are train" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "nothing")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_every_kind_says_what_it_means_and_has_a_known_severity():
    for name, kind in KINDS.items():
        assert kind.severity in SEVERITIES
        assert len(kind.meaning) > 20, name
        assert kind.meaning.endswith(".")


def test_the_page_on_data_has_every_kind_with_the_words_of_the_command():
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [f"| {name} | {kind.meaning} |" for name, kind in KINDS.items()]
    assert [row for row in rows if row not in page] == []
