"""Resizing, flipping and colour permutation keep image, boxes, masks and semantic map together."""

import pickle
import random

import pytest
import torch
from pretended_gpu import pretended_gpu

from blendmask_lite.datasets.sample import Sample, SampleLoader, collate, compact
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.transforms import (
    TrainTransform,
    flip_horizontally,
    permute_channels,
    resize_sample,
)
from blendmask_lite.images import resize_for_test, resized_size
from blendmask_lite.structures import Target


def small_sample(num=1):
    """A 4 x 6 image whose object, x 1 to 3 and y 2 to 4, is bright in red."""
    masks = torch.zeros(num, 4, 6, dtype=torch.bool)
    masks[:, 2:4, 1:3] = True
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    image[0, 2:4, 1:3] = 200
    target = Target(
        boxes=torch.tensor([[1.0, 2, 3, 4]] * num).view(-1, 4),
        labels=torch.zeros(num, dtype=torch.int64),
        masks=masks,
        semantic=(image[0] > 0).to(torch.uint8),
    )
    return Sample(image=image, target=target, image_id=5, original_size=(4, 6))


@pytest.mark.parametrize(
    ("size", "shorter", "longest", "wanted"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # 640 x 800 / 480 = 1066.7
        ((640, 480), 800, 1333, (1067, 800)),
        ((300, 900), 800, 1333, (444, 1333)),  # 300 x 1333 / 900 = 444.3
        ((128, 128), 128, 214, (128, 128)),
        ((1, 1000), 100, 500, (1, 500)),
    ],
)
def test_the_shorter_side_is_reached_unless_the_longer_exceeds(size, shorter, longest, wanted):
    assert resized_size(size, shorter, longest) == wanted


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="shorter = 0"):
        resized_size((4, 6), 0, 10)


def test_doubling_doubles_boxes_and_repeats_mask_pixels():
    sample = resize_sample(small_sample(), (8, 12))
    assert sample.image.shape == (3, 8, 12)
    assert sample.image.dtype == torch.uint8
    assert sample.target.boxes.tolist() == [[2, 4, 6, 8]]
    wanted = torch.zeros(8, 12, dtype=torch.bool)
    wanted[4:8, 2:6] = True
    assert torch.equal(sample.target.masks[0], wanted)
    assert torch.equal(sample.target.semantic.bool(), wanted)
    assert sample.original_size == (4, 6)
    # The picture moves with the mask: the centers of the object's pixels stay bright.
    assert (sample.image[0, 5:7, 3:5] > 150).all()


def test_unequal_scales_go_to_their_own_axis():
    sample = resize_sample(small_sample(), (8, 18))
    assert sample.target.boxes.tolist() == [[3, 4, 9, 8]]
    assert sample.target.masks[0].nonzero().amin(dim=0).tolist() == [4, 3]
    assert sample.target.masks[0].nonzero().amax(dim=0).tolist() == [7, 8]


def test_shrinking_takes_the_pixel_under_each_new_center():
    sample = small_sample()
    shrunk = resize_sample(sample, (2, 3))
    # New centers (0.5, 1.5) and (0.5, 1.5, 2.5), doubled: rows 1, 3 and columns 1, 3, 5.
    assert torch.equal(shrunk.target.masks[0], sample.target.masks[0][1::2, 1::2])


def test_an_empty_target_survives_every_step():
    sample = small_sample(num=0)
    transform = TrainTransform(train_sizes=(8,), max_size=20, channel_permutation=True)
    for seed in range(4):
        result = transform(sample, random.Random(seed))
        assert result.target.boxes.shape == (0, 4)
        assert result.target.masks.shape == (0, 8, 12)


def test_a_flip_mirrors_everything_and_twice_is_nothing():
    sample = small_sample()
    flipped = flip_horizontally(sample)
    assert flipped.target.boxes.tolist() == [[3, 2, 5, 4]]
    wanted = torch.zeros(4, 6, dtype=torch.bool)
    wanted[2:4, 3:5] = True
    assert torch.equal(flipped.target.masks[0], wanted)
    assert torch.equal(flipped.image[0] > 0, wanted)
    assert torch.equal(flipped.target.semantic.bool(), wanted)
    twice = flip_horizontally(flipped)
    assert torch.equal(twice.image, sample.image)
    assert torch.equal(twice.target.boxes, sample.target.boxes)


def test_channels_are_permuted_and_nothing_else():
    sample = permute_channels(small_sample(), [2, 0, 1])
    assert sample.image.amax(dim=(1, 2)).tolist() == [0, 200, 0]
    with pytest.raises(ValueError, match="permutation"):
        permute_channels(sample, [0, 0, 1])


def test_the_generator_decides_everything():
    transform = TrainTransform(train_sizes=(4, 6, 8), max_size=20, channel_permutation=True)
    results = [transform(small_sample(), random.Random(seed)) for seed in range(60)]
    again = transform(small_sample(), random.Random(7))
    assert torch.equal(again.image, results[7].image)
    assert {result.image.shape[1] for result in results} == {4, 6, 8}
    assert {int(r.image.amax(dim=(1, 2)).argmax()) for r in results} == {0, 1, 2}
    num_flipped = sum(bool(r.target.boxes[0, 0] > r.image.shape[2] / 3) for r in results)
    assert 15 <= num_flipped <= 45  # half of 60, within four standard deviations
    plain = TrainTransform(train_sizes=(4,), max_size=20, flip=False)
    assert torch.equal(plain(small_sample(), random.Random(0)).image, small_sample().image)
    with pytest.raises(ValueError, match="train_sizes"):
        TrainTransform(train_sizes=(), max_size=20)


def test_test_images_are_resized_in_their_own_type():
    image = torch.full((3, 60, 80), 0.25)
    assert resize_for_test(image, 30, 100).shape == (3, 30, 40)
    assert torch.allclose(resize_for_test(image, 30, 100), torch.tensor(0.25))
    byte = (image * 255).to(torch.uint8)
    assert resize_for_test(byte, 120, 100).dtype == torch.uint8
    assert resize_for_test(byte, 60, 100) is byte


def test_bytes_on_a_gpu_are_resized_as_on_the_cpu():
    byte = ShapesDataset(1, seed=4).load(0).image
    with pretended_gpu() as gpu:
        for size in (96, 200):
            resized = resize_for_test(byte.to(gpu), size, 300)
            assert resized.device == gpu and resized.dtype == torch.uint8
            difference = resized.cpu().int() - resize_for_test(byte, size, 300).int()
            assert difference.abs().max() <= 1


def test_a_compact_sample_is_not_transformed_any_more():
    small = compact(ShapesDataset(1, seed=4).load(0), 14)
    for change in (flip_horizontally, lambda sample: resize_sample(sample, (64, 64))):
        with pytest.raises(ValueError, match="image 0: transforms come before `compact`"):
            change(small)


def test_mask_and_picture_stay_together_on_a_generated_scene():
    sample = ShapesDataset(1, seed=4).load(0)
    resized = resize_sample(sample, (192, 160))
    boxes = resized.target.boxes
    for mask, box in zip(resized.target.masks, boxes, strict=True):
        rows, columns = mask.nonzero().unbind(dim=1)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert torch.allclose(torch.tensor([float(v) for v in tight]), box, atol=1.5)


def test_loading_for_training_is_a_function_that_worker_processes_can_take():
    transform = TrainTransform(train_sizes=(96, 128), max_size=214)
    load = pickle.loads(pickle.dumps(SampleLoader(ShapesDataset(3, seed=1), transform)))
    first, second = load(2, random.Random(5)), load(2, random.Random(5))
    assert first.image_id == 2
    assert torch.equal(first.image, second.image)


def test_a_batch_keeps_images_of_different_sizes():
    samples = [small_sample(), resize_sample(small_sample(num=0), (8, 12))]
    batch = collate(samples)
    assert [image.shape[1:] for image in batch.images] == [(4, 6), (8, 12)]
    assert [len(target) for target in batch.targets] == [1, 0]
    assert batch.image_ids == [5, 5]
    assert len(batch) == 2
    assert len(collate([])) == 0


def test_bytes_become_a_single_pixel():
    image = torch.full((3, 7, 9), 77, dtype=torch.uint8)
    assert resize_for_test(image, 1, 1).tolist() == [[[77]], [[77]], [[77]]]
