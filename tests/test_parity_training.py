"""Targets, losses and gradients equal the released code's.

Expected numbers were written by the released code with the same weights and inputs. Kinds: polygon
and bitmap targets, one image of two without objects, no objects at all.
"""

from __future__ import annotations

import pytest
import torch
from parity import make_model, read_case, rgb, unpack

from blendmask_lite import Target
from blendmask_lite.boxes import centerness
from blendmask_lite.convert import adelaidet_name
from blendmask_lite.masks import crop_masks
from blendmask_lite.training.criterion import TrainingStep

CASES = [
    (case, kind)
    for case in ("tiny", "R_50_1x")
    for kind in ("polygon", "bitmask", "one_empty", "all_empty")
]
LOSSES = {
    "class": "loss_fcos_cls",
    "box": "loss_fcos_loc",
    "centerness": "loss_fcos_ctr",
    "mask": "loss_mask",
    "semantic": "loss_basis_sem",
}


def read_target(entry, kind):
    """Bitmap targets are given whole, polygon targets as the crops that were made of them."""
    whole = {"masks": unpack(entry["bitmasks"])}
    crops = {"mask_crops": unpack(entry["mask_targets"])}
    return Target(
        boxes=entry["boxes"],
        labels=entry["classes"],
        semantic=entry["basis_sem"],
        **(whole if kind == "bitmask" else crops),
    )


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(request):
    """(expected, step, output, targets, losses), gradients computed."""
    case, kind = request.param
    expected = read_case(f"{case}.train")["train"][kind]
    step = TrainingStep(make_model(case)).train()
    images = [rgb(entry["image"]) for entry in expected["inputs"]]
    targets = [read_target(entry, kind) for entry in expected["inputs"]]
    output = step.model(images)
    losses = step.criterion(step.model, output, targets)
    torch.stack(list(losses.values())).sum().backward()
    return expected, step, output, targets, losses


def per_level(values, output):
    """(B, L, ...) -> one tensor a level, images one after the other, as the folder has them."""
    return [level.flatten(0, 1) for level in values.split(output.level_sizes, dim=1)]


def test_losses_equal_the_released_codes(run):
    expected, _, _, _, losses = run
    assert set(losses) == set(LOSSES)
    for name, theirs in LOSSES.items():
        assert losses[name].item() == pytest.approx(expected["losses"][theirs], rel=1e-4), name


def test_assignment_equals_the_released_codes(run):
    expected, step, output, targets, _ = run
    assignment = step.criterion.assign(output, targets)
    num_classes = step.model.config.num_classes
    wanted = [level.long() for level in expected["targets"]["labels"]]
    for got, level in zip(per_level(assignment.labels, output), wanted, strict=True):
        assert got.equal(torch.where(level == num_classes, -1, level))

    image, location = assignment.index.unbind(dim=1)
    objects = torch.full_like(assignment.labels, -1)
    objects[image, location] = assignment.object_index
    ltrb = output.ltrb.new_zeros(*assignment.labels.shape, 4)
    ltrb[image, location] = assignment.ltrb / output.location_strides[location, None]
    for level, labels in enumerate(wanted):
        is_positive = labels != num_classes
        got = per_level(objects, output)[level][is_positive]
        assert got.equal(expected["targets"]["target_inds"][level].long()[is_positive])
        got = per_level(ltrb, output)[level][is_positive]
        torch.testing.assert_close(got, expected["targets"]["reg_targets"][level][is_positive])

    total = centerness(assignment.ltrb).sum().clamp(min=1e-6).item()
    assert total == pytest.approx(expected["train"]["loss_denorm"], rel=1e-5)


def test_gradient_norms_equal_the_released_codes(run):
    expected, step, _, _, _ = run
    parameters = dict(step.model.named_parameters())
    num_convs = step.model.config.num_bottom_convs
    names = {name: adelaidet_name(name, num_bottom_convs=num_convs) for name in expected["grads"]}
    trained = {name for name, value in parameters.items() if value.requires_grad}
    without = {adelaidet_name(n, num_bottom_convs=num_convs) for n in expected["no_grad_params"]}
    assert set(names.values()) | without == trained
    assert len(parameters) - len(trained) == expected["n_frozen"]
    for theirs, ours in names.items():
        norm = parameters[ours].grad.double().norm().item()
        # abs: a bias before a GroupNorm of one channel a group has no gradient but rounding.
        assert norm == pytest.approx(expected["grads"][theirs][0], rel=1e-3, abs=1e-5), ours
    for name in without:  # a zero gradient counts as none
        assert not parameters[name].grad.any()


def test_masks_of_the_first_positives_equal_the_released_codes(run):
    expected, step, output, targets, _ = run
    if "mask_logits_first16" not in expected or len(expected["train"]["pos_inds"]) == 0:
        assert sum(len(target) for target in targets) == 0
        return
    assignment = step.criterion.assign(output, targets)
    # The folder counts positions level after level, image after image.
    num_images = len(targets)
    place, first = torch.empty(num_images, sum(output.level_sizes), dtype=torch.int64), 0
    for level, size in zip(place.split(output.level_sizes, dim=1), output.level_sizes, strict=True):
        level.copy_(torch.arange(num_images * size).view(num_images, size) + first)
        first += num_images * size
    order = place[assignment.index[:, 0], assignment.index[:, 1]].argsort()
    assert place[tuple(assignment.index[order].T)].equal(expected["train"]["pos_inds"])
    with torch.no_grad():
        logits = step.criterion.masks(step.model, output, targets, assignment)[order[:16]]
    torch.testing.assert_close(
        logits.flatten(1), expected["mask_logits_first16"], atol=2e-4, rtol=0
    )


def test_batch_statistics_moved_as_in_the_released_code(run):
    expected, step, _, _, _ = run
    state = step.model.state_dict()
    num_convs = step.model.config.num_bottom_convs
    assert expected["bn_after"]
    for theirs, value in expected["bn_after"].items():
        got = state[adelaidet_name(theirs, num_bottom_convs=num_convs)]
        torch.testing.assert_close(got, value.to(got.dtype), atol=2e-4, rtol=1e-4)


def test_crops_of_bitmaps_equal_the_released_codes():
    for case in ("tiny", "R_50_1x"):
        for entry in read_case(f"{case}.train")["train"]["bitmask"]["inputs"]:
            wanted = unpack(entry["mask_targets"])
            got = crop_masks(unpack(entry["bitmasks"]), entry["boxes"], wanted.shape[-1])
            assert got.equal(wanted)
