"""Assignment and losses by hand; the released code's numbers are held in test_parity_training."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from released import thin
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from blendmask_lite import PRESETS, BlendMask, Target
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.masks import semantic_cells
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.research.ablations.tables import TABLES
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.losses import (
    centerness_loss,
    focal_loss,
    mask_loss,
    semantic_loss,
    sigmoid_entropy,
)
from blendmask_lite.training.targets import assign_locations

SHAPES, STRIDES = [(8, 8), (4, 4)], [8, 16]
SIZES = [64, 16]
NONE = {"reduction": "none"}
RANGES = [(-1.0, 32.0), (32.0, math.inf)]


def assign(boxes, radius=1.5):
    locations = pyramid_locations(SHAPES, STRIDES)
    owner = assign_locations(
        locations,
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        SIZES,
        STRIDES,
        size_ranges=RANGES,
        center_radius=radius,
    )
    return {
        tuple(xy): int(o) for xy, o in zip(locations.tolist(), owner, strict=True) if o >= 0
    }, owner


def test_locations_are_cell_centers_row_by_row():
    locations = pyramid_locations([(2, 3), (1, 2)], [8, 16])
    expected = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12), (8, 8), (24, 8)]
    assert [tuple(each) for each in locations.tolist()] == expected


def test_only_locations_within_the_central_square_are_positive():
    # Center (32, 32), reach 12 pixels at stride 8: 28 and 36 lie within, 20 and 44 on the edge.
    found, _ = assign([[16, 16, 48, 48]])
    assert set(found) == {(28, 28), (36, 28), (28, 36), (36, 36)}


def test_without_center_sampling_the_whole_box_is_positive():
    found, _ = assign([[16, 16, 48, 48]], radius=math.inf)
    assert len(found) == 16


def test_an_object_without_a_location_in_reach_has_no_positive():
    found, _ = assign([[29, 29, 31, 31]])
    assert found == {}


def test_large_objects_go_to_the_coarse_level():
    found, owner = assign([[0, 0, 64, 64]])
    assert set(found) == {(24, 24), (40, 24), (24, 40), (40, 40)}
    assert (owner[:64] >= 0).sum() == 0


def test_both_ends_of_a_size_range_are_inside():
    # From (28, 28) the right side is 32 pixels away: both levels may learn it.
    _, owner = assign([[20, 20, 60, 36]], radius=math.inf)
    assert owner[3 * 8 + 3] == 0


def test_location_on_two_objects_learns_the_smaller():
    found, _ = assign([[8, 8, 56, 56], [16, 16, 48, 48]])
    assert found[(28, 28)] == 1


def test_location_on_two_objects_of_one_size_learns_the_first():
    found, _ = assign([[16, 16, 48, 48], [16, 16, 48, 48]])
    assert set(found.values()) == {0}


def test_no_objects_leave_everything_background():
    found, owner = assign([])
    assert found == {}
    assert owner.eq(-1).all()


def test_focal_loss_equals_torchvisions():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, -1, 2, -1, 1], [-1, -1, -1, 0, 2]])
    one_hot = torch.stack([(labels == c).float() for c in range(3)], dim=-1)
    expected = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2, reduction="sum") / 5
    assert focal_loss(logits, labels, torch.tensor(5.0)).item() == pytest.approx(expected.item())


def test_centerness_loss_has_a_floor_at_the_targets_entropy():
    target = torch.tensor([0.5])
    loss = centerness_loss(torch.zeros(1), target, torch.tensor(1.0))
    assert loss.item() == pytest.approx(math.log(2))


def test_mask_loss_is_a_centerness_weighted_mean():
    # Zero logits cost ln 2 a cell; weights 1 and 3 over their sum leave ln 2.
    logits, target = torch.zeros(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    weight = torch.tensor([1.0, 3.0])
    assert mask_loss(logits, target, weight, weight.sum()).item() == pytest.approx(math.log(2))


def test_semantic_loss_reads_every_eighth_pixel():
    semantic = torch.zeros(16, 16, dtype=torch.int64)
    semantic[8, 0] = 2
    semantic[1:8] = 1  # not read
    cells = semantic_cells(replace(empty_target((16, 16)), semantic=semantic))
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 2, 1, 0] = 100
    logits[0, 0] = 100
    logits[0, 0, 1, 0] = 0
    assert semantic_loss(logits, cells[None]).item() == pytest.approx(0, abs=1e-6)


# The criterion on the network


@pytest.fixture(scope="module")
def step():
    torch.manual_seed(0)
    return TrainingStep(BlendMask(PRESETS["nano"])).train()


def square_target(size, box, label=0):
    masks = torch.zeros(1, size[0], size[1], dtype=torch.bool)
    x0, y0, x1, y1 = box
    masks[0, y0:y1, x0:x1] = True
    return Target(torch.tensor([box], dtype=torch.float32), torch.tensor([label]), masks)


def empty_target(size):
    return Target(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *size).bool()
    )


def test_no_objects_give_zero_losses_attached_to_every_parameter(step):
    step.zero_grad()
    losses = step([torch.rand(3, 64, 96)], [empty_target((64, 96))])
    assert losses["box"] == losses["centerness"] == losses["mask"] == 0
    sum(losses.values()).backward()
    missing = [name for name, p in step.named_parameters() if p.grad is None]
    assert missing == []


def test_a_single_image_and_two_of_different_size_train(step):
    images = [torch.rand(3, 64, 96), torch.rand(3, 100, 70)]
    targets = [
        square_target((64, 96), (10, 10, 50, 50)),
        square_target((100, 70), (5, 20, 60, 90), 3),
    ]
    for num in (1, 2):
        step.zero_grad()
        losses = step(images[:num], targets[:num])
        assert set(losses) == {"class", "box", "centerness", "mask", "semantic"}
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in step.parameters())
        assert step.model.top_layer.conv.weight.grad.any()


def ablation_rows():
    """Every architecture of the paper's tables, once."""
    rows = {}
    for number, table in TABLES.items():
        for place, row in enumerate(table, start=1):
            rows.setdefault(row.model, f"table {number} row {place}")
    return rows


# The small backbone is thin as it is. With 8 channels the backward pass of its 1x1 convolutions of
# stride 2, channels last, would write beyond its memory (PyTorch 2.14 with oneDNN, on the CPU).
MODELS = {
    name: config if config.backbone == "small" else thin(name) for name, config in PRESETS.items()
}
MODELS |= {name: model for model, name in ablation_rows().items()}


@pytest.mark.parametrize("name", MODELS)
def test_each_parameter_learns_from_a_batch_with_objects(name):
    # Several processes exchange the gradients of all parameters: a training stops where one has
    # none.
    torch.manual_seed(0)
    config = MODELS[name]
    step = TrainingStep(BlendMask(config)).train()
    sample = ShapesDataset(1, seed=4).load(0)
    target = replace(sample.target, stuff=sample.target.stuff.clamp(max=config.num_stuff_classes))
    target = replace(target, labels=target.labels.clamp(max=config.num_classes - 1), semantic=None)
    assert len(target) > 1
    sum(step([sample.image] * 2, [target] * 2).values()).backward()
    learned = {name for name, p in step.named_parameters() if p.grad is not None}
    trainable = {name for name, p in step.named_parameters() if p.requires_grad}
    assert trainable - learned == set()


def test_padding_does_not_move_targets(step):
    step.eval()
    image, target = torch.rand(3, 64, 64), square_target((64, 64), (8, 8, 56, 56))
    other = [torch.rand(3, 128, 128), square_target((128, 128), (8, 8, 120, 120))]
    output = step.model([image, other[0]])
    assignment = step.criterion.assign(output, [target, other[1]])
    own = assignment.index[:, 0] == 0
    xy = output.locations[assignment.index[own, 1]]
    assert (xy < 64).all()
    boxes = torch.cat([xy - assignment.ltrb[own, :2], xy + assignment.ltrb[own, 2:]], dim=1)
    assert torch.allclose(boxes, target.boxes.expand(len(boxes), 4))
    step.train()


def test_crops_and_bitmaps_give_the_same_mask_loss(step):
    step.eval()
    target = square_target((64, 64), (8, 8, 56, 56))
    crops = Target(
        target.boxes,
        target.labels,
        mask_crops=torch.ones(1, 28, 28).bool(),
        semantic=target.masks[0],
    )
    image = torch.rand(3, 64, 64)
    one, other = step([image], [target])["mask"], step([image], [crops])["mask"]
    assert one.item() == pytest.approx(other.item())
    step.train()


def test_crops_of_another_size_are_refused_by_name(step):
    target = Target(
        torch.tensor([[8.0, 8, 56, 56]]), torch.tensor([0]), mask_crops=torch.ones(1, 7, 7).bool()
    )
    with pytest.raises(ValueError, match=r"targets\[0\].mask_crops: 7 cells.*28"):
        step([torch.rand(3, 64, 64)], [target])


def test_targets_without_masks_are_refused(step):
    target = Target(torch.tensor([[8.0, 8, 56, 56]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="neither masks nor mask_crops"):
        step([torch.rand(3, 64, 64)], [target])


@pytest.mark.parametrize("field", ["boxes", "masks"])
def test_a_target_that_disagrees_with_itself_is_refused(field):
    values = {"boxes": torch.zeros(2, 4), "labels": torch.zeros(2, dtype=torch.int64)}
    values[field] = torch.zeros(3, 4) if field == "boxes" else torch.zeros(3, 8, 8).bool()
    with pytest.raises(ValueError, match=field):
        Target(**values)


def test_sigmoid_entropy_equals_torchs_in_value_and_gradient():
    logits = torch.tensor([-200.0, -20, -3, -1e-3, 0, 1e-3, 3, 20, 200]).repeat(3)
    target = torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(9)
    for dtype, tolerance in ((torch.float32, 1e-7), (torch.float64, 1e-15)):
        values = []
        for function in (sigmoid_entropy, partial(F.binary_cross_entropy_with_logits, **NONE)):
            x = logits.to(dtype).requires_grad_()
            entropy = function(x, target.to(dtype))
            (gradient,) = torch.autograd.grad((entropy * target.to(dtype)).sum(), x)
            values.append((entropy.detach(), gradient))
        for own, expected in zip(*values, strict=True):
            assert torch.allclose(own, expected, rtol=tolerance, atol=tolerance)


def test_sigmoid_entropy_of_nothing_stays_attached():
    logits = torch.zeros(0, 7, 7, requires_grad=True)
    sigmoid_entropy(logits, torch.zeros(0, 7, 7)).sum().backward()
    assert logits.grad.shape == (0, 7, 7)


def test_gradients_of_focal_loss_equal_torchvisions():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    logits[0, 0] = 0
    labels = torch.tensor([[0, -1, 2, -1, 1], [-1, -1, -1, 0, 2]])
    one_hot = torch.stack([(labels == c).double() for c in range(3)], dim=-1)
    logits.requires_grad_()
    expected = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2, reduction="sum") / 5
    own = focal_loss(logits, labels, torch.tensor(5.0))
    wanted, gradient = (torch.autograd.grad(loss, logits)[0] for loss in (expected, own))
    assert torch.allclose(gradient, wanted, rtol=1e-12)


def test_gradients_lie_in_memory_as_their_weights_do(step):
    # The fused optimizer walks through both side by side, and does not look.
    step.zero_grad()
    losses = step([torch.rand(3, 64, 96)], [square_target((64, 96), (10, 10, 50, 50))])
    sum(losses.values()).backward()
    for name, parameter in step.named_parameters():
        axes = [axis for axis, length in enumerate(parameter.shape) if length > 1]
        order = [[each.stride(axis) for axis in axes] for each in (parameter, parameter.grad)]
        assert order[0] == order[1], name
