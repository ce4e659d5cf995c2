"""LVIS: reading it, and AP where not every class was looked for in every picture.

The expected numbers are worked out by hand, or come from `brute_force` below, which follows Gupta
et al., "LVIS", section 2.1, on whole masks with plain loops.
"""

from __future__ import annotations

import json
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite.datasets.coco_format import decode_masks, encode_masks
from blendmask_lite.datasets.lvis import LVIS_NAMES, CocoClassesOfLvis, LvisDataset
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.evaluation.instances import InstanceEvaluator, evaluate_model
from blendmask_lite.evaluation.results import ImageResults
from blendmask_lite.structures import Detections
from blendmask_lite.weights.zoo import COCO_THINGS

CATEGORIES = [
    {"id": 30, "name": "wolf", "synonyms": ["wolf"], "frequency": "r"},
    {"id": 4, "name": "mug", "synonyms": ["mug", "cup"], "frequency": "f"},
    {"id": 7, "name": "kayak", "synonyms": ["kayak"], "frequency": "c"},
]


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotation(number, image_id, category_id, x, y, side):
    """LVIS has no crowd flag."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": square(x, y, side),
        "bbox": [x, y, side, side],
        "area": float(side * side),
    }


def image(number, *, absent=(), partial=(), folder="val2017"):
    """LVIS has no file names."""
    return {
        "id": number,
        "height": 40,
        "width": 60,
        "coco_url": f"http://images.cocodataset.org/{folder}/{number:012}.jpg",
        "neg_category_ids": list(absent),
        "not_exhaustive_category_ids": list(partial),
    }


def write_lvis(root, images, annotations, categories=CATEGORIES):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    path = root / "annotations" / "lvis_v1_val.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    for each in images:
        file = root / "/".join(each["coco_url"].split("/")[-2:])
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), (each["id"], 0, 0)).save(file)
    return path


def detections(boxes, labels, scores):
    """Filled boxes on a picture of 40 x 60."""
    masks = torch.zeros(len(boxes), 40, 60, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(
        boxes=boxes,
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=masks,
        mask_logits=torch.zeros(len(boxes), 28, 28),
        location_index=torch.arange(len(boxes)),
        proposal_boxes=boxes,
        image_size=(40, 60),
    )


def test_pictures_are_found_by_their_address_and_labels_follow_ascending_ids(tmp_path):
    images = [image(2, folder="train2017"), image(1, absent=[7], partial=[4])]
    write_lvis(tmp_path, images, [annotation(5, 2, 30, 3, 4, 10), annotation(9, 1, 4, 0, 0, 5)])
    dataset = LvisDataset(tmp_path)
    assert dataset.split == "v1_val"
    assert dataset.class_names == ("mug", "kayak", "wolf")
    assert dataset.image_ids == (1, 2)
    sample = dataset.load(1)
    assert sample.image[0].unique().tolist() == [2]
    assert sample.target.labels.tolist() == [2]
    assert sample.target.boxes.tolist() == [[3, 4, 13, 14]]
    truth = dataset.select([1]).ground_truth()
    assert [each["id"] for each in truth["annotations"]] == [9]
    assert truth["images"][0]["neg_category_ids"] == [7]
    assert [each["frequency"] for each in truth["categories"]] == ["f", "c", "r"]


def test_the_pictures_of_one_folder_can_be_chosen(tmp_path):
    # A model that was trained on train2017 has seen some of LVIS's pictures of val.
    write_lvis(tmp_path, [image(1), image(2, folder="train2017"), image(3)], [])
    dataset = LvisDataset(tmp_path)
    assert dataset.of_folder("val2017").image_ids == (1, 3)
    assert dataset.of_folder("train2017").image_ids == (2,)
    with pytest.raises(ValueError, match="has no images of the folder test2017"):
        dataset.of_folder("test2017")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neg_category_ids": [8]}, "image 1: neg_category_ids holds 8, which is not among"),
        ({"not_exhaustive_category_ids": "4"}, "image 1: not_exhaustive_category_ids = '4' is not"),
        ({"coco_url": 3}, "image 1: coco_url = 3 is not text"),
        ({"coco_url": "http://x/../y.jpg"}, "image 1: file_name = '../y.jpg' is not"),
    ],
)
def test_an_image_that_makes_no_sense_is_refused(tmp_path, change, message):
    write_lvis(tmp_path, [image(1)], [])
    file = tmp_path / "annotations" / "lvis_v1_val.json"
    content = json.loads(file.read_text())
    content["images"][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        LvisDataset(tmp_path)


@pytest.mark.parametrize("kind", ["image", "category"])
def test_an_entry_without_an_id_is_refused(tmp_path, kind):
    path = write_lvis(tmp_path, [image(1)], [])
    content = json.loads(path.read_text())
    del content[{"image": "images", "category": "categories"}[kind]][0]["id"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{kind} number 0: has no 'id'"):
        LvisDataset(tmp_path)


def test_a_category_without_frequency_is_refused(tmp_path):
    write_lvis(tmp_path, [image(1)], [], [{"id": 3, "name": "wolf"}])
    with pytest.raises(ValueError, match="category 3: has no 'frequency'"):
        LvisDataset(tmp_path)


def evaluated(dataset, *found):
    evaluator = InstanceEvaluator(dataset)
    for image_id, each in found:
        evaluator.add(image_id, each)
    return evaluator.finish()


BOX = [3, 4, 13, 14]
ELSEWHERE = [30, 20, 40, 30]


def test_a_class_that_nobody_looked_for_in_a_picture_is_no_mistake_there(tmp_path):
    # Labels: 0 mug, 1 kayak, 2 wolf. The wolf of picture 1 is found, at a lower score than a
    # "wolf" of picture 2. Precision is 1 where nobody looked for wolves in picture 2, 1/2 where
    # it is known to have none.
    wolf = annotation(1, 1, 30, 3, 4, 10)
    found = (1, detections([BOX], [2], [0.5])), (2, detections([BOX], [2], [0.9]))
    for absent, wanted in (([], 100), ([30], 50)):
        write_lvis(tmp_path, [image(1), image(2, absent=absent)], [wolf])
        results = evaluated(LvisDataset(tmp_path), *found)
        assert results.mask["AP"] == results.box["AP"] == pytest.approx(wanted, abs=1e-3)
        assert results.mask["APr"] == pytest.approx(wanted, abs=1e-3)
        assert np.isnan(results.mask["APc"]) and np.isnan(results.mask["APf"])
        assert results.mask["AR300"] == 100


def test_surplus_detections_of_a_class_marked_in_part_are_no_mistakes(tmp_path):
    mug = annotation(1, 1, 4, 3, 4, 10)
    found = (1, detections([ELSEWHERE, BOX], [0, 0], [0.9, 0.5]))
    for partial, wanted in (([4], 100), ([], 50)):
        write_lvis(tmp_path, [image(1, partial=partial)], [mug])
        results = evaluated(LvisDataset(tmp_path), found)
        assert results.mask["AP"] == pytest.approx(wanted, abs=1e-3)
        assert results.mask["APf"] == pytest.approx(wanted, abs=1e-3)


def test_the_best_300_detections_of_a_picture_count_over_all_classes(tmp_path):
    # 300 kayaks come before the wolf, which is therefore lost; 299 leave it in.
    write_lvis(tmp_path, [image(1)], [annotation(1, 1, 30, 3, 4, 10)])
    for num, wanted in ((299, 100), (300, 0)):
        boxes = [ELSEWHERE] * num + [BOX]
        found = detections(boxes, [1] * num + [2], [0.9] * num + [0.5])
        assert evaluated(LvisDataset(tmp_path), (1, found)).mask["APr"] == wanted


def test_without_hotcoco_the_model_does_not_work_in_vain(tmp_path, monkeypatch):
    write_lvis(tmp_path, [image(1)], [annotation(1, 1, 4, 2, 2, 9)])
    dataset = LvisDataset(tmp_path)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(ValueError, match="LVIS's AP needs hotcoco"):
        evaluate_model(SimpleNamespace(class_names=dataset.class_names), dataset)


def random_lvis(seed):
    generator = random.Random(seed)
    categories = [
        {"id": number, "name": str(number), "frequency": generator.choice("rcf")}
        for number in range(1, 6)
    ]
    images, annotations, results = [], [], []
    for image_id in range(1, 5):
        size = (100, 100)
        present, absent = generator.sample(range(1, 6), 2), []
        partial = [each for each in present if generator.random() < 0.4]
        absent = [n for n in range(1, 6) if n not in present and generator.random() < 0.5]
        images.append(
            image(image_id, absent=absent, partial=partial) | {"height": 100, "width": 100}
        )
        masks = []
        for _ in range(generator.randint(1, 4)):
            mask = torch.zeros(size, dtype=torch.bool)
            y, x = generator.randrange(60), generator.randrange(60)
            mask[y : y + generator.choice([9, 40, 99]), x : x + generator.choice([9, 40, 99])] = (
                True
            )
            masks.append(mask)
            [run] = encode_masks(mask[None])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": generator.choice(present),
                    "segmentation": run,
                    "area": float(mask.sum()),
                    "bbox": [0.0, 0.0, 1.0, 1.0],
                }
            )
        found = [
            generator.choice(masks).roll(
                [generator.randint(-4, 4), generator.randint(-4, 4)], dims=(0, 1)
            )
            for _ in range(generator.randint(0, 20))
        ]
        results.append(
            ImageResults(
                image_id=image_id,
                size=size,
                category_ids=np.array([generator.randint(1, 5) for _ in found], np.int64),
                boxes=np.zeros((len(found), 4)),
                scores=np.array([round(generator.random(), 1) for _ in found]),
                counts=[run["counts"] for run in encode_masks(torch.stack(found))] if found else [],
            )
        )
    return {"images": images, "annotations": annotations, "categories": categories}, results


def whole_masks(runs):
    return decode_masks(
        [{"size": run["size"], "counts": run["counts"].encode()} for run in runs], (100, 100)
    ).numpy()


def brute_force(truth, results):
    """(10, classes) average precision over all sizes, and over sizes small, medium, large."""
    found = {each.image_id: each for each in results}
    ranges = {"all": (0, 1e10), "APS": (0, 32**2), "APM": (32**2, 96**2), "APL": (96**2, 1e10)}
    table = {name: np.full((10, len(truth["categories"])), np.nan) for name in ranges}
    for label, category in enumerate(truth["categories"]):
        for name, (least, most) in ranges.items():
            for place, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
                outcomes, num_true = [], 0
                for picture in truth["images"]:
                    true = [
                        each
                        for each in truth["annotations"]
                        if (each["image_id"], each["category_id"])
                        == (picture["id"], category["id"])
                    ]
                    if not true and category["id"] not in picture["neg_category_ids"]:
                        continue
                    is_partial = category["id"] in picture["not_exhaustive_category_ids"]
                    part = found[picture["id"]]
                    own = part.category_ids == category["id"]
                    runs = [
                        r for r, is_own in zip(part.segmentations(), own, strict=True) if is_own
                    ]
                    masks = whole_masks(runs)
                    scores = part.scores[own]
                    true_masks = whole_masks([each["segmentation"] for each in true])
                    counts = [least <= each["area"] <= most for each in true]
                    num_true += sum(counts)
                    taken = set()
                    for index in np.argsort(-scores, kind="stable"):
                        best, best_iou = None, min(threshold, 1 - 1e-10)
                        # Those that count first; an object outside of the range only if none.
                        order = sorted(range(len(true)), key=lambda n: not counts[n])
                        for n in order:
                            if n in taken:
                                continue
                            if best is not None and counts[best] and not counts[n]:
                                break
                            both = (masks[index] & true_masks[n]).sum()
                            either = (masks[index] | true_masks[n]).sum()
                            if both / either >= best_iou:
                                best, best_iou = n, both / either
                        if best is not None:
                            taken.add(best)
                            if counts[best]:
                                outcomes.append((scores[index], 1))
                        elif not is_partial and least <= masks[index].sum() <= most:
                            outcomes.append((scores[index], 0))
                if num_true:
                    table[name][place, label] = area_below(outcomes, num_true)
    return table


def area_below(outcomes, num_true):
    """Mean of the best precision at or beyond each of 101 recalls."""
    outcomes = sorted(outcomes, key=lambda each: -each[0])
    hits = np.cumsum([hit for _, hit in outcomes])
    recalls, precisions = hits / num_true, hits / np.arange(1, len(hits) + 1)
    return np.mean(
        [
            max([p for p, r in zip(precisions, recalls, strict=True) if r >= level], default=0.0)
            for level in np.linspace(0, 1, 101)
        ]
    )


@pytest.mark.slow
def test_numbers_are_those_of_plain_loops():
    for seed in range(6):
        truth, results = random_lvis(seed)
        numbers = evaluate_detections(truth, results)["mask"].numbers
        wanted = brute_force(truth, results)
        classes = wanted["all"].mean(axis=0)
        assert 2 < 100 * np.nanmean(classes) < 98
        expected = {
            "AP": np.nanmean(classes),
            "AP50": np.nanmean(wanted["all"][0]),
            "AP75": np.nanmean(wanted["all"][5]),
        }
        for name in ("APS", "APM", "APL"):
            if not np.isnan(wanted[name]).all():
                expected[name] = np.nanmean(wanted[name])
        for group in "rcf":
            own = [
                value
                for value, each in zip(classes, truth["categories"], strict=True)
                if each["frequency"] == group and not np.isnan(value)
            ]
            expected[f"AP{group}"] = np.mean(own) if own else float("nan")
        for name, value in expected.items():
            assert numbers[name] == pytest.approx(100 * value, abs=1e-3, nan_ok=True), (seed, name)


# ------------------------------------------------------------------ COCO's classes


def all_categories():
    """COCO's 80 among others, ids in another order than COCO's."""
    names = [*LVIS_NAMES.values(), "wolf", "mug", "kayak"]
    random.Random(3).shuffle(names)
    return [
        {"id": number, "name": name, "synonyms": [name], "frequency": "f"}
        for number, name in enumerate(names, start=1)
    ]


def test_cocos_80_classes_have_one_name_each_in_lvis():
    assert tuple(LVIS_NAMES) == COCO_THINGS
    assert len(set(LVIS_NAMES.values())) == 80


def test_cocos_classes_of_lvis_leave_out_all_others(tmp_path):
    categories = all_categories()
    number = {each["name"]: each["id"] for each in categories}
    images = [
        image(1, absent=[number["wolf"], number["zebra"]], partial=[number["mug"], number["sofa"]]),
        image(2),
    ]
    annotations = [
        annotation(1, 1, number["sofa"], 3, 4, 10),
        annotation(2, 1, number["mug"], 9, 9, 10),
        annotation(3, 2, number["kayak"], 3, 4, 10),
        annotation(4, 2, number["person"], 3, 4, 10),
    ]
    write_lvis(tmp_path, images, annotations, categories)
    dataset = CocoClassesOfLvis(tmp_path)
    assert dataset.class_names == COCO_THINGS
    couch, person = COCO_THINGS.index("couch"), COCO_THINGS.index("person")
    assert dataset.load(0).target.labels.tolist() == [couch]
    assert dataset.load(1).target.labels.tolist() == [person]
    truth = dataset.ground_truth()
    assert truth["images"][0]["neg_category_ids"] == [number["zebra"]]
    assert truth["images"][0]["not_exhaustive_category_ids"] == [number["sofa"]]

    # Couches are marked in part, so a second one is no mistake; a zebra is known to be absent,
    # but no class of the data without zebras; nobody looked for persons in picture 1.
    zebra = COCO_THINGS.index("zebra")
    first = detections(
        [ELSEWHERE, BOX, BOX, BOX], [couch, couch, zebra, person], [0.9, 0.8, 0.7, 0.9]
    )
    results = evaluated(dataset, (1, first), (2, detections([BOX], [person], [0.5])))
    assert results.mask["AP"] == 100
    of_class = {each.name: each for each in results.classes}
    assert of_class["couch"].mask["AP"] == of_class["person"].mask["AP"] == 100
    assert of_class["couch"].num_objects == 1
    assert of_class["couch"].num_detections == 2
    assert np.isnan(of_class["zebra"].mask["AP"])


def test_a_class_is_found_by_a_synonym_where_its_name_is_another(tmp_path):
    categories = all_categories()
    [sofa] = (each for each in categories if each["name"] == "sofa")
    sofa |= {"name": "davenport", "synonyms": ["davenport", "sofa"]}
    write_lvis(tmp_path, [image(1)], [annotation(1, 1, sofa["id"], 3, 4, 10)], categories)
    dataset = CocoClassesOfLvis(tmp_path)
    assert dataset.load(0).target.labels.tolist() == [COCO_THINGS.index("couch")]


def test_a_class_of_coco_that_lvis_lacks_or_has_twice_is_refused(tmp_path):
    categories = all_categories()
    fewer = [each for each in categories if each["name"] != "sofa"]
    write_lvis(tmp_path, [image(1)], [], fewer)
    with pytest.raises(ValueError, match="no category is called 'sofa', COCO's 'couch'"):
        CocoClassesOfLvis(tmp_path)
    twice = {"id": 999, "name": "sofa", "frequency": "f"}
    write_lvis(tmp_path, [image(1)], [], [*categories, twice])
    with pytest.raises(ValueError, match="2 categories are called 'sofa'"):
        CocoClassesOfLvis(tmp_path)
