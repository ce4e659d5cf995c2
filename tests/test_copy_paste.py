"""Objects of one image in front of another, and changed colours."""

from __future__ import annotations

import random
from argparse import ArgumentParser
from dataclasses import replace

import pytest
import torch

from blendmask_lite import Target
from blendmask_lite.cli.train import add_options, make_train_config
from blendmask_lite.datasets.sample import Sample, SampleLoader
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.transforms import (
    TrainTransform,
    change_colors,
    paste_objects,
)
from blendmask_lite.masks import mask_boxes
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.schedule import TRAIN_PRESETS


class Always(random.Random):
    """Chooses everything."""

    def random(self):
        return 0.0


def sample_of(value, *boxes, size=(40, 60), labels=None):
    """An image of one grey with objects that fill their boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    target = Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels or [0] * len(boxes)),
        masks=masks,
        semantic=masks.any(dim=0).long() if len(boxes) else torch.zeros(size, dtype=torch.int64),
        stuff=torch.full(size, 2, dtype=torch.uint8),
    )
    image = torch.full((3, *size), value, dtype=torch.uint8)
    return Sample(image=image, target=target, image_id=9, original_size=size)


def test_a_pasted_object_covers_what_is_behind_it():
    below = sample_of(10, (5, 5, 25, 25), (40, 30, 60, 40))
    above = sample_of(200, (15, 5, 35, 25), labels=[3])
    mixed = paste_objects(below, above, Always())
    assert mixed.target.labels.tolist() == [0, 0, 3]
    assert mixed.target.boxes.tolist() == [[5, 5, 15, 25], [40, 30, 60, 40], [15, 5, 35, 25]]
    assert mixed.target.boxes.equal(mask_boxes(mixed.target.masks).float())
    assert not (mixed.target.masks[0] & mixed.target.masks[2]).any()
    pasted = above.target.masks[0]
    assert mixed.image[0].equal(torch.where(pasted, 200, 10).to(torch.uint8))
    assert mixed.target.semantic[pasted].unique().tolist() == [4]
    assert mixed.target.semantic[~pasted].equal(below.target.semantic[~pasted])
    assert mixed.target.stuff.equal(torch.where(pasted, 0, 2).to(torch.uint8))
    assert below.image.unique().tolist() == [10]  # the originals are untouched
    assert below.target.semantic.max() == 1


def test_an_object_that_is_hidden_completely_is_left_out():
    mixed = paste_objects(
        sample_of(10, (5, 5, 9, 9)), sample_of(200, (0, 0, 30, 30), labels=[3]), Always()
    )
    assert mixed.target.labels.tolist() == [3]


@pytest.mark.parametrize("size", [(20, 90), (90, 20), (20, 20), (90, 90)])
def test_images_of_different_sizes_share_their_upper_left_corner(size):
    height, width = size
    above = sample_of(200, (5, 5, width, height), size=size)
    mixed = paste_objects(sample_of(10), above, Always())
    assert mixed.image.shape == (3, 40, 60)
    assert mixed.target.boxes.tolist() == [[5, 5, min(60, width), min(40, height)]]


def test_about_half_of_the_objects_are_pasted():
    above = sample_of(
        200, *[(6 * x, 5 * y, 6 * x + 5, 5 * y + 4) for x in range(10) for y in range(8)]
    )
    counts = [len(paste_objects(sample_of(10), above, random.Random(n)).target) for n in range(20)]
    assert 30 < sum(counts) / len(counts) < 50
    assert len(set(counts)) > 1


def test_pasting_nothing_into_nothing_gives_the_sample():
    mixed = paste_objects(sample_of(10), sample_of(200), Always())
    assert mixed.image.unique().tolist() == [10]
    assert mixed.target.masks.shape == (0, 40, 60)


def test_pasting_needs_whole_masks():
    sample = sample_of(10)
    bare = replace(sample, target=replace(sample.target, masks=None))
    for pair in ((bare, sample), (sample, bare)):
        with pytest.raises(ValueError, match=r"image 9: .* needs whole masks"):
            paste_objects(*pair, Always())


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 30, 30), (0.5, 8, 22)])
def test_a_share_of_the_samples_is_mixed_always_in_the_same_way(share, least, most):
    mixed = []

    def mix(sample, other, generator):
        mixed.append(sample.image_id)
        return paste_objects(sample, other, generator)

    transform = TrainTransform(train_sizes=(64,), max_size=64)
    load = SampleLoader(ShapesDataset(5), transform, mix=mix, mix_share=share)
    samples = [load(n % 5, random.Random(n)) for n in range(30)]
    assert least <= len(mixed) <= most
    again = [load(n % 5, random.Random(n)) for n in range(30)]
    assert all(a.image.equal(b.image) for a, b in zip(samples, again, strict=True))


def test_colors_are_multiplied():
    sample = sample_of(100)
    image = sample.image.clone()
    image[0, :20] = 60
    sample = replace(sample, image=image)
    assert change_colors(sample, 1, 1, 1).image.equal(image)
    assert change_colors(sample, 0.5, 1, 1).image.equal(image // 2)
    grey = change_colors(sample, 1, 1, 0).image
    assert grey[0].equal(grey[1])
    assert grey[1].equal(grey[2])
    flat = change_colors(sample, 1, 0, 1).image
    assert flat.unique().numel() == 1


def test_training_images_vary_in_colour_only_if_asked():
    plain = TrainTransform(train_sizes=(40,), max_size=60, flip=False)
    sample, generator = sample_of(100), random.Random(0)
    assert plain(sample, generator).image.unique().tolist() == [100]
    jitter = replace(plain, color_jitter=0.4)
    values = {int(jitter(sample, generator).image[0, 0, 0]) for _ in range(20)}
    assert len(values) > 10
    assert 59 <= min(values) < 90
    assert 110 < max(values) <= 141


def test_a_training_reads_both_from_its_options():
    parser = ArgumentParser()
    add_options(parser)
    arguments = "data -o run --preset photos --copy-paste 0.5 --color-jitter 0.4"
    config = make_train_config(parser.parse_args(arguments.split(" ")), Ranks())
    assert (config.copy_paste, config.color_jitter) == (0.5, 0.4)


@pytest.mark.parametrize("name", ["copy_paste", "color_jitter"])
@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = "):
        replace(TRAIN_PRESETS["photos"], **{name: value})
