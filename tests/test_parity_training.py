"""Targets, losses and gradients equal the released code's.

Expected numbers were written by the released code with the same weights and inputs. Kinds: polygon
and bitmap targets, one image of two without objects, no objects at all.

Losses are continuous in the weights, so float32 has them to 1e-5 on every machine. Gradients are
not: a ReLU whose input is 1e-6 opens or closes with the last bit of a sum, and so with the
processor. One closed cell of a small level moves the gradient of a single parameter by percents.
So gradients are compared in float64, where no gate is that close, and float32 with float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch
from parity import make_model, read_case, rgb, unpack
from torch import Tensor

from blendmask_lite import Target
from blendmask_lite.boxes import centerness
from blendmask_lite.masks import crop_masks
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.weights.adelaidet import adelaidet_name

KINDS = ("polygon", "one_empty", "bitmask", "all_empty")
CASES = [(case, kind) for case in ("tiny", "R_50_1x") for kind in KINDS]
# R-50 is slow in float64; what the last two kinds change comes before the network, as in tiny.
EXACT_CASES = CASES[:-2]
LOSSES = {
    "class": "loss_fcos_cls",
    "box": "loss_fcos_loc",
    "centerness": "loss_fcos_ctr",
    "mask": "loss_mask",
    "semantic": "loss_basis_sem",
}
# The released code's numbers are float32 themselves. Measured against float64: 3.7e-5 in R_50_1x,
# 2.8e-4 in tiny, whose levels are small; and 5.2e-3 in one parameter of tiny-all_empty, where one
# ReLU of `head.class_tower` on P5 had an input of 1e-6 and the wrong side of 0.
RELEASED_ROUNDING = {"R_50_1x": 1e-4, "tiny": 5e-4, "tiny-all_empty": 6e-3}
# Float32 against float64, the length of the difference. With each weight moved by 1e-6 of itself, a
# few roundings, as well as with other instruction sets and thread counts: up to 3e-2 of a
# parameter's gradient, 7e-4 of the whole one.
FLOAT32_PARAMETER, FLOAT32_WHOLE = 0.1, 3e-3
# A bias before a GroupNorm of one channel a group has no gradient but rounding.
NO_GRADIENT = 5e-5


@dataclass
class Run:
    """A training step on a case, gradients computed."""

    name: str
    expected: Any
    step: TrainingStep
    output: BlendMaskOutput
    targets: list[Target]
    losses: dict[str, Tensor]

    def gradients(self):
        """Parameter's name in the released code -> gradient, float64."""
        parameters = dict(self.step.model.named_parameters())
        return {
            theirs: parameters[our_name(self, theirs)].grad.double()
            for theirs in self.expected["grads"]
        }


def our_name(run, theirs):
    num_convs = run.step.model.config.num_bottom_convs
    return adelaidet_name(theirs, num_bottom_convs=num_convs)


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


def train(case, kind, dtype):
    expected = read_case(f"{case}.train")["train"][kind]
    step = TrainingStep(make_model(case).to(dtype)).train()
    images = [rgb(entry["image"]) for entry in expected["inputs"]]
    targets = [read_target(entry, kind) for entry in expected["inputs"]]
    output = step.model(images)
    losses = step.criterion(step.model, output, targets)
    torch.stack(list(losses.values())).sum().backward()
    return Run(f"{case}-{kind}", expected, step, output, targets, losses)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(request):
    return train(*request.param, torch.float32)


@lru_cache(maxsize=1)
def exact_run(name):
    """The same in float64."""
    return train(*name.split("-"), torch.float64)


def per_level(values, output):
    """(B, L, ...) -> one tensor a level, images one after the other, as the folder has them."""
    return [level.flatten(0, 1) for level in values.split(output.level_sizes, dim=1)]


def test_losses_equal_the_released_codes(run):
    assert set(run.losses) == set(LOSSES)
    for name, theirs in LOSSES.items():
        assert run.losses[name].item() == pytest.approx(run.expected["losses"][theirs], rel=1e-4)


def test_assignment_equals_the_released_codes(run):
    expected, step, output, targets = run.expected, run.step, run.output, run.targets
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


def test_the_same_parameters_have_gradients_as_in_the_released_code(run):
    parameters = dict(run.step.model.named_parameters())
    trained = {name for name, value in parameters.items() if value.requires_grad}
    with_gradient = {our_name(run, theirs) for theirs in run.expected["grads"]}
    without = {our_name(run, theirs) for theirs in run.expected["no_grad_params"]}
    assert with_gradient | without == trained
    assert len(parameters) - len(trained) == run.expected["n_frozen"]
    for name in without:  # a zero gradient counts as none
        assert not parameters[name].grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("run", EXACT_CASES, indirect=True, ids="-".join)
def test_gradient_norms_in_float64_equal_the_released_codes(run):
    exact = exact_run(run.name)
    case = run.name.split("-")[0]
    rel = RELEASED_ROUNDING.get(run.name, RELEASED_ROUNDING[case])
    for theirs, gradient in exact.gradients().items():
        norm, _ = run.expected["grads"][theirs]
        assert gradient.norm().item() == pytest.approx(norm, rel=rel, abs=1e-5), theirs


@pytest.mark.slow
@pytest.mark.parametrize("run", EXACT_CASES, indirect=True, ids="-".join)
def test_gradients_in_float32_are_those_of_float64_but_for_a_few_gates(run):
    exact, rounded = exact_run(run.name).gradients(), run.gradients()
    errors = {name: (rounded[name] - exact[name]).norm() for name in exact}
    for name, error in errors.items():
        assert error <= FLOAT32_PARAMETER * exact[name].norm() + NO_GRADIENT, name
    whole = torch.stack([gradient.norm() for gradient in exact.values()]).norm()
    assert torch.stack(list(errors.values())).norm() <= FLOAT32_WHOLE * whole


def test_masks_of_the_first_positives_equal_the_released_codes(run):
    expected, step, output, targets = run.expected, run.step, run.output, run.targets
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
    state = run.step.model.state_dict()
    assert run.expected["bn_after"]
    for theirs, value in run.expected["bn_after"].items():
        got = state[our_name(run, theirs)]
        torch.testing.assert_close(got, value.to(got.dtype), atol=2e-4, rtol=1e-4)


def test_crops_of_bitmaps_equal_the_released_codes():
    for case in ("tiny", "R_50_1x"):
        for entry in read_case(f"{case}.train")["train"]["bitmask"]["inputs"]:
            wanted = unpack(entry["mask_targets"])
            got = crop_masks(unpack(entry["bitmasks"]), entry["boxes"], wanted.shape[-1])
            assert got.equal(wanted)
