"""bfloat16 ends where geometry begins: what autocast may change of a step, and what it may not.

The picture is 1184 pixels wide and its objects lie at the far end: bfloat16 has steps of 8 there.
"""

from dataclasses import replace

import pytest
import torch
from released import RELEASED_PRESETS, random_model, thin
from torch import Tensor

from blendmask_lite import PRESETS, BlendMask, Target
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.training.criterion import Criterion, TrainingStep

HEIGHT, WIDTH = 96, 1184
BOXES = torch.tensor([[1101.0, 11, 1147, 69], [1055, 20, 1098, 90], [1029, 5, 1163, 88]])


def target(num_stuff: int) -> Target:
    """Three objects at the far end, as ellipses, and stuff in stripes."""
    y = torch.arange(HEIGHT)[:, None] + 0.5
    x = torch.arange(WIDTH) + 0.5
    masks = [
        ((x - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((y - (y0 + y1) / 2) / (y1 - y0)) ** 2 < 0.25
        for x0, y0, x1, y1 in BOXES.tolist()
    ]
    stuff = (torch.arange(WIDTH) // 100 % (num_stuff + 1)).byte().expand(HEIGHT, -1)
    return Target(
        boxes=BOXES,
        labels=torch.zeros(3, dtype=torch.int64),
        masks=torch.stack(masks),
        stuff=stuff.contiguous() if num_stuff else None,
    )


def picture() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, HEIGHT // 8, WIDTH // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")[0]


def autocast(is_on: bool):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_on)


def make_model(name: str, **changes) -> BlendMask:
    config = replace(PRESETS[name] if name.startswith("nano") else thin(name), **changes)
    model = random_model(config).train()
    with torch.no_grad():
        model.head.ltrb.bias.fill_(4.0)  # boxes of some hundred pixels
    return model


def step_of(model: BlendMask, *, in_bfloat16: bool) -> tuple[dict[str, float], Tensor]:
    """Losses and the gradient of one step."""
    with autocast(in_bfloat16):
        losses = TrainingStep(model)([picture()], [target(model.config.num_stuff_classes)])
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)
    gradient = torch.cat([g.flatten() for g in gradients if g is not None])
    return {name: loss.item() for name, loss in losses.items()}, gradient


ALL = [*RELEASED_PRESETS, "r50_paper", "nano", "nano_panoptic"]
QUICK = ("r50", "r50_550_dcni3", "nano_panoptic")
EVERY_PRESET = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALL]


@pytest.mark.parametrize("name", EVERY_PRESET)
def test_a_step_in_bfloat16_has_the_losses_and_the_gradient_of_float32(name):
    model = make_model(name)
    exact, exact_gradient = step_of(model, in_bfloat16=False)
    losses, gradient = step_of(model, in_bfloat16=True)
    assert losses == pytest.approx(exact, rel=5e-3)
    # Measured: 0.4 to 1.3 %, and where samples of random features move 6 to 13 %.
    allowed = 0.2 if model.config.deform_interval else 0.02
    assert (gradient - exact_gradient).norm() < allowed * exact_gradient.norm()


@pytest.mark.parametrize("name", EVERY_PRESET)
def test_what_comes_after_the_network_is_the_same_in_and_out_of_autocast(name):
    model = make_model(name, semantic_weight=0.0, panoptic_weight=0.0)
    with autocast(True), torch.no_grad():
        output = model([picture()])
    assert output.bases.dtype == output.class_logits.dtype == torch.bfloat16
    assert output.ltrb.dtype == torch.float32
    losses, gradients = [], []
    for is_on in (False, True):
        leaves = {
            field: getattr(output, field).detach().requires_grad_()
            for field in ("class_logits", "ltrb", "centerness_logits", "bases")
        }
        features = tuple(each.detach().requires_grad_() for each in output.box_features)
        with autocast(is_on):
            found = Criterion(model.config)(
                model, replace(output, box_features=features, **leaves), [target(0)]
            )
        inputs = [*leaves.values(), *features, *model.top_layer.parameters()]
        gradients.append(torch.autograd.grad(sum(found.values()), inputs))
        losses.append({key: loss.item() for key, loss in found.items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for inside, outside in zip(*gradients, strict=True):
        assert torch.equal(inside, outside)


def test_crops_of_bfloat16_bases_lie_where_their_boxes_lie():
    # Base 0 tells x, in cells of 8 pixels that bfloat16 knows exactly up to 256.
    bases = torch.arange(WIDTH // 8).expand(1, 1, HEIGHT // 8, -1).float()
    image = torch.zeros(len(BOXES), dtype=torch.int64)
    exact = crop_bases(bases, BOXES, image, size=4, stride=8)
    crops = crop_bases(bases.bfloat16(), BOXES, image, size=4, stride=8)
    # By hand: the first of four cells of [1101, 1147] has its center at 1106.75 pixels.
    assert exact[0, 0, 0, 0].item() == pytest.approx(1106.75 / 8 - 0.5, abs=1e-4)
    assert crops.dtype == torch.float32 and torch.equal(crops, exact)


def test_autocast_leaves_masks_and_distances_alone():
    model = make_model("nano").eval()
    index = torch.tensor([[0, 5], [0, 900], [0, 3000]])
    with torch.no_grad():
        output = model([picture()])
        exact = model.masks_at(output, index, BOXES)
        with autocast(True):
            assert torch.equal(model.masks_at(output, index, BOXES), exact)
            [level] = model.head([output.features["p3"]]).ltrb
        distances = model.head.ltrb(model.head([output.features["p3"]]).box_features[0]).relu()
    assert level.dtype == torch.float32
    # Only the towers before it may round.
    assert (level - distances).abs().max() < 0.02 * distances.max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["r50_550_dcni3", "nano_panoptic"])
def test_a_whole_model_may_have_another_dtype(name, dtype):
    model = make_model(name).eval()
    with torch.no_grad():
        exact = model([picture()]).bases
        bases = model.to(dtype)([picture()]).bases
    assert bases.dtype == dtype
    allowed = 0.05 if dtype == torch.bfloat16 else 1e-4
    assert (bases.double() - exact.double()).norm() < allowed * exact.double().norm()
    [found] = model.predict([picture()], score_threshold=0.0, max_detections=3)
    assert len(found) == 3
    assert found.boxes.dtype == torch.promote_types(dtype, torch.float32)
    if model.config.num_stuff_classes:
        assert model.predict_panoptic([picture()])[0].ids.shape == (HEIGHT, WIDTH)
