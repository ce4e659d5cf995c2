"""The numbers of AP against pycocotools, the reference, on random pictures full of rare cases."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import sys

import hotcoco
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_lite.datasets.coco_format import encode_masks
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.evaluation.results import ImageResults
from blendmask_lite.masks import mask_boxes

PLACES = {"AP": 0, "AP50": 1, "AP75": 2, "APS": 3, "APM": 4, "APL": 5, "AR100": 8}


def random_mask(generator, size):
    """A rectangle, now and then a comb, a whole picture or nothing."""
    height, width = size
    mask = torch.zeros(size, dtype=torch.bool)
    y, x = generator.randrange(height), generator.randrange(width)
    mask[y : y + generator.choice([1, 6, 25, 60]), x : x + generator.choice([1, 6, 25, 110])] = True
    if generator.random() < 0.3:
        mask[:, ::3] = False
    if generator.random() < 0.05:
        mask[:] = generator.random() < 0.5
    return mask


def xywh(mask):
    if not mask.any():
        return [0.0, 0.0, 0.0, 0.0]
    x0, y0, x1, y1 = mask_boxes(mask[None])[0].tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def random_case(seed):
    """Truth and results: crowds, ties, classes without objects, objects of all sizes, areas that
    are not the mask's, image ids out of order and zero, now and then over 100 detections."""
    generator = random.Random(seed)
    categories = sorted(generator.sample(range(40), generator.randint(1, 4)))
    images, annotations, results = [], [], []
    most = 130 if seed % 8 == 0 else 12
    for image_id in generator.sample(range(50), generator.randint(1, 4)):
        size = generator.choice([(60, 90), (130, 120), (20, 20)])
        images.append({"id": image_id, "height": size[0], "width": size[1]})
        masks = [random_mask(generator, size) for _ in range(generator.choice([0, 1, 3, 8]))]
        for mask, run in zip(masks, encode_masks(torch.stack(masks)) if masks else [], strict=True):
            is_exact = generator.random() < 0.9
            annotations.append(
                {
                    "id": len(annotations) * 3 + 1,
                    "image_id": image_id,
                    "category_id": generator.choice(categories),
                    "segmentation": run,
                    "area": float(mask.sum()) if is_exact else generator.uniform(0, 12000),
                    "bbox": xywh(mask),
                    "iscrowd": int(generator.random() < 0.2),
                }
            )
        found = []
        for _ in range(generator.randint(0, most)):
            if masks and generator.random() < 0.7:
                moved = [generator.randint(-2, 2) for _ in range(2)]
                found.append(generator.choice(masks).roll(moved, dims=(0, 1)))
            else:
                found.append(random_mask(generator, size))
        scores = [round(generator.random(), generator.choice([0, 1, 6])) for _ in found]
        results.append(
            ImageResults(
                image_id=image_id,
                size=size,
                category_ids=np.array([generator.choice(categories) for _ in found], np.int64),
                boxes=np.array([xywh(mask) for mask in found]).reshape(-1, 4) + 0.125,
                scores=np.array(scores),
                counts=[r["counts"] for r in encode_masks(torch.stack(found))] if found else [],
            )
        )
    names = [{"id": each, "name": f"class {each}"} for each in categories]
    return {"images": images, "annotations": annotations, "categories": names}, results


def entries_of(results, kind):
    """COCO's results; masks without boxes, so that their areas are their own."""
    dropped = {"segm": "bbox", "bbox": "segmentation"}[kind]
    return [
        {key: value for key, value in entry.items() if key != dropped}
        for each in results
        for entry in each.entries()
    ]


def reference(truth, results, kind):
    """pycocotools' evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {"info": {}, **copy.deepcopy(truth)}
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(entries_of(results, kind)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.fixture(params=["hotcoco", "pycocotools"])
def library(request, monkeypatch):
    """Which of the two evaluates."""
    if request.param == "pycocotools":
        monkeypatch.setitem(sys.modules, "hotcoco", None)  # importing it fails
    return request.param


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_numbers_are_those_of_pycocotools(kind, library):
    measured = 0
    for seed in range(60):
        truth, results = random_case(seed)
        if not any(len(each) for each in results):
            continue
        wanted = reference(truth, results, {"mask": "segm", "box": "bbox"}[kind])
        found = evaluate_detections(truth, results)[kind]
        for name, place in PLACES.items():
            value = wanted.stats[place]
            expected = float("nan") if value < 0 else 100 * value
            assert found.numbers[name] == pytest.approx(expected, abs=1e-4, nan_ok=True), seed
            measured += 0 < value < 1
        precision = wanted.eval["precision"][:, :, :, 0, -1]
        assert np.allclose(
            found.precision,
            np.where(precision < 0, np.nan, precision),
            rtol=0,
            atol=1e-6,
            equal_nan=True,
        )
        for label, numbers in enumerate(found.classes):
            own = precision[:, :, label]
            if own.max(initial=-1) < 0:
                assert np.isnan(numbers["AP75"])
            else:
                assert numbers["AP"] == pytest.approx(100 * own.mean(), abs=1e-4)
                assert numbers["AP50"] == pytest.approx(100 * own[0].mean(), abs=1e-4)
                assert numbers["AP75"] == pytest.approx(100 * own[5].mean(), abs=1e-4)
    assert measured > 100  # many were neither nothing nor everything


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_hotcoco_and_pycocotools_agree_on_all_twelve_numbers(kind):
    for seed in range(100, 130):
        truth, results = random_case(seed)
        if not any(len(each) for each in results):
            continue
        true = hotcoco.COCO(copy.deepcopy(truth))
        evaluation = hotcoco.COCOeval(true, true.load_res(entries_of(results, kind)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summary_lines()
        wanted = reference(truth, results, kind).stats
        assert len(wanted) == 12
        assert np.allclose(evaluation.stats, wanted, rtol=0, atol=1e-6), seed


def one_object(*, image_id=1, annotation_id=1, category_id=1):
    """A square of 10 x 10, found exactly."""
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[5:15, 5:15] = True
    [run] = encode_masks(mask[None])
    truth = {
        "images": [{"id": image_id, "height": 20, "width": 20}],
        "annotations": [
            {
                "id": annotation_id,
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": run,
                "area": 100.0,
                "bbox": [5.0, 5.0, 10.0, 10.0],
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": category_id, "name": "square"}],
    }
    found = ImageResults(
        image_id=image_id,
        size=(20, 20),
        category_ids=np.array([category_id]),
        boxes=np.array([[5.0, 5.0, 10.0, 10.0]]),
        scores=np.array([0.5]),
        counts=[run["counts"]],
    )
    return truth, [found]


def test_an_annotation_of_id_0_can_be_found(library):
    # In pycocotools 0 stands for "not matched": this object would count as missed and as a false
    # alarm.
    truth, found = one_object(annotation_id=0)
    assert reference(truth, found, "segm").stats[0] == 0
    assert evaluate_detections(truth, found)["mask"].numbers["AP"] == 100


def test_ids_may_be_as_large_as_they_like(library):
    # The next one is the same float64.
    truth, found = one_object(image_id=2**53 + 1, category_id=2**53 + 3)
    truth["images"].append({"id": 2**53, "height": 20, "width": 20})
    truth["categories"].append({"id": 2**53 + 2, "name": "other"})
    scores = evaluate_detections(truth, found)
    assert scores["mask"].numbers["AP"] == 100
    assert scores["mask"].classes[0]["AP"] == 100
    assert np.isnan(scores["mask"].classes[1]["AP"])


def test_nothing_found_is_zero_and_nothing_to_find_is_no_number(library):
    truth, found = one_object()
    assert evaluate_detections(truth, [])["mask"].numbers["AP"] == 0
    scores = evaluate_detections({**truth, "annotations": []}, found)
    assert np.isnan(scores["box"].numbers["AP"])
    assert np.isnan(scores["box"].classes[0]["AP"])


def test_both_libraries_give_the_same_numbers_classes_and_curves(monkeypatch):
    cases = [random_case(seed) for seed in range(200, 220)]
    fast = [evaluate_detections(*case) for case in cases]
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    for case, wanted in zip(cases, fast, strict=True):
        kept = copy.deepcopy(case[0])
        slow = evaluate_detections(*case)
        assert case[0] == kept
        for kind in ("mask", "box"):
            assert slow[kind].numbers == pytest.approx(wanted[kind].numbers, abs=1e-4, nan_ok=True)
            assert slow[kind].numbers.keys() == wanted[kind].numbers.keys()
            assert np.allclose(slow[kind].precision, wanted[kind].precision, equal_nan=True)
            for own, other in zip(slow[kind].classes, wanted[kind].classes, strict=True):
                assert own == pytest.approx(other, abs=1e-4, nan_ok=True)


def test_polygons_are_evaluated_by_both_libraries(library):
    truth, found = one_object()
    truth["annotations"][0]["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15]]
    assert evaluate_detections(truth, found)["mask"].numbers["AP"] == 100


def test_lvis_without_hotcoco_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    truth, found = one_object()
    truth["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    truth["categories"][0]["frequency"] = "f"
    with pytest.raises(ValueError, match=r"LVIS's AP needs hotcoco .*: pip install hotcoco"):
        evaluate_detections(truth, found)
