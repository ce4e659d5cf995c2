"""Masks stay small: decoded one region at a time, and batched as R x R crops."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from blendmask_lite import PRESETS, BlendMask, masks
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_format import run_boxes, run_length
from blendmask_lite.datasets.sample import SampleLoader, collate, compact
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.transforms import TrainTransform, crop_sample
from blendmask_lite.masks import crop_masks, mask_boxes, semantic_map
from blendmask_lite.training.criterion import Criterion, TrainingStep

MASK_SIZE = PRESETS["r50"].mask_size
TRANSFORM = TrainTransform(train_sizes=(800,), max_size=1333)

MEASURE = """
import random, resource, sys
from pathlib import Path
from test_compact import MASK_SIZE, TRANSFORM
from blendmask_lite.datasets.sample import SampleLoader
from blendmask_lite.datasets.coco import CocoDataset

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

load = SampleLoader(CocoDataset(sys.argv[1]), TRANSFORM, mask_size=MASK_SIZE)
before = peak()
kept = [load(0, random.Random(i)) for i in range(int(sys.argv[2]))]
print(peak() - before)
"""


def write_crowded(root, *, size, num_objects):
    """One picture full of discs with 20 corners, every tenth one a crowd."""
    height, width = size
    generator = random.Random(0)
    annotations = []
    for number in range(1, num_objects + 1):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        radius = generator.uniform(2, height / 5)
        angles = [2 * math.pi * i / 20 for i in range(20)]
        corners = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1 + number % 3,
                "segmentation": [[side for corner in corners for side in corner]],
                "iscrowd": int(number % 10 == 0),
            }
        )
    (root / "train").mkdir()
    Image.new("RGB", (width, height)).save(root / "train" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return annotations


@pytest.mark.slow
def test_a_hundred_objects_of_a_large_image_take_few_megabytes(tmp_path):
    # Resized to 800 x 1333 pixels, 117 masks are 125 MB.
    write_crowded(tmp_path, size=(600, 1000), num_objects=130)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    # One sample at a time has whole masks, three times while it is resized; with its masks, each
    # of the four would keep 125 MB: 480 MB as it is, 680 MB so.
    assert int(done.stdout) < 580e6


def test_a_batch_holds_crops_and_maps_and_no_masks(tmp_path):
    write_crowded(tmp_path, size=(80, 133), num_objects=40)
    load = SampleLoader(CocoDataset(tmp_path), TRANSFORM, mask_size=MASK_SIZE)
    batch = collate([pickle.loads(pickle.dumps(load))(0, random.Random(i)) for i in range(2)])
    for target in batch.targets:
        assert target.masks is None
        assert target.mask_crops.shape == (36, MASK_SIZE, MASK_SIZE)
        assert target.semantic is None
        assert target.semantic_cells.shape == (100, 167)  # of 800 x 1330 pixels
        assert target.semantic_cells.dtype == torch.uint8
        kept = (target.boxes, target.labels, target.mask_crops, target.semantic_cells)
        assert sum(each.untyped_storage().nbytes() for each in kept) < 2e5


def test_losses_see_the_same_targets_with_crops_as_with_whole_masks(tmp_path):
    write_crowded(tmp_path, size=(80, 133), num_objects=40)
    dataset = CocoDataset(tmp_path)
    whole = SampleLoader(dataset, TRANSFORM)(0, random.Random(3)).target
    small = SampleLoader(dataset, TRANSFORM, mask_size=MASK_SIZE)(0, random.Random(3)).target
    criterion = Criterion(PRESETS["r50"])
    assert torch.equal(criterion.mask_targets([whole]), criterion.mask_targets([small]))
    assert torch.equal(whole.semantic[::8, ::8], small.semantic_cells.long())
    assert torch.equal(whole.boxes, small.boxes)


@pytest.mark.parametrize("sizes", [[(64, 96)], [(61, 93), (97, 65)], [(1, 9), (8, 7)]])
def test_the_semantic_loss_of_compact_targets_is_that_of_whole_maps(sizes):
    # Sides that eight does not divide, padded on their own and by another picture.
    torch.manual_seed(0)
    step = TrainingStep(BlendMask(PRESETS["nano"])).train()
    whole = ShapesDataset(1, seed=4).load(0)
    samples = [crop_sample(whole, (20, 12, 20 + h, 12 + w)) for h, w in sizes]
    images = [each.image for each in samples]
    mapless = [replace(each, target=replace(each.target, semantic=None)) for each in samples]
    ways = [samples, mapless, *([compact(each, 28) for each in way] for way in (samples, mapless))]
    losses = [step(images, [each.target for each in way])["semantic"].item() for way in ways]
    assert losses[0] > 0
    assert losses == [losses[0]] * 4


def test_labels_beyond_a_byte_survive_and_stuff_travels_as_bytes():
    sample = ShapesDataset(1, seed=4).load(0)
    target = replace(sample.target, labels=sample.target.labels + 1000, semantic=None)
    small = compact(replace(sample, target=target), 14).target
    assert small.semantic_cells.max() > 1000
    assert small.stuff.dtype == torch.uint8
    assert torch.equal(small.stuff, sample.target.stuff)


def test_a_map_that_needs_whole_masks_is_drawn_before_they_go(tmp_path):
    write_crowded(tmp_path, size=(80, 133), num_objects=5)
    sample = CocoDataset(tmp_path).load(0)
    target = replace(sample.target, semantic=None)
    small = compact(replace(sample, target=target), MASK_SIZE)
    wanted = semantic_map(target.masks, target.labels)[::8, ::8]
    assert torch.equal(small.target.semantic_cells.long(), wanted)
    assert compact(small, MASK_SIZE) is small


def test_masks_decoded_by_region_equal_those_of_pycocotools(tmp_path):
    annotations = write_crowded(tmp_path, size=(61, 83), num_objects=30)
    target = CocoDataset(tmp_path).load(0).target
    runs = [run_length(each["segmentation"], (61, 83)) for each in annotations]
    expected = torch.from_numpy(coco_mask.decode(runs).transpose(2, 0, 1).copy()).bool()
    labels = torch.tensor([each["category_id"] - 1 for each in annotations])
    is_object = torch.tensor([not each["iscrowd"] for each in annotations])
    is_object &= expected.flatten(1).any(dim=1)
    assert torch.equal(target.masks, expected[is_object])
    assert torch.equal(target.boxes, mask_boxes(expected[is_object]))
    assert torch.equal(target.semantic, semantic_map(expected, labels))


@pytest.mark.parametrize("counts", [[5, 0, 3, 4, 108], [0, 0, 30, 0, 90], [0] * 8 + [120]])
def test_runs_without_pixels_do_not_widen_the_box(counts):
    run = run_length({"size": [10, 12], "counts": counts}, (10, 12))
    mask = torch.from_numpy(np.ascontiguousarray(coco_mask.decode(run))).bool()
    assert torch.equal(run_boxes([run]), mask_boxes(mask[None]))
    text = coco_mask.frPyObjects({"size": [10, 12], "counts": counts}, 10, 12)["counts"].decode()
    again = run_length({"size": [10, 12], "counts": text}, (10, 12))
    assert again == run


def test_crops_do_not_depend_on_how_many_masks_are_cut_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(7, 20, 30, generator=generator) < 0.5
    boxes = torch.tensor([[3.0, 2.0, 17.5, 14.25]]).expand(7, 4) + torch.arange(7)[:, None]
    together = crop_masks(drawn, boxes, 14)
    monkeypatch.setattr(masks, "CROP_PIXELS", 1300)  # two masks
    assert torch.equal(crop_masks(drawn, boxes, 14), together)
    monkeypatch.setattr(masks, "CROP_PIXELS", 1)
    assert torch.equal(crop_masks(drawn, boxes, 14), together)
