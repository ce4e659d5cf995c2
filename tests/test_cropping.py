"""Random windows, padding and large-scale jitter: what they keep, what they measure again."""

from __future__ import annotations

import random
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace

import pytest
import torch

from blendmask_lite import PRESETS, InferenceConfig, Target
from blendmask_lite.cli.options import sizes, two_numbers
from blendmask_lite.cli.train import add_options, make_train_config
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.transforms import (
    TrainTransform,
    crop_sample,
    draw_window,
    jitter_scale,
    pad_sample,
)
from blendmask_lite.structures import UNLABELLED
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS


def sample_of(*boxes, size=(40, 60)):
    """A sample whose masks fill the given boxes (x0, y0, x1, y1)."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    target = Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        masks=masks,
        semantic=masks.any(dim=0).long() if len(boxes) else torch.zeros(size, dtype=torch.int64),
        stuff=torch.full(size, 2, dtype=torch.uint8),
    )
    image = torch.arange(size[0] * size[1]).reshape(1, *size).expand(3, -1, -1) % 251
    return Sample(image=image.to(torch.uint8), target=target, image_id=9, original_size=size)


def test_a_window_cuts_masks_maps_and_image_and_measures_boxes_again():
    sample = sample_of((5, 5, 30, 20), (50, 30, 60, 40))
    cut = crop_sample(sample, (10, 8, 38, 48))
    assert cut.image.equal(sample.image[:, 10:38, 8:48])
    assert cut.target.boxes.tolist() == [[0, 0, 22, 10]]  # the second lies outside
    assert cut.target.labels.tolist() == [0]
    assert cut.target.masks.shape == (1, 28, 40)
    assert cut.target.semantic.equal(sample.target.semantic[10:38, 8:48])
    assert cut.target.stuff.shape == (28, 40)
    assert cut.original_size == (40, 60)


def test_windows_hold_the_center_of_an_object_and_are_as_large_as_told():
    sample = sample_of((0, 0, 6, 6), (52, 30, 60, 40))
    centers = [(3, 3), (35, 56)]
    held, tops = set(), set()
    for seed in range(200):
        y0, x0, y1, x1 = draw_window(sample, 0.5, random.Random(seed))
        assert 0 <= y0 < y1 <= 40 and 0 <= x0 < x1 <= 60
        assert 20 <= y1 - y0 <= 40 and 30 <= x1 - x0 <= 60
        found = [i for i, (y, x) in enumerate(centers) if y0 <= y <= y1 and x0 <= x <= x1]
        assert found
        held |= set(found)
        tops.add(y0)
    assert held == {0, 1}
    assert len(tops) > 10


def test_a_picture_without_objects_is_cropped_anywhere():
    sample = sample_of()
    corners = {draw_window(sample, 0.9, random.Random(seed))[:2] for seed in range(50)}
    assert len(corners) > 10
    cut = crop_sample(sample, (0, 0, 36, 54))
    assert cut.target.boxes.shape == (0, 4) and cut.target.masks.shape == (0, 36, 54)


def test_the_whole_picture_is_a_window():
    sample = sample_of((5, 5, 30, 20))
    assert draw_window(sample, 1.0, random.Random(0)) == (0, 0, 40, 60)
    assert crop_sample(sample, (0, 0, 40, 60)).target.boxes.equal(sample.target.boxes)


def test_cropping_without_masks_is_refused_with_the_image():
    sample = sample_of((5, 5, 30, 20))
    blind = replace(sample, target=replace(sample.target, masks=None))
    with pytest.raises(ValueError, match="image 9"):
        crop_sample(blind, (0, 0, 10, 10))


def test_training_transform_crops_first():
    sample = sample_of((5, 5, 30, 20))
    transform = TrainTransform(train_sizes=(80,), max_size=200, flip=False, crop=0.5)
    widths = {transform(sample, random.Random(seed)).image.shape[2] for seed in range(20)}
    assert len(widths) > 5  # of windows of all shapes, each 80 pixels on its shorter side
    assert TRAIN_PRESETS["r101_dcni3"].crop == 0.9
    with pytest.raises(ValueError, match="crop = 0"):
        replace(TRAIN_PRESETS["r50"], crop=0.0)


def test_padding_adds_grey_ground_of_which_nothing_is_known():
    sample = sample_of((5, 5, 30, 20))
    padded = pad_sample(sample, 70)
    assert padded.image.shape == (3, 70, 70)
    assert padded.image[:, :40, :60].equal(sample.image)
    assert padded.image[:, 40:].unique().tolist() == [128]
    assert padded.image[:, :, 60:].unique().tolist() == [128]
    assert padded.target.boxes.equal(sample.target.boxes)
    assert padded.target.masks.sum() == sample.target.masks.sum() == 25 * 15
    assert padded.target.masks.shape == (1, 70, 70)
    assert padded.target.semantic[40:].sum() == padded.target.semantic[:, 60:].sum() == 0
    assert padded.target.stuff[:40, :60].unique().tolist() == [2]
    assert padded.target.stuff[40:].unique().tolist() == [UNLABELLED]
    with pytest.raises(ValueError, match="image 9: 40 x 60 does not fit into 59"):
        pad_sample(sample, 59)


def test_jitter_below_1_makes_the_picture_smaller_in_its_square():
    # 40 x 60 fits into 120 at a factor of 2; half of that is the stored size.
    sample = sample_of((5, 5, 30, 20))
    small = jitter_scale(sample, 120, 0.5, random.Random(0))
    assert small.image.shape == (3, 120, 120)
    assert small.image[:, :40, :60].equal(sample.image)
    assert small.target.boxes.tolist() == [[5, 5, 30, 20]]


def test_jitter_above_1_cuts_a_square_out_of_the_enlarged_picture():
    # Into a square of 60 at a factor of 1; times 2, the square shows 30 x 30 of 40 x 60 pixels.
    sample = sample_of((0, 0, 60, 40))
    corners = set()
    for seed in range(40):
        large = jitter_scale(sample, 60, 2.0, random.Random(seed))
        assert large.image.shape == (3, 60, 60)
        assert large.target.masks.all()
        assert large.target.boxes.tolist() == [[0, 0, 60, 60]]
        corners.add(tuple(large.image[0, ::59, ::59].flatten().tolist()))
    assert len(corners) > 20  # the place is drawn


def test_jitter_keeps_width_to_height_and_moves_boxes_with_their_masks():
    for seed in range(60):
        generator = random.Random(seed)
        scale = generator.uniform(0.1, 2.0)
        sample = sample_of((12, 8, 20, 28), (40, 4, 58, 36))
        moved = jitter_scale(sample, 96, scale, generator)
        assert moved.image.shape == (3, 96, 96)
        target = moved.target
        assert len(target.masks) == len(target.boxes) == len(target.labels)
        assert target.masks.flatten(1).any(dim=1).all()
        for box, mask in zip(target.boxes.tolist(), target.masks, strict=True):
            rows, columns = mask.nonzero().unbind(dim=1)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # Masks take whole pixels, boxes do not.
            assert all(abs(a - float(b)) <= 1 for a, b in zip(box, tight, strict=True))
        if scale < 0.9:
            assert target.labels.tolist() == [0, 1]
            widths = target.boxes[:, 2] - target.boxes[:, 0]
            assert widths.tolist() == pytest.approx([8 * 1.6 * scale, 18 * 1.6 * scale], rel=0.05)


def test_jitter_leaves_out_objects_that_no_pixel_is_left_of():
    sample = sample_of((12, 8, 13, 9), (10, 4, 50, 36))
    moved = jitter_scale(sample, 60, 0.1, random.Random(0))
    assert moved.target.labels.tolist() == [1]
    assert moved.target.masks.sum() > 0
    nothing = jitter_scale(sample_of(), 60, 0.1, random.Random(0))
    assert nothing.target.masks.shape == (0, 60, 60)


def test_training_with_jitter_sees_squares_of_the_sizes_to_draw_from():
    transform = TrainTransform(train_sizes=(64, 96), max_size=96, jitter=(0.1, 2.0), flip=False)
    sizes, generator = set(), random.Random(1)
    for _ in range(20):
        sample = transform(sample_of((5, 5, 30, 20)), generator)
        sizes.add(tuple(sample.image.shape))
    assert sizes == {(3, 64, 64), (3, 96, 96)}
    first, again = (transform(sample_of((5, 5, 30, 20)), random.Random(7)).image for _ in range(2))
    assert first.equal(again)


def test_a_training_run_takes_its_pictures_with_jitter(tmp_path, monkeypatch):
    seen = []

    class Watched(TrainTransform):
        def __call__(self, sample, generator):
            sample = super().__call__(sample, generator)
            seen.append(sample.image)
            return sample

    monkeypatch.setattr("blendmask_lite.training.run.TrainTransform", Watched)
    train = replace(TRAIN_PRESETS["nano"], iterations=1, batch_size=2, train_sizes=(64,))
    recipe = Recipe(
        model=replace(PRESETS["nano"], stage_width=16, stem_channels=16, pyramid_channels=16),
        inference=InferenceConfig(),
        train=replace(train, jitter=(0.1, 0.9)),
    )
    train_model(ShapesDataset(4), tmp_path, recipe)
    assert [tuple(image.shape) for image in seen] == [(3, 64, 64)] * 2
    for image in seen:  # smaller than the square, so that its last row is filled
        assert image[:, -1].unique().tolist() == [128]


@pytest.mark.parametrize("jitter", [(0.0, 2.0), (1.0, 0.5), (float("nan"), 1.0)])
def test_jitter_that_is_no_range_is_refused(jitter):
    with pytest.raises(ValueError, match="jitter = "):
        replace(TRAIN_PRESETS["nano"], jitter=jitter)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("640", (640,)), ("480,512", (480, 512)), ("96,640-643", (96, 640, 641, 642, 643))],
)
def test_sizes_are_numbers_and_ranges(text, wanted):
    assert sizes(text) == wanted


@pytest.mark.parametrize("text", ["", "a", "640-", "800-640", "640,,2"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ArgumentTypeError, match="expected whole numbers or ranges"):
        sizes(text)


def test_a_training_reads_jitter_and_a_range_of_sizes_from_its_options():
    parser = ArgumentParser()
    add_options(parser)
    arguments = "data -o run --preset r50 --size 640-642 --jitter 0.1,2"
    options = parser.parse_args(arguments.split(" "))
    config = make_train_config(options, Ranks())
    assert config.train_sizes == (640, 641, 642)
    assert config.jitter == (0.1, 2.0)
    with pytest.raises(ArgumentTypeError, match="expected two numbers"):
        two_numbers("0.1")
