"""What is measured of bases and attentions agrees with cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu, to_gpu
from torch.nn import functional as F

from blendmask_lite import BlendMask, load_model, shipped_checkpoint
from blendmask_lite.course.bug_zoo import observe
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.masks import crop_masks, mask_iou, paste_masks
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum
from blendmask_lite.research import (
    MEAN_ATTENTION,
    NO_PLACE,
    PARTS,
    TURNED_PLACE,
    CroppedObjects,
    OracleResults,
    attention_limit,
    best_attention,
    best_bases,
    change_base,
    compare_checkpoints,
    constant_bases,
    crop_objects,
    find_hard_cases,
    kinds_of_boxes,
    knock_out_bases,
    knock_out_effects,
    look_at_objects,
    mask_errors,
    match_bases,
    mean_over_images,
    oracle_swaps,
    predicted_boxes,
    score_bases,
    score_controls,
    score_oracles,
    true_objects,
    untrained_scores,
    with_changed_base,
    without_place,
)
from blendmask_lite.research.basis_scores import (
    area_under_curve,
    correlations,
    crop_moments,
    mask_depths,
)
from blendmask_lite.research.matching import assign_exactly
from blendmask_lite.research.objects import complexity, separation
from blendmask_lite.structures import Target

NUM_IMAGES = 5


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def dataset() -> ShapesDataset:
    return ShapesDataset(NUM_IMAGES, seed=7)


@pytest.fixture(scope="module")
def objects(model, dataset):
    return look_at_objects(model, dataset.load(0))


def random_crops(num: int, bases: int, size: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(num, bases, size, size, generator=torch.Generator().manual_seed(seed))
    return 5 * F.avg_pool2d(noise, 5, stride=1, padding=2)


def a_square(num: int, size: int) -> torch.Tensor:
    masks = torch.zeros(num, size, size, dtype=torch.bool)
    masks[:, size // 4 : -size // 4, size // 4 : -size // 3] = True
    return masks


# ------------------------------------------------------------------ best attention and bases


def test_best_attention_finds_a_mask_that_the_bases_allow_completely():
    # Base 1 is the mask, base 2 its opposite: only the first must be asked for.
    truth = a_square(2, 28)
    base = truth.float() * 2 - 1
    crops = torch.stack([base, -base], dim=1)
    merger = Blender(num_bases=2, attention_size=7)
    wrong = torch.zeros(2, 2, 7, 7)
    wrong[:, 1] = 3.0  # asks for the opposite
    best = best_attention(merger, crops, truth, start=wrong.flatten(1))
    assert best.start_iou.tolist() == [0, 0]
    assert best.iou.tolist() == [1, 1]
    scores = merger.scores(best.values, 28)
    assert (scores[:, 0] > scores[:, 1]).all()


@pytest.mark.parametrize(
    "merger",
    [
        Blender(num_bases=4, attention_size=7),
        Blender(num_bases=4, attention_size=7, mode="nearest"),
        Blender(num_bases=1, attention_size=7),
        WeightedSum(num_bases=4),
        WeightedSum(num_bases=4, has_tanh=True, has_relu=True),
        Assembler(num_bases=4),
    ],
    ids=["blender", "nearest", "one base", "sum", "YOLACT", "FCIS"],
)
def test_best_attention_is_never_worse_than_its_start_and_reaches_what_it_says(merger):
    crops, truth = random_crops(3, merger.num_bases, 28), a_square(3, 28)
    channels = merger.attention_channels
    start = torch.randn(3, channels, generator=torch.Generator().manual_seed(1))
    best = best_attention(merger, crops, truth, start=start, steps=15)
    assert best.values.shape == (3, channels)
    assert torch.equal(mask_iou(merger(crops, start) >= 0, truth), best.start_iou)
    assert torch.equal(mask_iou(merger(crops, best.values) >= 0, truth), best.iou)
    assert (best.iou >= best.start_iou).all()
    if channels and not getattr(merger, "has_relu", False):  # what is positive stays so
        assert best.iou.mean() > best.start_iou.mean() + 0.02
    assert not best.values.requires_grad


def test_an_object_is_improved_on_its_own():
    merger = Blender(num_bases=4, attention_size=7)
    crops, truth = random_crops(3, 4, 28), a_square(3, 28)
    together = best_attention(merger, crops, truth, steps=10)
    alone = best_attention(merger, crops[1:2], truth[1:2], steps=10)
    assert torch.allclose(together.values[1:2], alone.values, atol=1e-4)


def test_no_attention_beats_the_limit(model, objects):
    # By hand, two bases: cell 0 can be reached (1), cell 1 cannot (-1, -2); of the background,
    # cell 2 cannot be avoided (2, 1), cell 3 can (3, -1): 1 of 3.
    crops = torch.tensor([[[[1.0, -1.0], [2.0, 3.0]], [[-5.0, -2.0], [1.0, -1.0]]]])
    truth = torch.tensor([[[True, True], [False, False]]])
    assert attention_limit(crops, truth).tolist() == pytest.approx([1 / 3])
    assert attention_limit(crops[:0], truth[:0]).shape == (0,)
    with pytest.raises(ValueError, match="true_masks"):
        attention_limit(crops, truth[:, :1])
    crops = model.crops_at(objects.output, objects.index[:, 0], objects.boxes)
    found = best_attention(model.merger, crops, objects.mask_crops, steps=60)
    limit = attention_limit(crops, objects.mask_crops)
    assert (found.iou <= limit).all()
    assert (limit < 1).any()


def test_best_attention_copes_with_nothing_and_refuses_what_does_not_fit():
    merger = Blender(num_bases=4, attention_size=7)
    none = best_attention(merger, torch.zeros(0, 4, 28, 28), torch.zeros(0, 28, 28).bool())
    assert none.values.shape == (0, 196)
    crops, truth = random_crops(2, 4, 28), a_square(2, 28)
    same = best_attention(merger, crops, truth, steps=0)
    assert torch.equal(same.iou, same.start_iou)
    with pytest.raises(ValueError, match=r"true_masks .*need \(2, 28, 28\)"):
        best_attention(merger, crops, truth[:1])
    with pytest.raises(ValueError, match=r"start \(2, 3\): the merger wants \(2, 196\)"):
        best_attention(merger, crops, truth, start=torch.zeros(2, 3))


def test_best_attention_improves_the_network_s_masks(model, objects):
    crops = model.crops_at(objects.output, objects.index[:, 0], objects.boxes)
    own = model.attentions_at(objects.output, objects.index)
    best = best_attention(model.merger, crops, objects.mask_crops, start=own)
    assert 0.5 < best.start_iou.mean() < 0.9
    assert best.iou.min() > 0.85  # two objects are nearly hidden: 0.26 and 0.03 before


def test_best_bases_serve_all_objects_of_a_picture_together(model, objects):
    own = model.attentions_at(objects.output, objects.index)
    bases = objects.output.bases[0]
    before = bases.clone()
    best = best_bases(
        model.merger,
        bases,
        own,
        objects.boxes,
        objects.mask_crops,
        stride=model.bottom.stride,
        steps=15,
    )
    assert torch.equal(bases, before)
    logits = model.masks_at(objects.output, objects.index, objects.boxes, bases=best.values[None])
    assert torch.allclose(mask_iou(logits >= 0, objects.mask_crops), best.iou)
    assert best.iou.mean() > best.start_iou.mean() + 0.03
    with pytest.raises(ValueError, match="boxes"):
        best_bases(model.merger, bases, own, objects.boxes[:1], objects.mask_crops, stride=4)


# ------------------------------------------------------------------ scores


def painted(model: BlendMask, paint) -> BlendMask:
    """The model with bases that `paint` computes from the true objects of its last picture."""
    forward = BlendMask.forward

    class Painted(BlendMask):
        def forward(self, images):
            return replace(forward(self, images), bases=paint(images[0]))

    copy = Painted(model.config, inference=model.inference, class_names=model.class_names)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


class OneSquare(ShapesDataset):
    """Pictures with one object each: a square at a place of its own, white on black."""

    def load(self, index):
        sample = super().load(index)
        x, y = 16 + 8 * index, 24 + 4 * index
        masks = torch.zeros(1, 128, 128, dtype=torch.bool)
        masks[0, y : y + 48, x : x + 48] = True
        image = (masks.expand(3, -1, -1) * 255).byte()
        boxes = torch.tensor([[x, y, x + 48, y + 48]]).float()
        return replace(sample, image=image, target=Target(boxes, torch.tensor([0]), masks=masks))


def test_bases_made_by_hand_get_the_scores_that_they_deserve(model):
    def paint(image):
        white = (image[0].float() / 255)[None, None]
        small = F.avg_pool2d(white, 4)[0, 0] > 0.5
        columns = small.nonzero()[:, 1]
        x = torch.arange(32.0).expand(32, 32)
        ramp_x = (x - columns.float().mean()) * small
        inner = F.avg_pool2d(small.float()[None, None], 5, stride=1, padding=2)[0, 0]
        noise = torch.randn(32, 32, generator=torch.Generator().manual_seed(3))
        return torch.stack([small.float(), ramp_x, -inner, noise])[None]

    scores = score_bases(painted(model, paint), OneSquare(3))
    assert scores.num_images == scores.num_objects == 3
    assert scores.object_auc[0] == 1
    assert scores.x[1] > 0.97 and abs(scores.y[1]) < 0.05
    assert scores.object_auc[2] < 0.1  # the object with its sign turned
    assert scores.depth[2] < -0.5 and abs(scores.x[2]) < 0.1
    for name in ("depth", "x", "y"):
        assert abs(getattr(scores, name)[3]) < 0.15, name
    assert abs(scores.object_auc[3] - 0.5) < 0.1
    assert scores.mean_crops.shape == (4, 28, 28)
    assert scores.mean_crops[1, 14, 24] > 3 > -3 > scores.mean_crops[1, 14, 3]
    assert scores.strongest_position == pytest.approx(scores.x[1])


def test_y_is_the_correlation_with_rows_as_numpy_has_it(model, dataset):
    scores = score_bases(model, dataset, max_images=2)
    values, places = [], []
    for index in range(2):
        seen = look_at_objects(model, dataset.load(index))
        crops = model.crops_at(seen.output, seen.index[:, 0], seen.boxes)
        inside = crop_masks(seen.masks, seen.boxes, 28)
        rows = torch.arange(28.0)[:, None].expand(inside.shape)
        values.append(crops.detach().transpose(0, 1)[:, inside])
        places.append(rows[inside])
    joined, rows = torch.cat(values, dim=1).numpy(), torch.cat(places).numpy()
    expected = [np.corrcoef(base, rows)[0, 1] for base in joined]
    assert np.allclose(scores.y, expected, atol=1e-4)


def test_a_trained_network_divides_the_work_and_an_untrained_one_does_not(model, dataset):
    trained = score_bases(model, dataset)
    assert trained.object_auc.max() >= 0.78
    assert trained.strongest_position >= 0.5
    assert trained.depth.min() < -0.3  # a base of borders
    state = torch.random.get_rng_state()
    untrained = untrained_scores(model, dataset, seeds=(0, 1), max_images=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    for each in untrained:
        assert each.strongest_position < 0.35
        assert each.typical_position < 0.5 * trained.typical_position
    assert not torch.equal(untrained[0].x, untrained[1].x)
    assert len(trained.table().splitlines()) == 5


def test_area_under_the_curve_counts_pairs_and_ties_half():
    values, is_positive = torch.tensor([3.0, 1, 2, 2]), torch.tensor([True, True, False, False])
    # Pairs: 3 wins twice, 1 loses twice.
    assert area_under_curve(values, is_positive) == 0.5
    assert area_under_curve(torch.tensor([2.0, 2, 1]), torch.tensor([True, False, False])) == 0.75
    assert np.isnan(area_under_curve(values, torch.ones(4, dtype=torch.bool)))


def test_depth_is_counted_from_the_border_inwards():
    masks = torch.zeros(1, 7, 7, dtype=torch.bool)
    masks[0, :, 1:6] = True  # touches the upper and lower side, which are a border
    depth = mask_depths(masks)[0]
    assert depth[3].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0])
    assert depth[0].tolist() == pytest.approx([0, *[1 / 3] * 5, 0])


def test_a_data_set_without_pictures_or_objects_says_so(model):
    class Empty(ShapesDataset):
        def load(self, index):
            sample = super().load(index)
            none = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0, 128, 128).bool())
            return replace(sample, target=none)

    with pytest.raises(ValueError, match="without a single object"):
        score_bases(model, Empty(1))
    with pytest.raises(ValueError, match="at least 1"):
        score_bases(model, ShapesDataset(0))
    swaps = oracle_swaps(model, look_at_objects(model, Empty(1).load(0)))
    assert len(swaps) == 0


# ------------------------------------------------------------------ knock-out


def test_a_base_is_multiplied_or_made_flat_and_the_others_stay():
    bases = torch.randn(2, 3, 4, 5)
    doubled = change_base(bases, 1, factor=2)
    assert torch.equal(doubled[:, 1], 2 * bases[:, 1])
    assert torch.equal(doubled[:, [0, 2]], bases[:, [0, 2]])
    flat = change_base(bases, 2, factor=None)
    assert torch.allclose(flat[1, 2], bases[1, 2].mean().expand(4, 5))
    assert not torch.equal(flat[0, 2], flat[1, 2])
    with pytest.raises(ValueError, match="base 3: there are 3"):
        change_base(bases, 3)


def test_knocked_out_bases_change_masks_and_leave_boxes(model, dataset):
    results = knock_out_bases(model, dataset, max_images=2)
    plain = evaluate_model(model, dataset, max_images=2)
    assert results.baseline.table() == plain.table()
    assert all(each.box["AP"] == plain.box["AP"] for each in results.changed)
    assert results.ap_changes.tolist() == pytest.approx(
        [each.mask["AP"] - plain.mask["AP"] for each in results.changed], abs=1e-4
    )
    assert (results.ap_changes < -5).all()


def test_bases_on_a_gpu_are_knocked_out_and_matched_as_on_the_cpu(model):
    pictures = ShapesDataset(1, seed=7, config=ShapesConfig(size=100))  # enlarged to 128
    alone = knock_out_bases(model, pictures)
    moved = to_gpu(load_model(shipped_checkpoint()))
    with pretended_gpu():
        results = knock_out_bases(moved, pictures)
        image = pictures.load(0).image
        matching = compare_checkpoints(moved, moved, [image])
        own = compare_checkpoints(moved, moved, [image.to(moved.device)])  # a picture of the GPU
    assert torch.allclose(results.ap_changes, alone.ap_changes)
    assert matching.order.tolist() == own.order.tolist() == [0, 1, 2, 3]


def test_an_output_with_a_changed_base_gives_the_masks_of_these_bases(model, objects):
    changed = with_changed_base(objects.output, 0)
    logits = model.masks_at(changed, objects.index, objects.boxes)
    bases = objects.output.bases.clone()
    bases[:, 0] = 0
    expected = model.masks_at(objects.output, objects.index, objects.boxes, bases=bases)
    assert torch.equal(logits, expected)


# ------------------------------------------------------------------ errors at equal area


def two_cells_high(own, neighbours) -> CroppedObjects:
    """One object in a box of 2 x 4 cells; rows of 0 and 1."""
    own, neighbours = (torch.tensor([rows], dtype=torch.bool) for rows in (own, neighbours))
    none, flag = torch.zeros(1, 4, 2, 4), torch.zeros(1, dtype=torch.bool)
    return CroppedObjects(none, none.flatten(1), own, neighbours, flag, flag, torch.zeros(1).long())


def test_masks_are_compared_at_equal_area_so_that_a_shift_of_all_logits_changes_nothing():
    objects = two_cells_high([[1, 1, 0, 0], [1, 1, 0, 0]], [[0, 0, 1, 0], [0, 0, 1, 0]])
    logits = torch.tensor([[[9.0, 8, 7, 1], [2, 3, 0, 6]]])  # the four largest: 9, 8, 7 and 6
    errors = mask_errors(logits, objects)
    assert errors.iou.tolist() == pytest.approx([2 / 6])
    assert errors.neighbours.tolist() == [0.25] and errors.background.tolist() == [0.25]
    shifted = mask_errors(logits - 100, objects).since(errors)
    assert all(not values.any() for values in vars(shifted).values())
    right = mask_errors(objects.own.float(), objects)
    assert right.iou.tolist() == right.outline.tolist() == [1]
    # The mask has two parts, of 3 x 1 and 1 x 1 cells: outlines of 8 + 4 sides, not 8.
    assert errors.outline.tolist() == pytest.approx([12 / 8])


def test_bases_without_place_do_not_follow_it_and_the_control_changes_them_as_much():
    ramp = (torch.arange(14.0) + 0.5) / 7 - 1
    x, y = ramp.expand(2, 14, 14), ramp[:, None].expand(2, 14, 14)
    noise = random_crops(2, 2, 14)
    crops = torch.stack([3 * x + 0.5 * y, 2 - y], dim=1) + 0.1 * noise
    inside = torch.rand(2, 14, 14, generator=torch.Generator().manual_seed(0)) < 0.5
    flat = without_place(crops, inside)
    assert correlations(crop_moments(flat, inside))[:, 1:].abs().max() < 1e-4
    assert torch.allclose(flat, without_place(flat, inside), atol=1e-4)
    turned = without_place(crops, inside, is_turned=True)
    removed, control = crops - flat, crops - turned
    assert torch.allclose(removed.square().mean(), control.square().mean(), rtol=1e-3)
    assert torch.allclose(control, removed.rot90(-1, dims=(2, 3)), atol=1e-4)
    assert correlations(crop_moments(turned, inside))[0, 1] > 0.7  # x, still there


def test_effects_are_changes_since_the_masks_of_the_network(model, dataset):
    objects = crop_objects(model, true_objects(model, dataset, max_images=2))
    effects = knock_out_effects(model, objects)
    assert list(effects)[:4] == [f"base {k} times 0" for k in (1, 2, 3, 4)]
    assert list(effects)[4:] == [NO_PLACE, TURNED_PLACE, MEAN_ATTENTION]
    crops = objects.crops.clone()
    crops[:, 2] = 0
    before, after = (
        mask_errors(model.merger(each, objects.attentions), objects)
        for each in (objects.crops, crops)
    )
    assert torch.equal(effects["base 3 times 0"].iou, after.iou - before.iou)
    turned = model.merger(without_place(objects.crops, objects.own), objects.attentions)
    assert torch.equal(effects[NO_PLACE].iou, mask_errors(turned, objects).iou - before.iou)
    assert effects[NO_PLACE].iou.mean() < effects[TURNED_PLACE].iou.mean() < 0


# ------------------------------------------------------------------ oracles


def test_constant_bases_show_nothing_and_let_an_attention_paint_any_mask():
    crops = random_crops(2, 5, 14)
    constant = constant_bases(crops)
    level = float(crops.abs().mean())
    assert constant[1, :, 3, 4].tolist() == pytest.approx([level] * 3 + [-level] * 2)
    assert (constant == constant[:1, :, :1, :1]).all()
    truth = torch.rand(2, 14, 14, generator=torch.Generator().manual_seed(0)) < 0.5
    assert attention_limit(constant, truth).tolist() == [1, 1]


@pytest.fixture(scope="module")
def swaps(model, dataset):
    return score_oracles(model, dataset, max_images=2, steps=15)


def swapped(results: OracleResults, *parts: str) -> torch.Tensor:
    return results.iou[frozenset(parts)]


def test_every_set_of_parts_is_swapped_and_the_whole_set_comes_near_the_true_mask(
    model, dataset, swaps
):
    assert len(swaps.iou) == 8
    learned = [look_at_objects(model, dataset.load(i)).is_learned.sum() for i in range(2)]
    assert torch.bincount(swaps.image).tolist() == learned
    means = {parts: float(iou.mean()) for parts, iou in swaps.iou.items()}
    for part in ("attention", "bases"):  # over the true box, each search finds something better
        others = [parts for parts in means if "box" in parts and part not in parts]
        assert all(means[parts] + 0.005 < means[parts | {part}] for parts in others)
    everything = means[frozenset(PARTS)]
    assert swaps.resolution.mean() - 0.03 < everything < 1
    observed = observe(model, dataset.load(0)).iou  # boxes cut at the border, as in detection
    assert torch.allclose(swapped(swaps)[swaps.image == 0].mean(), observed.mean(), atol=0.02)


def test_gains_depend_on_the_order_and_shares_are_their_mean_over_all_orders():
    # By hand: either a or b repairs everything, c nothing.
    sets = [frozenset(parts) for n in range(4) for parts in combinations(PARTS, n)]
    iou = {s: torch.tensor([1.0 if s & {"attention", "bases"} else 0.4]) for s in sets}
    results = OracleResults(iou, torch.ones(1), torch.zeros(1).long())
    first = results.gains(("attention", "bases", "box"))
    last = results.gains(("box", "bases", "attention"))
    assert [float(first[part]) for part in PARTS] == pytest.approx([0, 0.6, 0])
    assert [float(last[part]) for part in PARTS] == pytest.approx([0, 0, 0.6])
    shares = results.shares()
    assert [float(shares[part]) for part in PARTS] == pytest.approx([0, 0.3, 0.3])
    gains = results.summary()["gain of mean IoU"]["bases"]
    assert [float(values[0]) for values in gains.values()] == pytest.approx([0, 0.6, 0.3])


def test_controls_are_of_the_same_objects_and_know_nothing_of_them(model, dataset, swaps):
    controls = score_controls(model, dataset, max_images=2, steps=15)
    assert {len(iou) for iou in controls.values()} == {len(swaps)}
    means = {name: float(iou.mean()) for name, iou in controls.items()}
    predicted, framed = swapped(swaps).mean(), swapped(swaps, "box").mean()
    for part in PARTS:
        assert means[f"another object's {part}"] < predicted
    assert means["another object's bases"] < 0.5  # the mask of another shape
    assert means["best attention, constant bases"] > framed  # painted by the attention alone
    assert means["best bases, another object's attention"] > framed
    # The same network's own bases, cropped where they belong, give the predicted mask.
    seen = look_at_objects(model, dataset.load(0))
    boxes = predicted_boxes(seen)
    masks = paste_masks(model.masks_at(seen.output, seen.index, boxes), boxes, (128, 128))
    own = mask_iou(masks, seen.masks)[seen.is_learned]
    assert torch.equal(own, swapped(swaps)[swaps.image == 0])
    with pytest.raises(ValueError, match="1 images with objects: two are needed"):
        score_controls(model, dataset, max_images=1)


# ------------------------------------------------------------------ objects of many images


def test_boxes_are_isolated_overlapping_or_share_a_center():
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [20, 0, 30, 10], [24, 0, 34, 10], [50, 0, 70, 20], [55, 5, 65, 15]]
    )
    # IoU of the second and third: 60 / 140; of the last two, 100 / 400, with one center.
    is_isolated, is_overlapping, shares_center = kinds_of_boxes(boxes)
    assert is_isolated.tolist() == [True, False, False, False, False]
    assert is_overlapping.tolist() == [False, True, True, True, True]
    assert shares_center.tolist() == [False, False, False, True, True]
    assert [len(each) for each in kinds_of_boxes(boxes[:0])] == [0, 0, 0]


def test_cropped_objects_are_those_that_are_learned_with_their_neighbours_cells(model, dataset):
    images = [look_at_objects(model, dataset.load(index)) for index in range(2)]
    objects = crop_objects(model, images)
    assert len(objects) == sum(int(each.is_learned.sum()) for each in images)
    logits = model.merger(objects.crops, objects.attentions)
    first = images[0]
    own = model.masks_at(first.output, first.index, first.boxes)[first.is_learned]
    assert torch.equal(logits[objects.image == 0], own)
    assert not (objects.own & objects.neighbours).any()
    assert (objects.neighbours & objects.is_isolated[:, None, None]).sum() == 0
    assert objects.neighbours[objects.is_overlapping].any(dim=(1, 2)).all()


def test_objects_and_controls_of_a_model_on_a_gpu_are_those_of_the_cpu(model, dataset):
    moved = to_gpu(load_model(shipped_checkpoint()))
    with pretended_gpu():
        objects = crop_objects(moved, true_objects(moved, dataset, max_images=2))
        swaps = score_oracles(moved, dataset, max_images=2, steps=1)
        controls = score_controls(moved, dataset, max_images=2, steps=1)
    own = crop_objects(model, true_objects(model, dataset, max_images=2))
    assert torch.allclose(objects.crops, own.crops, atol=1e-4)
    assert torch.equal(objects.image, own.image)
    expected = score_controls(model, dataset, max_images=2, steps=1)
    assert all(torch.allclose(controls[name], expected[name], atol=1e-3) for name in expected)
    whole = swapped(score_oracles(model, dataset, max_images=2, steps=1), *PARTS)
    assert torch.allclose(swapped(swaps, *PARTS), whole, atol=1e-3)


def test_an_interval_over_images_takes_objects_of_one_image_together():
    # 50 objects in each of two images, all alike: as uncertain as two numbers, 0 and 1.
    values = torch.tensor([0.0, 1.0]).repeat_interleave(50)
    image = torch.tensor([3, 8]).repeat_interleave(50)
    assert mean_over_images(values, image).tolist() == [0.5, 0, 1]
    alone = mean_over_images(values, torch.arange(100))
    assert 0.35 < alone[1] < 0.45 and 0.55 < alone[2] < 0.65


# ------------------------------------------------------------------ matching


def test_assignment_is_the_best_of_all_permutations():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 5, 6):
        gains = torch.randn(size, size, generator=generator)
        rows = torch.arange(size)
        best = max(float(gains[rows, list(p)].sum()) for p in permutations(range(size)))
        order = assign_exactly(gains)
        assert sorted(order.tolist()) == list(range(size))
        assert float(gains[rows, order].sum()) == pytest.approx(best, abs=1e-5)


def test_shuffled_and_rescaled_bases_are_matched():
    bases = torch.randn(5, 8, 9, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 4, 1, 2])
    other = 3 * bases[order] + 7
    matching = match_bases([bases], [other])
    assert torch.equal(order[matching.order], torch.arange(5))
    assert torch.allclose(matching.correlations, torch.ones(5), atol=1e-5)
    with pytest.raises(ValueError, match="must agree"):
        match_bases([bases], [other[:4]])


def test_a_checkpoint_matches_itself(model, dataset):
    image = dataset.load(0).image
    matching = compare_checkpoints(model, model, [image])
    assert matching.order.tolist() == [0, 1, 2, 3]
    assert torch.allclose(matching.correlations, torch.ones(4), atol=1e-5)
    with pytest.raises(ValueError, match="at least one picture"):
        compare_checkpoints(model, model, [])


# ------------------------------------------------------------------ hard cases


def test_outlines_and_parts_are_measured():
    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[0, 5:15, 5:15] = True
    masks[1, 2:6, 2:12] = True  # 40 pixels
    masks[1, 10:12, 10:15] = True  # 10 more, apart
    masks[2] = False
    square, parts, nothing = complexity(masks).tolist()
    assert square == pytest.approx(40**2 / (4 * np.pi * 100))
    assert parts == pytest.approx(42**2 / (4 * np.pi * 50))
    assert nothing == 0
    assert separation(masks).tolist() == pytest.approx([0, 0.2, 0])
    masks[1, 6:10, 11] = True  # joined
    assert separation(masks)[1] == 0


def test_hard_objects_are_sorted_and_their_masks_are_the_networks(model, dataset):
    cases = find_hard_cases(model, dataset, number=2, max_images=2)
    assert list(cases) == ["complex", "separated", "overlapping"]
    for each in cases.values():
        assert 1 <= len(each) <= 2
        assert all(case.measure > 0 for case in each)
        assert sorted(-case.measure for case in each) == [-case.measure for case in each]
    case = cases["complex"][0]
    assert case.measure == pytest.approx(float(complexity(case.true_mask[None])))
    assert case.iou == pytest.approx(float(mask_iou(case.mask[None], case.true_mask[None])))
