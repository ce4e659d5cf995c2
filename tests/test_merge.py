"""Equations 1 to 4 and the special cases of section 4.1."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from blendmask_lite.model.attention import interpolate_attentions, normalize_attentions
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum, crop_bases


@pytest.fixture
def crops():
    return torch.randn(3, 4, 12, 12, generator=torch.Generator().manual_seed(0))


def attentions(num, channels, seed=1):
    return torch.randn(num, channels, generator=torch.Generator().manual_seed(seed))


def test_scores_compete_at_every_cell():
    scores = Blender(num_bases=4, attention_size=3).scores(attentions(5, 36), 10)
    assert scores.shape == (5, 4, 10, 10)
    assert torch.allclose(scores.sum(dim=1), torch.ones(5, 10, 10))
    assert scores.min() > 0


def test_two_bases_by_hand():
    # Attentions ln 3 and 0 give weights 3/4 and 1/4; bases 8 and -4 give 6 - 1 = 5.
    blender = Blender(num_bases=2, attention_size=1)
    crops = torch.tensor([8.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    mask = blender(crops, torch.tensor([[3.0, 1.0]]).log())
    assert torch.allclose(mask, torch.full((1, 2, 2), 5.0))


def test_attention_channels_are_base_row_column():
    raw = torch.arange(2 * 3 * 3, dtype=torch.float32)[None]
    maps = Blender(num_bases=2, attention_size=3).enlarge(raw, 3)
    assert maps[0, 1, 2, 0] == 1 * 9 + 2 * 3 + 0


def test_nearest_enlarges_in_blocks_and_bilinear_between_them():
    ramp = torch.tensor([[[[0.0, 4.0]] * 2]])
    nearest = interpolate_attentions(ramp, 4, "nearest")[0, 0, 0]
    assert nearest.tolist() == [0, 0, 4, 4]
    # Centers of the large cells lie at -0.25, 0.25, 0.75, 1.25 of the small ones.
    assert interpolate_attentions(ramp, 4)[0, 0, 0].tolist() == [0, 1, 3, 4]


def test_interpolating_first_is_not_softmax_first():
    raw = 5 * attentions(1, 8).view(1, 2, 2, 2)
    first = normalize_attentions(interpolate_attentions(raw, 8))
    last = interpolate_attentions(normalize_attentions(raw), 8)
    assert (first - last).abs().max() > 0.05


def test_one_base_is_the_logit_of_a_product_of_sigmoids(crops):
    raw = attentions(3, 9)
    blender = Blender(num_bases=1, attention_size=3)
    base, weight = crops[:, :1], interpolate_attentions(raw.view(3, 1, 3, 3), 12)
    expected = (base.double().sigmoid() * weight.double().sigmoid())[:, 0]
    logits = blender(base, raw)
    assert torch.allclose(logits.sigmoid().double(), expected, atol=1e-6)
    assert torch.allclose(blender.scores(raw, 12), weight.sigmoid())


def test_one_base_stays_finite_far_out():
    far = torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1)
    logits = Blender(num_bases=1, attention_size=1)(far, torch.tensor([[1e4], [-1e4]]))
    assert logits.isfinite().all()


def test_blender_with_one_cell_is_a_weighted_sum_of_softmaxed_coefficients(crops):
    raw = attentions(3, 4)
    blended = Blender(num_bases=4, attention_size=1)(crops, raw)
    summed = WeightedSum(num_bases=4)(crops, raw.softmax(dim=1))
    assert torch.allclose(blended, summed, atol=1e-6)


def test_assembler_is_a_blender_of_overwhelming_nearest_one_hot_attentions(crops):
    # FCIS is the case of given one-hot scores; a softmax of +-50 only comes close to it.
    raw = (torch.eye(4).flatten() * 100 - 50).expand(3, 16)
    blender = Blender(num_bases=4, attention_size=2, mode="nearest")
    assembled = Assembler(num_bases=4)(crops, torch.zeros(3, 0))
    assert torch.allclose(blender(crops, raw), assembled, atol=1e-5)


def test_assembler_copies_each_tile_from_its_own_base():
    constant = torch.arange(9.0).view(1, 9, 1, 1).expand(1, 9, 6, 6)
    mask = Assembler(num_bases=9)(constant, torch.zeros(1, 0))[0]
    assert mask[::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert mask[1::2, 1::2].equal(mask[::2, ::2])


def test_yolact_limits_bases_and_coefficients():
    crops = torch.tensor([2.0, -3.0]).view(1, 2, 1, 1)
    mask = WeightedSum(num_bases=2, has_tanh=True, has_relu=True)(crops, torch.tensor([[9.0, 9.0]]))
    assert mask.item() == pytest.approx(2.0)  # tanh(9) = 1, relu(-3) = 0


def test_sum_then_crop_equals_crop_then_sum():
    generator = torch.Generator().manual_seed(2)
    bases = torch.randn(2, 5, 16, 20, generator=generator)
    boxes = torch.tensor(
        [[3.0, 5.0, 40.0, 60.0], [-9.0, 0.0, 90.0, 30.0], [20.0, 20.0, 21.0, 22.0]]
    )
    image = torch.tensor([0, 1, 0])
    coefficients = attentions(3, 5)
    crops = crop_bases(bases, boxes, image, size=7, stride=4)
    summed = torch.einsum("nk,nkyx->nyx", coefficients, bases[image])
    cropped = crop_bases(summed[:, None], boxes, torch.arange(3), size=7, stride=4)[:, 0]
    assert torch.allclose(WeightedSum(num_bases=5)(crops, coefficients), cropped, atol=1e-5)


def test_crops_take_one_sample_at_the_center_of_each_cell():
    # A base that is x of its own cell centers, stride 4: a crop of columns 4 to 12 px in 2 cells
    # samples at 6 and 10 px, which are 1 and 2 in the base's cells.
    base = torch.arange(8.0).expand(1, 1, 8, 8)
    box = torch.tensor([[4.0, 0.0, 12.0, 8.0]])
    crop = crop_bases(base, box, torch.tensor([0]), size=2, stride=4)
    assert crop[0, 0, 0].tolist() == [1.0, 2.0]


def test_roipool_takes_the_largest_of_a_bin():
    base = torch.arange(16.0).view(1, 1, 4, 4)
    box = torch.tensor([[0.0, 0.0, 12.0, 12.0]])
    crop = crop_bases(base, box, torch.tensor([0]), size=2, stride=4, pooling="pool")
    assert crop[0, 0].tolist() == [[5, 7], [13, 15]]


def test_outside_of_the_image_the_bases_are_zero():
    base = torch.ones(1, 1, 8, 8)
    box = torch.tensor([[-32.0, 0.0, 32.0, 32.0]])
    crop = crop_bases(base, box, torch.tensor([0]), size=4, stride=4)
    assert crop[0, 0, :, :1].eq(0).all()
    assert crop[0, 0, :, 2:].eq(1).all()


def test_crops_equal_roi_align_with_one_sample():
    bases = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    regions = torch.tensor([[0, 1.5, 2.5, 30, 40], [1, -5, 8, 70, 33]])
    expected = roi_align(bases, regions, 14, 1 / 4, 1, True)
    got = crop_bases(bases, regions[:, 1:], regions[:, 0].long(), size=14, stride=4)
    assert got.equal(expected)


@pytest.mark.parametrize(
    ("merger", "channels"),
    [
        (Blender(num_bases=4, attention_size=3), 36),
        (WeightedSum(num_bases=4), 4),
        (Assembler(num_bases=4), 0),
    ],
)
def test_no_objects_give_no_masks(merger, channels):
    assert merger(torch.zeros(0, 4, 12, 12), torch.zeros(0, channels)).shape == (0, 12, 12)


def test_assembler_refuses_a_number_that_is_no_square():
    with pytest.raises(ValueError, match="num_bases = 5"):
        Assembler(num_bases=5)


def test_softmax_weights_are_independent_of_the_interpolation_library():
    raw = attentions(2, 2 * 9).view(2, 2, 3, 3)
    expected = F.interpolate(raw, size=(6, 6), mode="bilinear", align_corners=False).softmax(1)
    assert torch.allclose(
        Blender(num_bases=2, attention_size=3).scores(raw.flatten(1), 6), expected
    )
