"""The generated data set: determinism, masks, difficulty, and its files as COCO tools read them."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from blendmask_lite.datasets.shapes import (
    SHAPE_CLASSES,
    STUFF_CLASSES,
    ShapesConfig,
    ShapesDataset,
    draw_scene,
    write_shapes,
)
from blendmask_lite.datasets.shapes.outlines import OUTLINES
from blendmask_lite.datasets.shapes.paint import Placement, Surface, rasterize
from blendmask_lite.datasets.shapes.scene import plan_scene
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.masks import mask_boxes
from blendmask_lite.structures import Detections

SCENES = [draw_scene(11, index) for index in range(40)]


def test_a_scene_depends_on_seed_and_index_alone():
    again = draw_scene(11, 7)
    assert np.array_equal(again.image, SCENES[7].image)
    assert np.array_equal(again.masks, SCENES[7].masks)
    assert not np.array_equal(draw_scene(12, 7).image, again.image)
    assert not np.array_equal(draw_scene(11, 8).image, again.image)


def test_scenes_have_the_shapes_and_types_that_they_promise():
    for scene in SCENES:
        num = len(scene.labels)
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (num, 128, 128)
        assert scene.masks.dtype == bool
        assert scene.labels.dtype == np.int64
        assert scene.stuff.shape == (128, 128)
        assert 2 <= num <= 6
        assert scene.labels.min() >= 0
        assert scene.labels.max() < len(SHAPE_CLASSES) == 8
        assert set(np.unique(scene.stuff)) <= set(range(len(STUFF_CLASSES)))


def test_masks_are_the_visible_pixels_so_no_pixel_has_two_owners():
    for scene in SCENES:
        assert scene.masks.sum(axis=0).max() == 1
        assert scene.masks.any(axis=(1, 2)).all()


def test_every_object_shows_at_least_the_promised_share():
    for index in range(40):
        bits = np.random.PCG64(np.random.SeedSequence((11, index)))
        plan = plan_scene(np.random.Generator(bits), ShapesConfig())
        for raster, mask in zip(plan.rasters, SCENES[index].masks, strict=True):
            assert mask.sum() >= 0.35 * raster.mask.sum()


def test_about_half_of_the_scenes_are_crowds_of_one_class():
    crowds = [len(set(draw_scene(3, i).labels.tolist())) == 1 for i in range(150)]
    # Binomial(150, 1/2 and a few by chance): three standard deviations are 18.
    assert 57 <= sum(crowds) <= 105
    none = replace(ShapesConfig(), crowd_share=0.0, min_objects=6)
    assert sum(len(set(draw_scene(3, i, none).labels.tolist())) == 1 for i in range(20)) == 0


def test_colour_does_not_tell_the_class():
    # The mean colour of the classes' pixels: far closer together than single objects are.
    means = {label: [] for label in range(len(SHAPE_CLASSES))}
    for index in range(150):
        scene = draw_scene(5, index)
        for mask, label in zip(scene.masks, scene.labels.tolist(), strict=True):
            means[label].append(scene.image[mask].mean(axis=0))
    spread = np.std(np.concatenate([np.stack(each) for each in means.values()]), axis=0)
    between = np.std([np.mean(each, axis=0) for each in means.values()], axis=0)
    assert all(len(each) > 20 for each in means.values())
    assert (between < 0.4 * spread).all()


def test_a_larger_size_shows_the_same_scene():
    small, large = draw_scene(2, 4), draw_scene(2, 4, ShapesConfig(size=512))
    assert large.image.shape == (512, 512, 3)
    assert large.labels.tolist() == small.labels.tolist()
    blocks = large.masks.reshape(-1, 128, 4, 128, 4).mean(axis=(2, 4)) >= 0.5
    for own, other in zip(small.masks, blocks, strict=True):
        assert (own & other).sum() / (own | other).sum() > 0.9
    mean = large.image.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    assert np.abs(mean - small.image).mean() < 8  # of 255; noise included


def test_a_ring_has_a_hole_and_a_paw_has_five_pieces():
    surface = Surface("plain", ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 8.0, 0.0)
    for name, num_pieces in (("ring", 1), ("paw", 5)):
        parts = OUTLINES[name](lambda low, high: (low + high) / 2)
        label = SHAPE_CLASSES.index(name)
        placement = Placement(label, parts, 0.5, 0.5, 0.2, 0.0, False, surface, 0.0)
        mask = rasterize(placement, 512).mask
        assert len(components(torch.from_numpy(mask))) == num_pieces
        if name == "ring":
            middle = mask[mask.shape[0] // 2, mask.shape[1] // 2]
            assert not middle
            assert mask.any(axis=0).sum() == pytest.approx(0.4 * 512, abs=2)


def components(mask):
    """The 8-connected pieces of an (H, W) mask: the largest number floods its piece."""
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view(1, 1, *mask.shape) * mask
    while True:
        flooded = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
        if torch.equal(flooded, numbers):
            return [numbers[0, 0] == value for value in numbers.unique() if value > 0]
        numbers = flooded


def test_a_perfect_semantic_map_does_not_separate_the_objects():
    # Whoever knows the class of every pixel still has to find the instances: the connected pieces
    # of each class reach less than 35 mask AP. On 200 images it is about 21.
    dataset = ShapesDataset(40, seed=1)
    evaluator = InstanceEvaluator(dataset)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        masks, labels = [], []
        for label in sample.target.labels.unique().tolist():
            pieces = components(sample.target.semantic == label + 1)
            masks += pieces
            labels += [label] * len(pieces)
        num = len(masks)
        boxes = mask_boxes(torch.stack(masks))
        pieces = Detections(
            boxes=boxes,
            scores=torch.ones(num),
            labels=torch.tensor(labels),
            masks=torch.stack(masks),
            mask_logits=torch.zeros(num, 28, 28),
            location_index=torch.zeros(num, dtype=torch.int64),
            proposal_boxes=boxes,
            image_size=sample.original_size,
        )
        evaluator.add(sample.image_id, pieces)
    results = evaluator.finish()
    assert 5 < results.mask["AP"] < 35


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 8}, "size = 8"),
        ({"max_objects": 1}, "max_objects = 1"),
        ({"crowd_share": 1.5}, "crowd_share = 1.5"),
        ({"min_scale": 0.4}, "max_scale"),
        ({"min_visible": 0.0}, "min_visible"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        ShapesConfig(**change)


def test_the_data_set_gives_samples_with_tight_boxes():
    dataset = ShapesDataset(5, seed=11)
    assert len(dataset) == 5
    sample = dataset.load(3)
    scene = SCENES[3]
    assert sample.image.shape == (3, 128, 128)
    assert sample.image.dtype == torch.uint8
    assert torch.equal(sample.image[:, 10, 20], torch.from_numpy(scene.image[10, 20]))
    rows, columns = np.nonzero(scene.masks[0])
    wanted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert sample.target.boxes[0].tolist() == wanted
    assert torch.equal(sample.target.masks, torch.from_numpy(scene.masks))
    pixel = (int(rows[0]), int(columns[0]))
    assert sample.target.semantic[pixel] == scene.labels[0] + 1


def test_some_of_the_data_set_can_be_selected():
    dataset = ShapesDataset(5, seed=11).select([4, 1])
    assert dataset.image_ids == (4, 1)
    assert torch.equal(dataset.load(0).image, ShapesDataset(5, seed=11).load(4).image)
    with pytest.raises(ValueError, match="generated shapes: no images with the ids 9"):
        dataset.select([9])


def test_written_files_are_read_by_pycocotools_with_the_same_masks(tmp_path):
    calls = []
    path = write_shapes(
        tmp_path, num_images=3, seed=11, split="val", progress=lambda *call: calls.append(call)
    )
    assert path == tmp_path / "annotations" / "instances_val.json"
    assert calls == [(1, 3), (2, 3), (3, 3)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(SHAPE_CLASSES)
    for index in range(3):
        scene = SCENES[index]
        record = coco.loadImgs([index])[0]
        with Image.open(tmp_path / "val" / record["file_name"]) as image:
            assert np.array_equal(np.asarray(image), scene.image)
        annotations = coco.loadAnns(coco.getAnnIds([index]))
        assert [a["category_id"] - 1 for a in annotations] == scene.labels.tolist()
        for annotation, mask in zip(annotations, scene.masks, strict=True):
            assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert annotation["area"] == mask.sum()
            box = coco_mask.toBbox(annotation["segmentation"])
            assert annotation["bbox"] == box.tolist()
    leftovers = [p for p in tmp_path.rglob("*") if p.suffix not in (".png", ".json", "")]
    assert leftovers == []


def test_the_panoptic_files_give_every_pixel_one_segment(tmp_path):
    write_shapes(tmp_path, num_images=2, seed=11, split="val", stuff=True)
    folder = tmp_path / "annotations"
    content = json.loads((folder / "panoptic_val.json").read_text())
    assert [c["isthing"] for c in content["categories"]] == [1] * 8 + [0] * 4
    for annotation, scene in zip(content["annotations"], SCENES, strict=False):
        with Image.open(folder / "panoptic_val" / annotation["file_name"]) as image:
            colors = np.asarray(image).astype(int)
        numbers = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
        segments = annotation["segments_info"]
        assert set(np.unique(numbers)) == {s["id"] for s in segments}
        assert all((numbers == s["id"]).sum() == s["area"] for s in segments)
        things = [s for s in segments if s["category_id"] <= 8]
        assert len(things) == len(scene.labels)
        for segment, mask in zip(things, scene.masks, strict=True):
            assert np.array_equal(numbers == segment["id"], mask)


@pytest.mark.parametrize("arguments", [{"num_images": 0}, {"num_images": 1, "split": "a/b"}])
def test_bad_requests_write_nothing(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"num_images|split"):
        write_shapes(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
