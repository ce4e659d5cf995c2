"""The released family: sizes, DLA-34, deformable convolutions, norms of every level."""

from __future__ import annotations

import copy

import pytest
import torch
from released import random_model, thin
from torch import nn
from torch.nn import functional as F

from blendmask_lite import PRESETS, BlendMask, ModelConfig, Target
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.model.backbones.dla import DLA, Tree
from blendmask_lite.model.fcos import FCOSHead
from blendmask_lite.model.layers import BatchNorm2d, DeformConv2d, group_norm, synchronize_norms
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.schedule import TRAIN_PRESETS

FROZEN = [name for name, config in PRESETS.items() if config.backbone_norm == "frozen_bn"]

# Counted in the released code: millions of parameters, tensors of the state dict.
RELEASED = {
    "r50": (35.98, 379),
    "r101": (54.92, 634),
    "r101_dcni3": (55.61, 656),
    "r50_550": (32.29, 351),
    "r50_550_dcni3": (32.60, 361),
    "rt_r50": (31.75, 402),
    "rt_r50_bn_head": (31.76, 441),
    "dla34": (25.93, 344),
    "panoptic_r50": (38.27, 406),
    "panoptic_r101": (57.21, 661),
    "panoptic_r50_dcni3": (38.58, 416),
    "panoptic_r101_dcni3": (57.89, 683),
    "person_r50": (35.79, 379),
}


@pytest.mark.parametrize("name", RELEASED)
def test_sizes_equal_the_released_models(name):
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    millions = round(sum(p.numel() for p in model.parameters()) / 1e6, 2)
    assert (millions, len(model.state_dict())) == RELEASED[name]


def test_every_preset_has_settings_for_inference_and_training():
    assert PRESET_INFERENCE.keys() == TRAIN_PRESETS.keys() == PRESETS.keys()
    assert TRAIN_PRESETS["dla34"].train_sizes[-1] == 608
    assert PRESET_INFERENCE["rt_r50"].test_size == 512
    assert PRESET_INFERENCE["r50_550_dcni3"].max_size == 916


@pytest.mark.parametrize("name", PRESETS)
def test_every_architecture_trains_all_that_it_does_not_freeze(name):
    torch.manual_seed(0)
    model = BlendMask(thin(name, num_classes=5)).train()
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 10:40, 10:50] = True
    masks[1, 5:60, 40:90] = True
    target = Target(
        boxes=torch.tensor([[10.0, 10, 50, 40], [40, 5, 90, 60]]),
        labels=torch.tensor([0, 3]),
        masks=masks,
        **({"stuff": torch.zeros(64, 96, dtype=torch.uint8)} if "panoptic" in name else {}),
    )
    image = torch.rand(3, 64, 96)
    losses = TrainingStep(model)([image, image], [target, target])
    sum(losses.values()).backward()
    untouched = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_fresh_deformable_convolution_is_half_an_ordinary_one():
    torch.manual_seed(0)
    conv = DeformConv2d(4, 6, stride=2)
    x = torch.randn(2, 4, 9, 11)
    half = 0.5 * F.conv2d(x, conv.weight, stride=2, padding=1)
    torch.testing.assert_close(conv(x), half)


def test_offsets_move_the_samples_and_weights_scale_them():
    torch.manual_seed(0)
    conv = DeformConv2d(4, 6)
    x = torch.randn(1, 4, 9, 11)
    with torch.no_grad():
        conv.offset.bias[0:18:2] = 1.0  # one pixel down
        conv.offset.bias[1:18:2] = -2.0  # two to the left
        conv.offset.bias[18:] = 100.0  # whole samples
    moved = F.pad(x, (2, 0, 0, 1))[:, :, 1:, :11]  # what lies there now
    ordinary = F.conv2d(moved, conv.weight, padding=1)
    inner = (slice(None), slice(None), slice(1, -2), slice(3, -1))
    torch.testing.assert_close(conv(x)[inner], ordinary[inner])


def test_gradients_reach_the_offsets():
    torch.manual_seed(0)
    conv = DeformConv2d(4, 6)
    conv(torch.randn(1, 4, 8, 8)).square().sum().backward()
    assert conv.offset.weight.grad.abs().sum() > 0


def deformable_blocks(name):
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    return [n for n, m in model.named_modules() if isinstance(m, DeformConv2d)]


def test_every_third_block_of_the_last_three_stages_is_deformable():
    assert deformable_blocks("panoptic_r50_dcni3") == [
        f"backbone.layer{stage}.{block}.conv2"
        for stage, block in ((2, 0), (2, 3), (3, 0), (3, 3), (4, 0))
    ]
    assert len(deformable_blocks("r101_dcni3")) == 11


def test_a_fresh_backbone_looks_where_an_ordinary_one_does():
    model = BlendMask(thin("r50_550_dcni3"))
    offsets = [m.offset for m in model.modules() if isinstance(m, DeformConv2d)]
    assert len(offsets) == 5
    assert not any(p.any() for offset in offsets for p in offset.parameters())


def test_the_smallest_tree_is_a_root_over_two_blocks():
    torch.manual_seed(0)
    tree = Tree(depth=1, in_channels=4, out_channels=6, stride=2, has_level_root=True).eval()
    x, child = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    tree.root.conv = nn.Conv2d(2 * 6 + 4 + 4, 6, 1, bias=False)
    bottom = F.max_pool2d(x, 2)
    first = tree.tree1(x, tree.project(bottom))
    second = tree.tree2(first, first)
    wanted = tree.root.bn(tree.root.conv(torch.cat([second, first, child, bottom], 1))).relu()
    torch.testing.assert_close(tree(x, (child,)), wanted)


def test_a_deep_tree_hands_the_first_half_to_the_second_ones_root():
    torch.manual_seed(0)
    tree = Tree(depth=2, in_channels=4, out_channels=6, stride=2, has_level_root=True).eval()
    x = torch.randn(1, 4, 8, 8)
    first = tree.tree1(x)
    wanted = tree.tree2(first, (F.max_pool2d(x, 2), first))
    torch.testing.assert_close(tree(x), wanted)
    assert tree.tree2.root.conv.in_channels == 2 * 6 + 4 + 6


def test_nothing_reads_the_outer_projection_of_a_deep_tree():
    torch.manual_seed(0)
    dla = DLA(channels=(4, 4, 8, 16, 32, 64)).eval()
    x = torch.rand(1, 3, 64, 64)
    before = dla(x)["c5"]
    dead = [name for name, p in dla.named_parameters() if not p.requires_grad]
    assert {name.split(".project")[0] for name in dead} == {"level3", "level4"}
    with torch.no_grad():
        for name in dead:
            dla.get_parameter(name).fill_(7.0)
    assert dla(x)["c5"].equal(before)


def test_every_level_has_statistics_of_its_own():
    torch.manual_seed(0)
    head = FCOSHead(
        in_channels=8,
        num_classes=2,
        num_shared_convs=1,
        num_class_convs=0,
        num_box_convs=0,
        norm="bn_per_level",
        num_levels=2,
    ).train()
    head([torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)])
    first, second = head.shared_tower[1]
    assert not first.running_mean.equal(second.running_mean)
    names = [n for n in head.state_dict() if "running_mean" in n]
    assert names == ["shared_tower.1.0.running_mean", "shared_tower.1.1.running_mean"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backbone": "dla34", "frozen_stages": 2}, "frozen_stages"),
        ({"backbone": "resnet34", "deform_interval": 3}, "deform_interval"),
        ({"head_norm": "bn"}, "head_norm"),
        ({"num_stuff_classes": -1}, "num_stuff_classes"),
    ],
)
def test_impossible_members_of_the_family_are_refused_by_field(changes, field):
    with pytest.raises(ValueError, match=f"^{field} = "):
        ModelConfig(**changes)


def test_synchronized_norms_keep_names_and_results_and_leave_the_semantic_head_alone():
    torch.manual_seed(0)
    model = BlendMask(thin("rt_r50_bn_head")).eval()
    names, image = list(model.state_dict()), torch.rand(3, 64, 64)
    with torch.no_grad():
        before = model([image]).bases
        synchronize_norms(model)
        after = model([image]).bases
    assert list(model.state_dict()) == names
    torch.testing.assert_close(after, before)
    kinds = {n.split(".")[0] for n, m in model.named_modules() if isinstance(m, nn.SyncBatchNorm)}
    assert kinds == {"backbone", "head", "bottom"}
    assert isinstance(model.semantic_head.layers[1], nn.BatchNorm2d)


@pytest.mark.parametrize("has_gradients", [True, False])
@pytest.mark.parametrize("name", FROZEN)
def test_frozen_norms_keep_features_in_bfloat16(name, has_gradients):
    torch.manual_seed(0)
    backbone = BlendMask(thin(name)).eval().backbone
    images = torch.rand(1, 3, 64, 96)
    with torch.set_grad_enabled(has_gradients):
        wanted = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            cast = backbone(images)
        whole = backbone.bfloat16()(images.bfloat16())
    for level in ("c2", "c3", "c4", "c5"):
        for got in (cast[level], whole[level]):
            assert got.dtype == torch.bfloat16
            assert (got - wanted[level]).norm() < 0.05 * wanted[level].norm()


def bytes_kept(model, images, is_cast):
    """Of the maps that the gradients need."""
    storages = {}

    def pack(tensor):
        if tensor.dim() == 4 and len(tensor) == len(images):  # a map and no kernel
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=is_cast),
    ):
        output = model(images)  # as long as it lives, no address is used twice
        assert output.class_logits.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("name", FROZEN)
def test_bfloat16_halves_the_maps_that_the_gradients_need(name):
    model = BlendMask(thin(name)).train()
    images = [torch.rand(3, 64, 96)] * 2
    share = bytes_kept(model, images, True) / bytes_kept(model, images, False)
    # What the distances are predicted from is float32, and what deformable convolutions sample.
    assert share < (0.6 if PRESETS[name].deform_interval else 0.54)


def test_group_norm_is_left_out_of_autocast(monkeypatch):
    # On a GPU, autocast would take it in float32; the CPU's list does not have it.
    norm, x = group_norm(64), torch.randn(2, 64, 8, 8)
    wanted = norm(x.bfloat16().float())
    calls, original = [], F.group_norm

    def record(x, num_groups, weight, bias, eps):
        calls.append((torch.is_autocast_enabled("cpu"), x.dtype, weight.dtype, bias.dtype))
        return original(x, num_groups, weight, bias, eps)

    monkeypatch.setattr(F, "group_norm", record)
    with torch.autocast("cpu", torch.bfloat16):
        got = norm(x.bfloat16())
    assert calls == [(False, torch.bfloat16, torch.bfloat16, torch.bfloat16)]
    torch.testing.assert_close(got.float(), wanted, atol=0.02, rtol=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_group_norm_stays_in_bfloat16_on_a_gpu():
    norm, x = group_norm(64).cuda(), torch.randn(2, 64, 8, 8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_a_deformable_convolution_samples_in_float32():
    torch.manual_seed(0)
    conv, x = DeformConv2d(4, 6), torch.randn(2, 4, 9, 11)
    nn.init.normal_(conv.offset.weight, std=0.1)
    wanted = conv(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = conv(x.bfloat16())
    cast.float().square().sum().backward()
    assert conv.offset.bias.grad.any()
    whole = conv.bfloat16()(x.bfloat16())
    for got in (cast, whole):
        assert got.dtype == torch.bfloat16
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def batch_norm_step(kind, x, weight, *, dtype):
    """Output, gradients and statistics of one training step, in float64."""
    norm = kind(x.shape[1]).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, x.shape[1]))
    x = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = norm(x)
    (out * weight.to(dtype)).sum().backward()
    values = (out, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    assert norm.num_batches_tracked == 1
    return [value.detach().double() for value in values]


def test_batch_statistics_on_the_cpu_are_summed_to_the_last_digits():
    generator = torch.Generator().manual_seed(0)
    shape = (2, 16, 200, 304)
    x = 2 * torch.randn(shape, generator=generator) + 3
    weight = torch.randn(shape, generator=generator)
    exact = batch_norm_step(nn.BatchNorm2d, x, weight, dtype=torch.float64)
    found = batch_norm_step(BatchNorm2d, x, weight, dtype=torch.float32)
    for own, true in zip(found, exact, strict=True):
        # torch's own kernel for this layout: 1e-5, and 1e-4 in gradients of weights.
        assert (own - true).norm() < 2e-6 * true.norm()


def test_batch_norm_evaluates_and_keeps_its_names_as_torchs_does():
    own, torchs = BatchNorm2d(4), nn.BatchNorm2d(4)
    assert own.state_dict().keys() == torchs.state_dict().keys()
    x = torch.randn(2, 4, 100, 80).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        own(x), torchs(x)
    own.eval(), torchs.eval()
    assert torch.allclose(own(x), torchs(x), atol=1e-5)
    assert torch.allclose(own(x[:, :, :5]), own(x)[:, :, :5], atol=1e-6)


@pytest.mark.parametrize("name", ["dla34", "rt_r50"])
def test_a_float32_step_has_the_gradient_of_float64(name):
    model = random_model(thin(name, pyramid_channels=64, bottom_channels=64)).train()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 128, 160, generator=generator)
    masks = torch.zeros(2, 128, 160, dtype=torch.bool)
    masks[0, 15:60, 20:100], masks[1, 45:115, 75:155] = True, True
    boxes = torch.tensor([[20.0, 15, 100, 60], [75, 45, 155, 115]])
    target = Target(boxes, torch.tensor([0, 3]), masks=masks)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        copied = copy.deepcopy(model).to(dtype)
        losses = TrainingStep(copied)([image, image.flip(2)], [target, target])
        parameters = [p for p in copied.parameters() if p.requires_grad]
        own = torch.autograd.grad(sum(losses.values()), parameters)
        gradients.append(torch.stack([each.double().norm() for each in own]))
    exact, found = gradients
    assert found.norm().item() == pytest.approx(exact.norm().item(), rel=2e-3)
    # Single parameters hang on ReLUs that open or close with a rounding; most do not.
    assert ((found - exact).abs() < 2e-3 * exact).float().mean() > 0.9
