"""Reading COCO folders: every form of a mask, odd files, and errors that name what is wrong."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from blendmask_lite.datasets.coco import CocoDataset, PackedRecords
from blendmask_lite.datasets.coco_format import decode_masks, encode_masks, encode_part, run_length
from blendmask_lite.datasets.panoptic import PanopticDataset
from blendmask_lite.datasets.shapes import write_shapes
from blendmask_lite.masks import mask_parts

needs_photographs = pytest.mark.skipif(
    "BLENDMASK_COCO" not in os.environ,
    reason="BLENDMASK_COCO names no COCO folder with the train2017 and val2017 splits",
)

SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]  # x 1 to 4, y 1 to 3: 3 x 2 pixels
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "cup"}, {"id": 90, "name": "car"}]


def annotation(number, image_id=1, category_id=3, segmentation=SQUARE, **more):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        **more,
    }


def write_folder(
    root, annotations, *, images=None, split="train", pictures=True, place=None, mode="RGB"
):
    """A COCO folder of 6 x 5 pixel pictures (height 6)."""
    images = images or [{"id": 1, "file_name": "a.png", "height": 6, "width": 5}]
    folder = root / (split if place is None else place)
    folder.mkdir(parents=True, exist_ok=True)
    for image in images if pictures else []:
        size = (image["width"], image["height"])
        Image.new(mode, size, 100 if mode == "L" else (100,) * len(mode)).save(
            folder / image["file_name"]
        )
    (root / "annotations").mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content))
    return path


def test_labels_follow_ascending_category_ids_with_gaps(tmp_path):
    write_folder(tmp_path, [annotation(1, category_id=90), annotation(2, category_id=7)])
    dataset = CocoDataset(tmp_path)
    assert dataset.split == "train"
    assert dataset.class_names == ("cup", "cat", "car")
    assert dataset.category_ids == (3, 7, 90)
    assert dataset.load(0).target.labels.tolist() == [2, 1]


def test_a_polygon_becomes_its_pixels_and_a_tight_box(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    sample = CocoDataset(tmp_path).load(0)
    wanted = torch.zeros(1, 6, 5, dtype=torch.bool)
    wanted[0, 1:3, 1:4] = True
    assert torch.equal(sample.target.masks, wanted)
    assert sample.target.boxes.tolist() == [[1, 1, 4, 3]]
    assert sample.image.shape == (3, 6, 5)
    assert sample.image.dtype == torch.uint8
    assert sample.original_size == (6, 5)
    assert sample.image_id == 1


def test_the_three_forms_of_a_mask_are_the_same_mask():
    mask = torch.zeros(1, 6, 5, dtype=torch.bool)
    mask[0, 1:3, 1:4] = True
    # Column by column: the first column's 6 and one more, then 2 set of every 6.
    counts = [7, 2, 4, 2, 4, 2, 9]
    compressed = coco_mask.frPyObjects({"size": [6, 5], "counts": counts}, 6, 5)
    text = {"size": [6, 5], "counts": compressed["counts"].decode()}
    for form in (SQUARE, {"size": [6, 5], "counts": counts}, text):
        assert torch.equal(decode_masks([run_length(form, (6, 5))], (6, 5)), mask)
    assert encode_masks(mask) == [text]


def test_many_polygons_are_one_object_and_may_overlap(tmp_path):
    both = [*SQUARE, [3, 2, 5, 2, 5, 5, 3, 5]]
    write_folder(tmp_path, [annotation(1, segmentation=both)])
    target = CocoDataset(tmp_path).load(0).target
    assert len(target) == 1
    assert target.masks.sum() == 6 + 6 - 1
    assert target.boxes.tolist() == [[1, 1, 5, 5]]


def test_crowds_are_in_the_semantic_map_only_and_later_regions_win(tmp_path):
    crowd = {"size": [6, 5], "counts": [12, 6, 12]}  # the third column
    write_folder(
        tmp_path,
        [
            annotation(1),
            annotation(2, category_id=90, segmentation=crowd, iscrowd=1),
            annotation(3, category_id=7, segmentation=[[2, 0, 3, 0, 3, 2, 2, 2]]),
        ],
    )
    target = CocoDataset(tmp_path).load(0).target
    assert target.labels.tolist() == [0, 1]
    assert target.semantic.tolist() == [
        [0, 0, 2, 0, 0],
        [0, 1, 2, 1, 0],
        [0, 1, 3, 1, 0],
        [0, 0, 3, 0, 0],
        [0, 0, 3, 0, 0],
        [0, 0, 3, 0, 0],
    ]


def test_objects_with_an_empty_mask_are_left_out(tmp_path):
    nothing = {"size": [6, 5], "counts": [30]}
    write_folder(
        tmp_path,
        [annotation(1, segmentation=nothing), annotation(2, segmentation=[]), annotation(3)],
    )
    assert len(CocoDataset(tmp_path).load(0).target) == 1


def test_an_image_without_annotations_has_empty_targets_and_can_be_filtered(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": 6, "width": 5} for i in (4, 2, 9)]
    only_crowd = annotation(2, image_id=9, segmentation={"size": [6, 5], "counts": [3, 27]})
    write_folder(tmp_path, [annotation(1, image_id=2), only_crowd | {"iscrowd": 1}], images=images)
    dataset = CocoDataset(tmp_path)
    assert dataset.image_ids == (2, 4, 9)
    target = dataset.load(1).target
    assert target.boxes.shape == (0, 4)
    assert target.masks.shape == (0, 6, 5)
    assert target.semantic.sum() == 0
    assert CocoDataset(tmp_path, filter_empty=True).image_ids == (2,)


def test_grey_and_transparent_files_become_rgb(tmp_path):
    # 100 of 255 parts of the colour 100, the others white.
    for mode, value in (("L", 100), ("RGBA", round((100 * 100 + 155 * 255) / 255))):
        write_folder(tmp_path, [], mode=mode)
        image = CocoDataset(tmp_path).load(0).image
        assert image.shape == (3, 6, 5)
        assert image.unique().tolist() == [value]


def test_exif_orientation_is_ignored_as_coco_does(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 5}]
    write_folder(tmp_path, [], images=images, pictures=False)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (5, 6)).save(tmp_path / "train" / "a.jpg", exif=exif)
    assert CocoDataset(tmp_path).load(0).image.shape == (3, 6, 5)


@pytest.mark.parametrize(
    "place", ["train_parts", "images/train_parts", "images", ".", "train", "other"]
)
def test_pictures_are_found_where_people_put_them(tmp_path, place):
    write_folder(tmp_path, [], split="train_parts", place=place)
    (tmp_path / "another").mkdir()
    dataset = CocoDataset(tmp_path, "train_parts")
    assert dataset.image_path(1) == tmp_path / place / "a.png"


def test_the_folder_with_the_split_in_its_name_wins(tmp_path):
    for place in ("a_train", "val2017"):
        write_folder(tmp_path, [], split="val2017_small", place=place)
    assert CocoDataset(tmp_path).image_path(1) == tmp_path / "val2017" / "a.png"


def images_named(*names):
    return [
        {"id": i, "file_name": name, "height": 6, "width": 5} for i, name in enumerate(names, 1)
    ]


def refused_in(dataset, image_id, *folders):
    """The error names the file, and these as all the folders that were looked in."""
    with pytest.raises(ValueError) as caught:
        dataset.image_path(image_id)
    name = dataset.select([image_id]).ground_truth()["images"][0]["file_name"]
    start = f"{dataset.annotation_file}: image {image_id} ({name}) is missing; looked in "
    assert str(caught.value).startswith(start)
    end = ", but in no folder of another split"
    looked = str(caught.value).removeprefix(start).removesuffix(end)
    assert looked.split(", ") == [str(dataset.root / folder) for folder in folders]


@pytest.mark.parametrize("parent", [".", "images"])
def test_a_missing_picture_is_never_taken_from_another_split(tmp_path, parent):
    names = ("1.png", "2.png", "3.png")
    for split in ("train", "val"):
        place = f"{parent}/{split}"
        write_folder(tmp_path, [], split=split, images=images_named(*names), place=place)
    (tmp_path / parent / "train" / "2.png").unlink()
    dataset = CocoDataset(tmp_path, "train")
    refused_in(dataset, 2, "train", "images/train", "images", ".")
    with pytest.raises(ValueError, match=r"2\.png"):
        dataset.load(1)
    for image_id in (1, 3):
        assert dataset.image_path(image_id).parent == tmp_path / parent / "train"
    assert CocoDataset(tmp_path, "val").image_path(2) == tmp_path / parent / "val" / "2.png"


def test_one_picture_of_a_shared_folder_leaves_the_next_to_the_split_s_own(tmp_path):
    write_folder(tmp_path, [], images=images_named("1.png", "2.png"))
    write_folder(tmp_path, [], images=images_named("1.png", "2.png"), place="images")
    (tmp_path / "train" / "1.png").unlink()
    dataset = CocoDataset(tmp_path)
    assert dataset.image_path(1).parent == tmp_path / "images"
    assert dataset.image_path(2).parent == tmp_path / "train"


@pytest.mark.parametrize(
    "other", ["instances_val", "image_info_val", "lvis_val", "person_keypoints_val_small"]
)
def test_a_split_without_a_folder_takes_none_of_another_split(tmp_path, other):
    write_folder(tmp_path, [], pictures=False)
    (tmp_path / "train").rmdir()
    (tmp_path / "annotations" / f"{other}.json").write_text("{}")
    for place in ("val", "images/val", "panoptic_train", ".hidden"):
        write_folder(tmp_path, [], place=place)
    refused_in(CocoDataset(tmp_path, "train"), 1, "train", "images/train", "images", ".")
    write_folder(tmp_path, [], place="pictures")
    assert CocoDataset(tmp_path, "train").image_path(1) == tmp_path / "pictures" / "a.png"


def test_a_folder_called_like_a_split_is_not_looked_in_by_one_with_its_own(tmp_path):
    write_folder(tmp_path, [], images=images_named("1.png", "2.png", "3.png"))
    for place in ("test", "Validation", "more"):
        write_folder(tmp_path, [], images=images_named("1.png", "2.png"), place=place)
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "train" / name).unlink()
    (tmp_path / "more" / "2.png").unlink()
    dataset = CocoDataset(tmp_path)
    assert dataset.image_path(1) == tmp_path / "more" / "1.png"
    refused_in(dataset, 2, "train", "images/train", "images", ".", "more")


def test_of_two_folders_that_begin_a_split_s_name_the_longer_is_its_own(tmp_path):
    for split in ("train", "train_more"):
        write_folder(tmp_path, [], split=split)
    (tmp_path / "train_more" / "a.png").unlink()
    refused_in(
        CocoDataset(tmp_path, "train_more"),
        1,
        *("train_more", "images/train_more", "images", "."),
    )


def test_a_folder_may_be_named_with_the_file_whatever_split_it_is_of(tmp_path):
    write_folder(tmp_path, [], split="val", images=images_named("a.png"))
    write_folder(tmp_path, [], images=images_named("val/a.png", "deep/b.png"), pictures=False)
    (tmp_path / "train" / "deep").mkdir(parents=True)
    Image.new("RGB", (5, 6)).save(tmp_path / "train" / "deep" / "b.png")
    dataset = CocoDataset(tmp_path, "train")
    assert dataset.image_path(1) == tmp_path / "val" / "a.png"
    assert dataset.image_path(2) == tmp_path / "train" / "deep" / "b.png"


def test_pictures_of_test_dev_lie_in_the_folder_of_the_test_split(tmp_path):
    write_folder(tmp_path, [], split="test2017", images=images_named("a.png"))
    write_folder(tmp_path, [], split="test-dev2017", place="test2017")
    dataset = CocoDataset(tmp_path, "test-dev2017")
    assert dataset.image_path(1) == tmp_path / "test2017" / "a.png"


def test_a_folder_that_is_a_link_is_looked_in(tmp_path):
    write_folder(tmp_path, [], place="elsewhere/pictures")
    (tmp_path / "train").symlink_to(tmp_path / "elsewhere" / "pictures")
    assert CocoDataset(tmp_path).image_path(1) == tmp_path / "train" / "a.png"


def num_containers(value):
    """Dictionaries and lists that are reached from a value, through our own objects, too."""
    if isinstance(value, dict | list | tuple):
        inner = list(value.values()) if isinstance(value, dict) else value
        return 1 + sum(num_containers(each) for each in inner)
    if type(value).__module__.startswith("blendmask_lite"):
        return num_containers(vars(value))
    return 0


def test_a_data_set_holds_few_objects_however_many_annotations_it_has(tmp_path):
    # Whatever has a reference count is copied by every worker process that looks at it.
    counts = []
    for name, number in (("small", 2), ("large", 50)):
        images = images_named(*(f"{i}.png" for i in range(number)))
        entries = [annotation(10 * i + j, image_id=i + 1) for i in range(number) for j in range(9)]
        write_folder(tmp_path / name, entries, images=images, pictures=False)
        dataset = CocoDataset(tmp_path / name, filter_empty=True)
        counts.append(num_containers(dataset))
        truth = dataset.ground_truth()
        assert [each["id"] for each in truth["annotations"]] == [each["id"] for each in entries]
        assert truth["images"] == images
    assert counts[0] == counts[1]


def test_a_panoptic_data_set_holds_few_objects_however_many_segments_it_has(tmp_path):
    counts = []
    for number in (1, 6):
        write_shapes(tmp_path / str(number), num_images=number, stuff=True)
        dataset = PanopticDataset(tmp_path / str(number))
        assert len(dataset.segments(number - 1).segments) > 1
        counts.append(num_containers(dataset))
    assert counts[0] == counts[1]


def test_a_record_that_was_changed_by_its_reader_is_the_same_at_the_next_reading(tmp_path):
    write_folder(tmp_path, [annotation(1, area=6, bbox=[1, 1, 3, 2], iscrowd=0)])
    dataset = CocoDataset(tmp_path)
    first = dataset.ground_truth()
    first["annotations"][0]["bbox"].clear()
    first["images"][0]["file_name"] = "b.png"
    assert dataset.ground_truth()["annotations"][0]["bbox"] == [1, 1, 3, 2]
    assert dataset.image_path(1).name == "a.png"


def test_packed_records_are_a_mapping_in_ascending_order():
    records = {7: {"a": [1, 2.5, None]}, -3: {}, 2**62: {"b": "ä"}}
    packed = PackedRecords(records)
    assert dict(packed) == records and list(packed) == [-3, 7, 2**62] and len(packed) == 3
    assert 7 in packed and 8 not in packed and "7" not in packed
    assert packed.get(8, []) == []
    with pytest.raises(KeyError):
        packed[2**62 + 1]
    empty = PackedRecords({})
    assert len(empty) == 0 and 1 not in empty and list(empty) == []
    again = pickle.loads(pickle.dumps(packed))
    assert dict(again) == records


def test_selected_images_come_in_the_order_asked_for(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": 6, "width": 5} for i in (4, 2, 9)]
    write_folder(tmp_path, [annotation(1, image_id=9)], images=images)
    chosen = CocoDataset(tmp_path).select([9, 2])
    assert [chosen.load(i).image_id for i in range(len(chosen))] == [9, 2]
    assert len(chosen.load(0).target) == 1
    truth = chosen.ground_truth()
    assert [image["id"] for image in truth["images"]] == [9, 2]
    assert truth["annotations"][0]["area"] == 6
    assert truth["annotations"][0]["bbox"] == [1, 1, 3, 2]
    with pytest.raises(ValueError, match="ids 5"):
        CocoDataset(tmp_path).select([5])


def test_the_split_must_be_named_where_there_are_several(tmp_path):
    write_folder(tmp_path, [], split="train")
    write_folder(tmp_path, [], split="val")
    with pytest.raises(ValueError, match="train, val"):
        CocoDataset(tmp_path)
    with pytest.raises(ValueError, match=r"no split 'test'.*train, val"):
        CocoDataset(tmp_path, "test")
    assert CocoDataset(tmp_path, "val").split == "val"


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        CocoDataset(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"not a COCO folder.*\.json$"):
        CocoDataset(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="labelme's files become one by `data labelme`"):
        CocoDataset(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation(17, image_id=5), "annotation 17: image_id 5"),
        (annotation(17, category_id=4), "annotation 17: category_id 4"),
        ({"id": 17, "image_id": 1, "category_id": 3}, "annotation 17: has no 'segmentation'"),
        (annotation(17, segmentation="abc"), "annotation 17: segmentation"),
    ],
)
def test_an_annotation_that_fits_nothing_is_named_with_its_file(tmp_path, entry, message):
    path = write_folder(tmp_path, [annotation(1), entry])
    with pytest.raises(ValueError, match=message) as caught:
        CocoDataset(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1, 4, 1]],  # pycocotools would read a box
        [[1, 1, 4, 1, 4, 3, 1]],
        [[1, 1, 4, 1, None, 3]],
        [1, 1, 4, 1, 4, 3],
        {"size": [6, 5], "counts": [7, 2]},
        {"size": [6, 5], "counts": [40, -10]},
        {"size": [5, 6], "counts": [30]},
        {"size": [6, 5], "counts": "7244"},
        {"size": [6, 5], "counts": "~~~~"},
        {"size": [6, 5], "counts": 30},
        {"counts": [30]},
        {"size": [6, 5]},
        {"size": [6, 5], "counts": "é"},
        {"size": [6, 5], "counts": [True, 29]},
        [[float("nan")] * 6],
        [[True] * 6],
        [[]],
        [[1e300, 0, 5, 5, 0, 5]],
    ],
)
def test_a_damaged_mask_is_named_with_its_file_and_annotation(tmp_path, segmentation):
    whole = annotation(17, segmentation=segmentation, area=4, bbox=[1, 1, 2, 2], iscrowd=0)
    path = write_folder(tmp_path, [whole])
    dataset = CocoDataset(tmp_path)
    for read in (lambda: dataset.load(0), dataset.ground_truth):
        with pytest.raises(ValueError, match="annotation 17: segmentation") as caught:
            read()
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ['{"images": [', "[]", '{"images": []}', "\x00\xff"])
def test_a_damaged_annotation_file_is_named(tmp_path, text):
    path = write_folder(tmp_path, [])
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"instances_train\.json"):
        CocoDataset(tmp_path)


def test_missing_broken_and_wrong_pictures_are_named(tmp_path):
    write_folder(tmp_path, [])
    picture = tmp_path / "train" / "a.png"
    whole = picture.read_bytes()
    dataset = CocoDataset(tmp_path)

    picture.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.png: cannot be read"):
        dataset.load(0)
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read"):
        dataset.load(0)
    Image.new("RGB", (6, 5)).save(picture)
    with pytest.raises(ValueError, match=r"a\.png: is 6 x 5 pixels.*5 x 6"):
        dataset.load(0)
    picture.unlink()
    with pytest.raises(ValueError, match=r"image 1 \(a\.png\) is missing"):
        dataset.load(0)


@needs_photographs
@pytest.mark.parametrize("split", ["train2017", "val2017", "val2017_from_panoptic"])
def test_photographs_have_the_images_objects_and_masks_of_their_file(split):
    root = Path(os.environ["BLENDMASK_COCO"])
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    dataset = CocoDataset(root, split)
    assert len(dataset) == len(content["images"])
    truth = dataset.ground_truth()["annotations"]
    assert len(truth) == len(content["annotations"])
    assert len(dataset.class_names) == len(content["categories"])
    by_image = {image_id: [] for image_id in dataset.image_ids}
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    crowds = [i for i, entries in by_image.items() if any(e["iscrowd"] for e in entries)]
    empty = [i for i, entries in by_image.items() if not entries]
    are_close = []
    for image_id in [*dataset.image_ids[:12], *crowds[:3], *empty[:2]]:
        sample = dataset.select([image_id]).load(0)
        objects = [entry for entry in by_image[image_id] if not entry["iscrowd"]]
        labels = [dataset.category_ids.index(entry["category_id"]) for entry in objects]
        assert sample.target.labels.tolist() == labels
        areas = sample.target.masks.flatten(1).sum(dim=1).tolist()
        for area, box, entry in zip(areas, sample.target.boxes.tolist(), objects, strict=True):
            x, y, width, height = entry["bbox"]
            wanted = (entry["area"] ** 0.5, x, y, x + width, y + height)
            near = [abs(a - b) < 2 for a, b in zip((area**0.5, *box), wanted, strict=True)]
            are_close.append(all(near))
        crowd = torch.zeros(sample.original_size, dtype=torch.bool)
        if image_id in crowds:
            for entry in by_image[image_id]:
                if entry["iscrowd"]:
                    runs = entry["segmentation"]
                    if isinstance(runs["counts"], list):
                        runs = coco_mask.frPyObjects(runs, *sample.original_size)
                    crowd |= torch.from_numpy(np.asarray(coco_mask.decode(runs)).copy()).bool()
            assert (sample.target.semantic[crowd] > 0).all()
    # Areas and boxes of the file are those of the polygons, not of their pixels: they differ
    # where a corner is thinner than a pixel.
    assert len(are_close) > 50
    assert sum(are_close) >= 0.9 * len(are_close)


@needs_photographs
def test_grey_photographs_become_three_equal_channels():
    root = Path(os.environ["BLENDMASK_COCO"])
    dataset = CocoDataset(root, "train2017")
    grey = [
        image_id
        for image_id in dataset.image_ids
        if Image.open(dataset.image_path(image_id)).mode == "L"
    ]
    assert grey
    image = dataset.select(grey[:1]).load(0).image
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (13, 9)])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_a_mask_encoded_from_its_part_is_the_text_of_the_whole(size, share):
    masks = torch.rand(20, *size, generator=torch.Generator().manual_seed(0)) < share
    everything = (slice(0, size[0]), slice(0, size[1]))
    expected = encode_masks(masks)  # pycocotools looks at every pixel
    assert [encode_part(*each, size) for each in mask_parts(masks)] == expected
    assert [encode_part(everything, each, size) for each in masks] == expected


def test_only_the_named_classes_are_read_and_images_without_them_stay_unless_filtered(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": 6, "width": 5} for i in (1, 2)]
    crowd = annotation(4, category_id=90, iscrowd=1)
    others = [annotation(1, category_id=7), annotation(2), annotation(3, image_id=2)]
    write_folder(tmp_path, [*others, crowd], images=images)
    dataset = CocoDataset(tmp_path, classes=("cat", "car"))
    assert dataset.class_names == ("cat", "car") and dataset.category_ids == (7, 90)
    sample = dataset.load(0)
    assert sample.target.labels.tolist() == [0]
    assert sample.target.semantic.unique().tolist() == [0, 2]  # the crowd covers the cat
    assert len(dataset) == 2 and len(dataset.load(1).target) == 0
    assert [each["id"] for each in dataset.ground_truth()["annotations"]] == [1, 4]
    assert CocoDataset(tmp_path, classes=("cat",), filter_empty=True).image_ids == (1,)


def test_all_classes_or_the_named_ones_are_read_as_one(tmp_path):
    write_folder(tmp_path, [annotation(1, category_id=90), annotation(2, category_id=7)])
    dataset = CocoDataset(tmp_path, is_one_class=True)
    assert dataset.class_names == ("object",) and dataset.category_ids == (1,)
    assert dataset.load(0).target.labels.tolist() == [0, 0]
    assert [each["category_id"] for each in dataset.ground_truth()["annotations"]] == [1, 1]
    named = CocoDataset(tmp_path, classes=("car",), is_one_class=True)
    assert named.class_names == ("object",) and len(named.load(0).target) == 1


def test_an_unknown_class_is_refused_with_the_names_that_are_close(tmp_path):
    write_folder(tmp_path, [annotation(1)])
    with pytest.raises(ValueError, match=r"classes: there is no 'cats'; close to it are cat"):
        CocoDataset(tmp_path, classes=("cup", "cats"))
    with pytest.raises(ValueError, match=r"classes: there is no 'zebra'; there are .*cat"):
        CocoDataset(tmp_path, classes=("zebra",))
    with pytest.raises(ValueError, match="classes: must name at least one"):
        CocoDataset(tmp_path, classes=())
