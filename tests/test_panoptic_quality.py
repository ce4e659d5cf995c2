"""Panoptic quality: cases worked out by hand, an independent loop, and files of COCO's format."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hotcoco.panoptic import PanopticEval
from pretended_gpu import pretended_gpu, to_gpu

from blendmask_lite import (
    PRESETS,
    BlendMask,
    PanopticResult,
    Segment,
    Target,
    load_model,
    save_model,
)
from blendmask_lite.cli import main
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.panoptic import (
    PanopticData,
    PanopticDataset,
    TrueSegment,
    TrueSegments,
    panoptic_categories,
    read_segment_ids,
    segments_of,
    write_segment_ids,
)
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset, write_shapes
from blendmask_lite.evaluation.panoptic import (
    count_segments,
    evaluate_panoptic,
    panoptic_entry,
    panoptic_results_path,
)
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale

COCO = Path(os.environ.get("BLENDMASK_COCO", ""))
needs_photographs = pytest.mark.skipif(
    not (COCO / "annotations" / "panoptic_val2017.json").is_file(),
    reason="BLENDMASK_COCO names no COCO folder with panoptic annotations",
)

PERSON, DOG, SKY = 1, 5, 9
CATEGORIES = [
    {"id": PERSON, "name": "person", "isthing": 1},
    {"id": DOG, "name": "dog", "isthing": 1},
    {"id": SKY, "name": "sky", "isthing": 0},
]


def small_model(seed: int = 0) -> BlendMask:
    torch.manual_seed(seed)
    config = replace(
        PRESETS["nano_panoptic"],
        stem_channels=8,
        stage_width=8,
        pyramid_channels=16,
        bottom_channels=8,
        semantic_channels=8,
        panoptic_channels=8,
    )
    inference = replace(
        PRESET_INFERENCE["nano_panoptic"],
        panoptic_score_threshold=0.0,
        stuff_area=1,
        max_detections=10,
        test_size=64,
        max_size=64,
    )
    names = ShapesDataset(1)
    return BlendMask(
        config,
        inference=inference,
        class_names=names.class_names,
        stuff_names=names.stuff_names,
    )


def columns(*widths: tuple[int, int], height: int = 10) -> torch.Tensor:
    """A picture of upright stripes: (id, width) from left to right."""
    row = torch.cat([torch.full((width,), number) for number, width in widths])
    return row.expand(height, -1).clone()


def counted(truth, segments, ids, category_of):
    found = count_segments(TrueSegments(truth, tuple(segments)), ids, category_of, CATEGORIES)
    return {key: (round(each.iou_sum, 9), each.matched, each.unmatched, each.missed)
            for key, each in found.items()}  # fmt: skip


# The counts of one image, by hand


def test_a_pair_matches_above_an_iou_of_one_half_only():
    truth = columns((1, 10), (2, 10))
    people = [TrueSegment(1, PERSON), TrueSegment(2, PERSON)]
    # 5 of 10 columns: IoU 1/2, no match. 6 of 10: 6/10, a match.
    found = columns((7, 5), (0, 9), (8, 6))
    assert counted(truth, people, found, {7: PERSON, 8: PERSON}) == {PERSON: (0.6, 1, 1, 1)}


def test_segments_of_another_class_do_not_match():
    truth = columns((1, 10))
    assert counted(truth, [TrueSegment(1, PERSON)], columns((3, 10)), {3: DOG}) == {
        PERSON: (0, 0, 0, 1),
        DOG: (0, 0, 1, 0),
    }


def test_pixels_without_a_true_segment_leave_the_union():
    # The person fills 6 columns; the prediction has these and 4 that nobody labelled, and misses
    # none: IoU 1. Ground labelled otherwise stays in: 6 / 8.
    truth = columns((1, 6), (0, 4), (2, 10))
    people = [TrueSegment(1, PERSON), TrueSegment(2, SKY)]
    everything = columns((4, 10), (0, 10))
    assert counted(truth, people, everything, {4: PERSON})[PERSON] == (1, 1, 0, 0)
    over = columns((0, 6), (1, 0), (0, 2), (4, 12))
    assert counted(truth, people, over, {4: SKY})[SKY] == (1, 1, 0, 0)
    shifted = columns((0, 4), (4, 16))
    assert counted(truth, people, shifted, {4: SKY})[SKY] == (round(10 / 12, 9), 1, 0, 0)


def test_pixels_that_the_model_leaves_open_stay_in_the_union():
    truth = columns((1, 10))
    assert counted(truth, [TrueSegment(1, SKY)], columns((3, 7), (0, 3)), {3: SKY}) == {
        SKY: (0.7, 1, 0, 0)
    }


def test_a_segment_mostly_on_unlabelled_ground_is_not_held_against_the_model():
    truth = columns((0, 10), (1, 10))
    people = [TrueSegment(1, PERSON)]
    mostly = columns((0, 4), (3, 8), (0, 8))  # 6 of 8 unlabelled
    assert counted(truth, people, mostly, {3: DOG}) == {PERSON: (0, 0, 0, 1)}
    half = columns((0, 6), (3, 8), (0, 6))  # 4 of 8: not more than half
    assert counted(truth, people, half, {3: DOG})[DOG] == (0, 0, 1, 0)


def test_a_crowd_is_neither_matched_nor_missed_and_forgives_its_own_class():
    truth = columns((1, 10), (2, 10))
    segments = [TrueSegment(1, PERSON, is_crowd=True), TrueSegment(2, SKY)]
    nobody = columns((0, 10), (5, 10))
    assert counted(truth, segments, nobody, {5: SKY}) == {SKY: (1, 1, 0, 0)}
    # Exactly the crowd, three pieces of it, and a piece that reaches out by less than half.
    assert counted(truth, segments, columns((4, 10), (5, 10)), {4: PERSON, 5: SKY}) == {
        SKY: (1, 1, 0, 0)
    }
    pieces = columns((3, 2), (4, 3), (6, 5), (5, 10))
    assert counted(truth, segments, pieces, {3: PERSON, 4: PERSON, 6: PERSON, 5: SKY}) == {
        SKY: (1, 1, 0, 0)
    }
    reaching = columns((0, 7), (3, 5), (5, 8))
    assert PERSON not in counted(truth, segments, reaching, {3: PERSON, 5: SKY})
    too_far = columns((0, 8), (3, 4), (5, 8))  # 2 of 4 columns on the crowd
    assert counted(truth, segments, too_far, {3: PERSON, 5: SKY})[PERSON] == (0, 0, 1, 0)
    dogs = columns((4, 10), (5, 10))
    assert counted(truth, segments, dogs, {4: DOG, 5: SKY})[DOG] == (0, 0, 1, 0)


def test_crowd_and_unlabelled_ground_forgive_together():
    # 2 columns unlabelled, 2 on the crowd, 3 on the sky: 4 of 7.
    truth = columns((0, 5), (1, 2), (2, 10))
    segments = [TrueSegment(1, PERSON, is_crowd=True), TrueSegment(2, SKY)]
    found = columns((0, 3), (4, 7), (0, 7))
    assert PERSON not in counted(truth, segments, found, {4: PERSON})


def test_nothing_true_and_nothing_found_count_nothing():
    empty = torch.zeros(10, 20, dtype=torch.int64)
    truth, sky = columns((1, 20)), [TrueSegment(1, SKY)]
    assert counted(empty, [], empty.int(), {}) == {}
    assert counted(empty, [], truth, {1: SKY}) == {}  # everything unlabelled
    assert counted(truth, sky, empty.int(), {}) == {SKY: (0, 0, 0, 1)}


def test_wrong_sizes_and_unknown_categories_are_refused():
    truth = TrueSegments(columns((1, 20)), (TrueSegment(1, SKY),))
    with pytest.raises(ValueError, match=r"segments of \(10, 19\) pixels, true ones of \(10, 20\)"):
        count_segments(truth, columns((1, 19)), {1: SKY}, CATEGORIES)
    with pytest.raises(ValueError, match="category 77"):
        count_segments(truth, columns((1, 20)), {1: 77}, CATEGORIES)
    strange = TrueSegments(truth.ids, (TrueSegment(1, 66),))
    with pytest.raises(ValueError, match="category 66"):
        count_segments(strange, columns((1, 20)), {1: SKY}, CATEGORIES)


# PQ, SQ and RQ


def test_quality_is_equation_1_and_averages_leave_out_what_does_not_occur():
    # Person: IoUs 0.8 and 0.6 of two pairs, one false alarm, one missed. Sky: one pair of 0.9.
    quality = PanopticQuality(
        {"person": SegmentCounts(1.4, 2, 1, 1), "dog": SegmentCounts()},
        {"sky": SegmentCounts(0.9, 1, 0, 0), "mud": SegmentCounts(0.0, 0, 0, 3)},
        num_images=7,
    )
    person = quality.thing_classes["person"].quality
    assert person == pytest.approx({"PQ": 140 / 3, "SQ": 70, "RQ": 200 / 3})
    assert quality.things == person  # without the dog
    assert quality.stuff == pytest.approx({"PQ": 45, "SQ": 45, "RQ": 50})
    assert quality.all == pytest.approx(
        {"PQ": (140 / 3 + 90) / 3, "SQ": (70 + 90) / 3, "RQ": (200 / 3 + 100) / 3}
    )
    assert math.isnan(quality.thing_classes["dog"].quality["PQ"])
    lines = quality.table().splitlines()
    assert lines[1].split() == ["all", "45.6", "53.3", "55.6", "3"]
    assert lines[2].split() == ["things", "46.7", "70.0", "66.7", "1"]
    assert lines[4] == "7 images"
    rows = quality.class_table().splitlines()
    assert rows[1].split() == ["person", "46.7", "70.0", "66.7", "2", "1", "1"]
    assert [row.split()[0] for row in rows[1:]] == ["person", "sky", "mud"]
    content = json.loads(quality.to_json())
    assert content["thing_classes"]["dog"] == {
        "PQ": None, "SQ": None, "RQ": None, "iou_sum": 0, "matched": 0, "unmatched": 0, "missed": 0
    }  # fmt: skip
    assert content["stuff"]["PQ"] == pytest.approx(45)
    assert content["num_images"] == 7


def test_no_class_at_all_is_not_a_number_and_no_crash():
    quality = PanopticQuality({}, {"sky": SegmentCounts()}, num_images=1)
    assert all(math.isnan(value) for value in (quality.all | quality.things).values())
    assert quality.table().splitlines()[1].split() == ["all", "-", "-", "-", "0"]
    assert len(quality.class_table().splitlines()) == 1


def test_names_of_a_panoptic_table_cannot_write_to_the_terminal():
    counts = SegmentCounts(iou_sum=1.0, matched=1)
    quality = PanopticQuality({"\x1b[2Jcat": counts}, {"sky": counts}, num_images=1)
    rows = quality.class_table().splitlines()
    assert [row.split()[0] for row in rows[1:]] == [r"\x1b[2Jcat", "sky"]
    assert len({len(row) for row in rows}) == 1


# An independent loop, pixel sets and fractions


def brute_force(truth: TrueSegments, ids, category_of):
    """Counts of one image by sets of pixels, with exact fractions."""
    true_ids, found_ids = truth.ids.flatten().tolist(), ids.flatten().tolist()
    pixels: dict[tuple[int, int], int] = {}
    for pair in zip(true_ids, found_ids, strict=True):
        pixels[pair] = pixels.get(pair, 0) + 1
    areas = [{}, {}]
    for pair, number in pixels.items():
        for side in (0, 1):
            areas[side][pair[side]] = areas[side].get(pair[side], 0) + number
    counts: dict[int, list] = {}

    def add(category, place, value=1):
        counts.setdefault(category, [Fraction(0), 0, 0, 0])[place] += value

    matched_true, matched_found = set(), set()
    for segment in truth.segments:
        for number, category in category_of.items():
            if segment.is_crowd or category != segment.category_id:
                continue
            common = pixels.get((segment.id, number), 0)
            union = areas[0][segment.id] + areas[1][number] - common - pixels.get((0, number), 0)
            if 2 * common > union:
                add(category, 0, Fraction(common, union))
                add(category, 1)
                matched_true.add(segment.id)
                matched_found.add(number)
    for segment in truth.segments:
        if not segment.is_crowd and segment.id not in matched_true:
            add(segment.category_id, 3)
    # Of several crowds of one class, panopticapi knows the last.
    crowd_of = {each.category_id: each.id for each in truth.segments if each.is_crowd}
    for number, category in category_of.items():
        if number in matched_found:
            continue
        forgiven = pixels.get((0, number), 0) + pixels.get((crowd_of.get(category), number), 0)
        if 2 * forgiven <= areas[1][number]:
            add(category, 2)
    return {key: (float(iou), *rest) for key, (iou, *rest) in counts.items()}


def as_tuples(counts):
    return {
        key: (pytest.approx(each.iou_sum, abs=1e-9), each.matched, each.unmatched, each.missed)
        for key, each in counts.items()
    }


def perturbed(truth: TrueSegments, categories, generator):
    """The true segments moved, some lost, cut in two or of another class, some pixels emptied."""
    shift = generator.integers(-12, 13, 2).tolist()
    ids = truth.ids.roll(shift, dims=(0, 1))
    category_of = {}
    for number in ids.unique().tolist():
        if number == 0 or generator.random() < 0.1:
            ids[ids == number] = 0
            continue
        own = next(each.category_id for each in truth.segments if each.id == number)
        alike = [each["id"] for each in categories]
        category_of[number] = int(generator.choice(alike)) if generator.random() < 0.1 else own
        if generator.random() < 0.2:
            half = ids == number
            half[:, : ids.shape[1] // 2] = False
            if half.any() and not half.equal(ids == number):
                ids[half] = new = max(category_of) + 10_000_000
                category_of[new] = category_of[number]
    ids[generator.integers(0, 5) :: 37] = 0
    present = set(ids.unique().tolist())
    return ids, {key: value for key, value in category_of.items() if key in present}


def test_counts_of_random_segments_are_those_of_an_independent_loop():
    generator = np.random.default_rng(0)
    kinds = set()
    for _ in range(40):
        blocks = torch.from_numpy(generator.integers(0, 7, (5, 6)))
        ids = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
        truth = TrueSegments(
            ids,
            tuple(
                TrueSegment(number, int(generator.choice([1, 5, 9])), generator.random() < 0.3)
                for number in ids.unique().tolist()
                if number
            ),
        )
        found, category_of = perturbed(truth, CATEGORIES, generator)
        counts = count_segments(truth, found, category_of, CATEGORIES)
        assert brute_force(truth, found, category_of) == as_tuples(counts)
        kinds |= {
            name
            for each in counts.values()
            for name in ("matched", "unmatched", "missed")
            if getattr(each, name)
        }
    assert kinds == {"matched", "unmatched", "missed"}


@pytest.mark.slow
@needs_photographs
def test_truth_of_photographs_scores_100_and_a_perturbed_one_as_the_independent_loop_says():
    dataset = PanopticDataset(COCO, "val2017")
    categories = panoptic_categories(dataset)
    assert len(categories) == 133
    generator = np.random.default_rng(1)
    crowds = 0
    total = SegmentCounts()
    # Crowded pictures first, so that a few are enough.
    segments = [dataset.segments(index).segments for index in range(len(dataset))]
    num_crowds = [sum(each.is_crowd for each in image) for image in segments]
    for index in sorted(range(len(dataset)), key=lambda index: -num_crowds[index])[:12]:
        truth = dataset.segments(index)
        crowds += sum(each.is_crowd for each in truth.segments)
        own = {each.id: each.category_id for each in truth.segments}
        for counts in count_segments(truth, truth.ids, own, categories).values():
            assert counts.quality == pytest.approx({"PQ": 100, "SQ": 100, "RQ": 100})
        found, category_of = perturbed(truth, categories, generator)
        counts = count_segments(truth, found, category_of, categories)
        assert brute_force(truth, found, category_of) == as_tuples(counts)
        for each in counts.values():
            total += each
    assert crowds >= 3
    assert min(total.matched, total.unmatched, total.missed) > 10


# The data sets


def test_generated_scenes_have_the_segments_that_their_files_have(tmp_path):
    write_shapes(tmp_path, num_images=3, seed=4, split="val", stuff=True)
    stored, drawn = PanopticDataset(tmp_path, "val"), ShapesDataset(3, seed=4)
    assert isinstance(stored, PanopticData)
    assert isinstance(drawn, PanopticData)
    assert panoptic_categories(stored) == panoptic_categories(drawn)
    for index in range(3):
        ours, theirs = drawn.segments(index), stored.segments(index)
        assert ours.ids.equal(theirs.ids)
        assert ours.segments == theirs.segments
        assert ours.ids.min() > 0


def test_crowds_of_a_file_are_crowds(tmp_path):
    write_shapes(tmp_path, num_images=1, seed=4, split="val", stuff=True)
    file = tmp_path / "annotations" / "panoptic_val.json"
    content = json.loads(file.read_text())
    segments = content["annotations"][0]["segments_info"]
    segments[0]["iscrowd"] = 1
    del segments[1]["iscrowd"]
    file.write_text(json.dumps(content))
    found = PanopticDataset(tmp_path, "val").segments(0).segments
    assert [each.is_crowd for each in found] == [True] + [False] * (len(segments) - 1)


def test_overlapping_masks_are_no_segments():
    target = Target(
        torch.tensor([[0.0, 0, 2, 2]] * 2),
        torch.tensor([0, 0]),
        torch.ones(2, 2, 2, dtype=torch.bool),
        stuff=torch.zeros(2, 2, dtype=torch.uint8),
    )
    with pytest.raises(ValueError, match="masks overlap"):
        segments_of(target, (1,), (2,))
    with pytest.raises(ValueError, match="without stuff"):
        segments_of(replace(target, stuff=None), (1,), (2,))


# Whole evaluations


class Truth(BlendMask):
    """A model that knows the answers of the shapes data."""

    def predict_panoptic(self, images, *, output_sizes=None, **limits):
        [image] = images
        for index in range(len(self.data)):
            if self.data.load(index).image.equal(image):
                truth, target = self.data.segments(index), self.data.load(index).target
        segments = []
        for place, each in enumerate(truth.segments):
            is_thing = place < len(target)
            label = each.category_id - (1 if is_thing else 1 + len(self.class_names))
            segments.append(
                Segment(each.id, label if is_thing else label + 1, 1,
                        instance_index=place if is_thing else None)
            )  # fmt: skip
        return [PanopticResult(truth.ids.int(), segments)]


def test_a_model_that_gives_the_truth_has_pq_100(tmp_path, monkeypatch):
    model = small_model()
    model.__class__ = Truth
    model.data = ShapesDataset(3, seed=8)
    monkeypatch.setattr(
        "blendmask_lite.evaluation.pictures.resize_for_test", lambda image, *sizes: image
    )
    quality = evaluate_panoptic(model, model.data)
    assert quality.all == quality.things == quality.stuff
    assert quality.all == pytest.approx({"PQ": 100, "SQ": 100, "RQ": 100})


def test_a_model_is_evaluated_in_evaluation_mode_and_its_files_score_the_same(tmp_path):
    root = tmp_path / "shapes"
    write_shapes(root, num_images=3, seed=6, split="val", stuff=True, config=ShapesConfig(size=64))
    dataset = PanopticDataset(root, "val")
    model = small_model().train()
    seen = []
    file = panoptic_results_path(tmp_path / "out", "val")
    quality = evaluate_panoptic(
        model, dataset, progress=lambda *each: seen.append(each), results=file
    )
    assert model.training
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert quality.num_images == 3
    assert quality.all["PQ"] < 100
    # The official format, read from the files by the library alone.
    assert file.name == "panoptic_val_blendmask_results.json"
    direct = PanopticEval(root / "annotations" / "panoptic_val.json", file)
    direct.evaluate()
    for name, ours in (("All", quality.all), ("Things", quality.things), ("Stuff", quality.stuff)):
        theirs = direct.results()[name]
        assert [ours[each] for each in ("PQ", "SQ", "RQ")] == pytest.approx(
            [100 * theirs[each] for each in ("pq", "sq", "rq")]
        )
    entries = json.loads(file.read_text())["annotations"]
    assert [each["image_id"] for each in entries] == [0, 1, 2]
    assert sorted(path.name for path in file.with_suffix("").iterdir()) == [
        each["file_name"] for each in entries
    ]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_panoptic_evaluation_on_a_gpu_gives_the_numbers_of_the_cpu(batch_size):
    dataset = ShapesDataset(3, seed=6, config=ShapesConfig(size=50))  # enlarged to 64
    alone = evaluate_panoptic(small_model().eval(), dataset)
    model = to_gpu(small_model().eval())
    with pretended_gpu():
        quality = evaluate_panoptic(model, dataset, batch_size=batch_size)
    assert quality.num_images == 3
    assert quality.all == pytest.approx(alone.all)


class Halves(BlendMask):
    """A model that sees one object in the left half, and one kind of stuff below it."""

    def predict_panoptic(self, images, *, output_sizes=None, **limits):
        [(height, width)] = output_sizes
        ids = torch.zeros(height, width, dtype=torch.int32)
        ids[:, : width // 2], ids[height // 2 :] = 1, 2
        label = int(images[0].sum() * 100) % len(self.stuff_names) + 1
        return [PanopticResult(ids, [Segment(1, 2, 1, instance_index=0), Segment(2, label, 1)])]


def test_several_processes_give_the_numbers_and_files_of_one(tmp_path):
    dataset, model = ShapesDataset(5, seed=3, config=ShapesConfig(size=64)), small_model()
    model.__class__ = Halves
    alone = evaluate_panoptic(model, dataset, results=tmp_path / "one" / "r.json")
    parts = []
    for rank in range(3):
        with pytest.raises(StopIteration):
            evaluate_panoptic(model, dataset, share=(rank, 3), gather=keep_and_stop(parts))
    assert [[index for index, *_ in part] for part in parts] == [[0, 3], [1, 4], [2]]
    for rank in (1, 0):
        shared = evaluate_panoptic(
            model, dataset, share=(rank, 3), gather=lambda own: parts,
            results=tmp_path / "three" / "r.json",
        )  # fmt: skip
        assert shared == alone
        assert (tmp_path / "three" / "r.json").exists() == (rank == 0)
    assert (tmp_path / "three" / "r.json").read_text() == (tmp_path / "one" / "r.json").read_text()
    with pytest.raises(ValueError, match="needs gather"):
        evaluate_panoptic(model, dataset, share=(0, 2))


def keep_and_stop(parts):
    """A gather that remembers what it got, as sent to another process, and goes no further."""

    def gather(own):
        parts.append(pickle.loads(pickle.dumps(own)))
        raise StopIteration

    return gather


def test_models_and_data_that_do_not_fit_are_refused(tmp_path):
    write_shapes(tmp_path, num_images=1, split="val")
    model = small_model()
    with pytest.raises(ValueError, match="no panoptic annotations"):
        evaluate_panoptic(model, CocoDataset(tmp_path, "val"))
    with pytest.raises(ValueError, match="no panoptic branch"):
        evaluate_panoptic(BlendMask(PRESETS["nano"]), ShapesDataset(1))
    model.stuff_names = ("lava", *model.stuff_names[1:])
    with pytest.raises(ValueError, match=r"kinds of stuff \(lava"):
        evaluate_panoptic(model, ShapesDataset(1))
    with pytest.raises(ValueError, match="no images"):
        evaluate_panoptic(small_model(), ShapesDataset(0))


def test_without_hotcoco_the_model_does_not_work_in_vain(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco.panoptic", None)
    with pytest.raises(ValueError, match=r"panoptic quality needs hotcoco .*pip install hotcoco"):
        evaluate_panoptic(None, ShapesDataset(1))


def test_segment_numbers_beyond_a_byte_survive_their_picture(tmp_path):
    ids = torch.tensor([[0, 1, 255, 256], [257, 65535, 65536, 2**24 - 1]], dtype=torch.int32)
    write_segment_ids(tmp_path / "new" / "a.png", ids)
    assert read_segment_ids(tmp_path / "new" / "a.png").equal(ids.long())


def test_an_entry_has_the_categories_of_the_data_set():
    result = PanopticResult(
        torch.tensor([[1, 2]], dtype=torch.int32),
        [Segment(1, 0, 1, score=0.9, instance_index=0), Segment(2, 1, 1)],
    )
    entry = panoptic_entry(139, result, category_ids=(17,), stuff_ids=(92,))
    assert entry == {
        "image_id": 139,
        "file_name": "000000000139.png",
        "segments_info": [{"id": 1, "category_id": 17}, {"id": 2, "category_id": 92}],
    }


# The command


def test_command_prints_panoptic_quality_and_writes_files(tmp_path, capsys):
    save_model(small_model(), tmp_path / "model.safetensors")
    write_shapes(tmp_path / "data", num_images=2, seed=1, split="val", stuff=True)
    arguments = [
        "evaluate",
        str(tmp_path / "model.safetensors"),
        str(tmp_path / "data"),
        "--panoptic",
    ]
    numbers, out = tmp_path / "pq.json", tmp_path / "out"
    files = ["--json", str(numbers), "--panoptic-results", str(out), "--plot", str(tmp_path)]
    assert main([*arguments, *files, "--per-class"]) == 0
    assert (tmp_path / "panoptic_quality.png").is_file()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:4]] == ["all", "things", "stuff"]
    assert printed[4] == "2 images"
    assert printed[6].split() == ["PQ", "SQ", "RQ", "matched", "unmatched", "missed"]
    assert json.loads(numbers.read_text())["num_images"] == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "panoptic_val_blendmask_results",
        "panoptic_val_blendmask_results.json",
    ]


def test_command_refuses_models_and_data_without_stuff(tmp_path, capsys):
    save_model(BlendMask(PRESETS["nano"]), tmp_path / "nano.pt")
    assert main(["evaluate", str(tmp_path / "nano.pt"), "shapes", "--panoptic"]) == 1
    assert "no panoptic branch" in capsys.readouterr().err
    save_model(small_model(), tmp_path / "model.safetensors")
    write_shapes(tmp_path / "data", num_images=1, split="val")
    command = ["evaluate", str(tmp_path / "model.safetensors"), str(tmp_path / "data")]
    assert main([*command, "--panoptic"]) == 1
    assert "panoptic_val.json: is missing" in capsys.readouterr().err
    assert main([*command, "--panoptic-results", str(tmp_path)]) == 1
    assert "--panoptic-results: needs --panoptic" in capsys.readouterr().err


def test_a_training_reports_panoptic_quality(tmp_path, capsys):
    write_shapes(
        tmp_path / "data", num_images=2, seed=1, split="val", stuff=True,
        config=ShapesConfig(size=64),
    )  # fmt: skip
    model = small_model()
    train = rescale(TRAIN_PRESETS["nano_panoptic"], iterations=1, batch_size=2)
    train = replace(train, train_sizes=(64,), max_size=64, evaluate_every=1)
    recipe = Recipe(model=model.config, inference=model.inference, train=train)
    stored = PanopticDataset(tmp_path / "data", "val")
    train_model(stored, tmp_path / "run", recipe, validation=stored)
    with (tmp_path / "run" / "evaluation.csv").open() as file:
        [row] = csv.DictReader(file)
    quality = evaluate_panoptic(load_model(tmp_path / "run" / "model.safetensors"), stored)
    for kind in ("all", "things", "stuff"):
        for name, value in getattr(quality, kind).items():
            column = f"{'panoptic' if kind == 'all' else kind} {name}"
            assert float(row[column]) == pytest.approx(value, nan_ok=True), column
    assert f"panoptic PQ {quality.all['PQ']:.1f} on 2 images" in capsys.readouterr().err
