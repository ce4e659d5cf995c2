"""Models with parts of one's own, and backbones out of timm and torchvision, carried everywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from blendmask_lite import PRESETS, BlendMask, MaskHead, load_model, save_model
from blendmask_lite.cli import main
from blendmask_lite.config import OWN_BACKBONES, PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.lab import Explorer
from blendmask_lite.model.backbones import BACKBONES
from blendmask_lite.model.layers import synchronize_norms
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale
from blendmask_lite.weights.export import export_program
from blendmask_lite.weights.imagenet import load_backbone_weights

NANO = replace(
    PRESETS["nano"], pyramid_channels=16, bottom_channels=16, semantic_channels=16, num_classes=8
)
SHAPES = ShapesDataset(4, config=ShapesConfig(size=96))


class Strides(nn.Module):
    """A backbone of four convolutions."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.channels = {f"c{level}": width * level for level in range(2, 6)}
        self.first = nn.Conv2d(3, 2 * width, 4, stride=4)
        self.rest = nn.ModuleList(
            nn.Conv2d(width * level, width * (level + 1), 2, stride=2) for level in range(2, 5)
        )

    def forward(self, images):
        maps = {"c2": self.first(images)}
        for level, conv in enumerate(self.rest, start=3):
            maps[f"c{level}"] = conv(F.relu(maps[f"c{level - 1}"]))
        return maps


class Pixels(nn.Module):
    """A bottom module that reads c2 and p3."""

    inputs = ("c2", "p3")
    stride = 4

    def __init__(self, *channels: int, num_bases: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(number, num_bases, 1) for number in channels)

    def forward(self, features):
        fine, coarse = (
            conv(features[name]) for conv, name in zip(self.convs, self.inputs, strict=True)
        )
        return fine + F.interpolate(coarse, size=fine.shape[-2:])


class Product(nn.Module):
    """A merger with a learned scale and without score maps."""

    attention_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 4)

    def forward(self, crops, attentions):
        return (crops * self.mix(attentions)[:, :, None, None]).sum(dim=1)


def own_parts():
    return {"backbone": Strides(), "bottom": Pixels(16, 16), "merger": Product()}


def trained(folder, **parts):
    torch.manual_seed(0)
    model = BlendMask(NANO, **parts)
    schedule = rescale(TRAIN_PRESETS["nano"], iterations=2, batch_size=2)
    schedule = replace(schedule, train_sizes=(96,), max_size=160, evaluate_every=None)
    recipe = Recipe(model=NANO, inference=PRESET_INFERENCE["nano"], train=schedule)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert train_model(SHAPES, folder, recipe, model=model)
    return before, model


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    before, model = trained(folder / "run", **own_parts())
    return folder / "run", before, model


def test_a_model_of_own_parts_is_trained_as_it_was_passed(own_model):
    _, before, model = own_model
    after = model.state_dict()
    for name in ("backbone.first.weight", "bottom.convs.0.weight", "merger.mix.weight"):
        assert not torch.equal(before[name], after[name])
    assert model.class_names == SHAPES.class_names


def test_a_checkpoint_names_the_parts_that_it_needs(own_model):
    folder, _, model = own_model
    with pytest.raises(ValueError, match=r"a backbone of its own, .*Strides: pass it"):
        load_model(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"a merger of its own, .*Product"):
        load_model(folder / "model.safetensors", backbone=Strides(), bottom=Pixels(16, 16))
    again = load_model(folder / "model.safetensors", **own_parts())
    image = SHAPES.load(0).image
    model.eval()
    for one, other in zip(model.predict([image]), again.predict([image]), strict=True):
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.masks, other.masks)


def test_a_part_that_the_checkpoint_did_not_have_is_refused(tmp_path):
    save_model(BlendMask(NANO), tmp_path / "plain.pt")
    with pytest.raises(ValueError, match=r"plain.pt: merger: the model has the merger of"):
        load_model(tmp_path / "plain.pt", merger=Product())


def test_a_part_of_other_sizes_is_refused_by_its_weights(own_model):
    folder, _, _ = own_model
    with pytest.raises(ValueError, match=r"bottom.convs.0.weight \(4, 16, 1, 1\) instead of"):
        load_model(
            folder / "model.safetensors", **{**own_parts(), "bottom": Pixels(16, 16, num_bases=5)}
        )


def test_a_run_does_not_continue_with_other_parts(own_model):
    folder, _, _ = own_model
    schedule = replace(
        rescale(TRAIN_PRESETS["nano"], iterations=3, batch_size=2),
        train_sizes=(96,),
        max_size=160,
        evaluate_every=None,
    )
    recipe = Recipe(model=NANO, inference=PRESET_INFERENCE["nano"], train=schedule)
    other = BlendMask(NANO, backbone=Strides(), bottom=Pixels(16, 16))
    with pytest.raises(ValueError, match="cannot continue with other parts"):
        train_model(SHAPES, folder, recipe, model=other, is_resumed=True)


def test_a_model_of_another_config_than_the_recipe_is_not_trained(tmp_path):
    recipe = Recipe(
        model=NANO,
        inference=PRESET_INFERENCE["nano"],
        train=rescale(TRAIN_PRESETS["nano"], iterations=2, batch_size=2),
    )
    with pytest.raises(ValueError, match="its config is not the recipe's"):
        train_model(SHAPES, tmp_path / "run", recipe, model=BlendMask(PRESETS["nano"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_model_of_own_parts_is_evaluated_exported_and_explored(own_model):
    _, _, model = own_model
    model.eval()
    assert evaluate_model(model, SHAPES).mask["AP"] >= 0
    program = export_program(model)
    image = torch.rand(3, 130, 150)
    with torch.no_grad():
        _, scores, _, masks = program.module()(image)
    proposals = model.detect(model([image]))[0]
    assert len(scores) <= len(proposals) and masks.shape[1:] == (28, 28)
    assert torch.allclose(scores, proposals.scores[: len(scores)], atol=1e-5)
    explorer = Explorer(model=model, image=SHAPES.load(0).image)
    explorer.close()


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("backbone", nn.Conv2d(3, 8, 1), "backbone: Conv2d.channels = None"),
        ("bottom", nn.Conv2d(3, 8, 1), r"bottom: Conv2d.inputs = None: must name maps"),
        ("merger", nn.Identity(), "merger: Identity.attention_channels = None"),
    ],
)
def test_a_part_without_its_attributes_is_refused_by_name(name, part, message):
    with pytest.raises(ValueError, match=message):
        BlendMask(NANO, **{name: part})


def test_a_backbone_without_the_map_below_the_lowest_level_is_refused():
    backbone = Strides()
    del backbone.channels["c2"]
    with pytest.raises(ValueError, match="backbone: gives no c2"):
        BlendMask(NANO, backbone=backbone)


def test_names_of_own_backbones_and_their_builders_agree():
    assert tuple(BACKBONES) == OWN_BACKBONES


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_convnext", "torchvision/resnet18"])
def test_a_backbone_of_a_library_gives_maps_at_the_strides(name):
    model = BlendMask(replace(NANO, backbone=name)).eval()
    features = model([torch.rand(3, 70, 90)]).features  # padded to 96 x 96
    for level, stride in {"c2": 4, "c3": 8, "c4": 16, "c5": 32}.items():
        assert features[level].shape[2:] == (96 // stride, 96 // stride)
        assert features[level].shape[1] == model.backbone.channels[level]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/convnext_tny", "timm has no such network; close to it are convnext_tiny"),
        ("torchvision/fasterrcnn_resnet50_fpn", "torchvision has no such network"),
        ("torchvision/swin_t", "it has no map for c2"),
        ("timm/vit_tiny_patch16_224", "timm/vit_tiny_patch16_224: "),
    ],
)
def test_a_network_that_cannot_be_a_backbone_is_refused_by_name(name, message):
    with pytest.raises(ValueError, match=message):
        BlendMask(replace(NANO, backbone=name))


@pytest.mark.parametrize("name", ["timm/", "somewhere.else.Net", "resnet51"])
def test_an_unknown_backbone_is_refused_by_the_config(name):
    with pytest.raises(ValueError, match=r"backbone = .*: must be one of small, .*timm/NAME"):
        replace(NANO, backbone=name)


def test_frozen_norms_and_stages_of_a_library_stay_as_they_are():
    config = replace(
        NANO, backbone="torchvision/resnet18", backbone_norm="frozen_bn", frozen_stages=3
    )
    model = BlendMask(config).train()
    body = model.backbone.body
    frozen = {name for name, each in body.named_parameters() if not each.requires_grad}
    assert {name.split(".")[0] for name in frozen if "conv" in name} == {
        "conv1",
        "layer1",
        "layer2",
    }
    assert "layer3.0.conv1.weight" not in frozen and "layer3.0.bn1.weight" in frozen
    before = body.get_submodule("layer4.0.bn1").running_mean.clone()
    model([SHAPES.load(0).image])
    assert torch.equal(body.get_submodule("layer4.0.bn1").running_mean, before)


def test_stages_of_a_library_are_frozen_where_gradients_are_switched_off():
    config = replace(NANO, backbone="torchvision/resnet18", frozen_stages=2)
    with torch.no_grad():
        body = BlendMask(config).backbone.body
    assert not body.get_parameter("layer1.0.conv1.weight").requires_grad
    assert body.get_parameter("layer2.0.conv1.weight").requires_grad


def test_norms_with_an_activation_inside_are_not_synchronised():
    plain = BlendMask(replace(NANO, backbone="torchvision/resnet18"))
    synchronize_norms(plain)
    assert isinstance(plain.backbone.body.get_submodule("bn1"), torch.nn.SyncBatchNorm)
    with pytest.raises(ValueError, match="BatchNormAct2d: cannot be synchronised"):
        synchronize_norms(BlendMask(replace(NANO, backbone="timm/test_efficientnet")))


def test_a_part_without_children_stands_in_for_the_configs():
    class Nothing(nn.ModuleList):
        attention_channels = 0

        def forward(self, crops, attentions):
            return crops.sum(dim=1)

    assert not Nothing()  # an empty list, though a module
    assert isinstance(BlendMask(NANO, merger=Nothing()).merger, Nothing)


def test_every_parameter_of_a_library_backbone_learns():
    model = BlendMask(replace(NANO, backbone="timm/test_convnext")).train()
    output = model([torch.rand(3, 64, 64)])
    sum(each.square().sum() for each in output.features.values()).backward()
    without = [name for name, each in model.backbone.named_parameters() if each.grad is None]
    assert without == []


@pytest.mark.slow
def test_the_command_line_trains_evaluates_and_exports_a_library_backbone(tmp_path, capsys):
    run, data = tmp_path / "run", tmp_path / "shapes"
    assert main(["shapes", str(data), "--images", "4", "--size", "128"]) == 0
    words = ["train", str(data), "-o", str(run), "--backbone", "timm/test_resnet"]
    words += ["--iterations", "2", "--batch-size", "2", "--size", "128"]
    assert main(words) == 0
    model = load_model(run / "model.safetensors")
    assert model.config.backbone == "timm/test_resnet" and model.own_parts == {}
    assert main(["evaluate", str(run / "model.safetensors"), str(data)]) == 0
    assert main(["export", str(run / "model.safetensors"), "-o", str(tmp_path / "model.pt2")]) == 0
    assert (tmp_path / "model.pt2").exists()


def test_weights_of_a_library_backbone_come_from_a_file(tmp_path):
    torch.manual_seed(1)
    trained = torchvision.models.resnet18(weights=None)
    torch.save(trained.state_dict(), tmp_path / "resnet18.pth")
    model = BlendMask(replace(NANO, backbone="torchvision/resnet18"))
    load_backbone_weights(model, tmp_path / "resnet18.pth")
    own = model.backbone.body.state_dict()
    assert all(torch.equal(own[name], trained.state_dict()[name]) for name in own)
    assert "fc.weight" not in own


def test_weights_of_a_timm_backbone_come_from_a_file_by_timms_own_names(tmp_path):
    trained = timm.create_model("test_convnext")
    torch.save(trained.state_dict(), tmp_path / "test_convnext.pth")
    config = replace(NANO, backbone="timm/test_convnext")
    if timm.get_pretrained_cfg("test_convnext").mean == (0.5, 0.5, 0.5):
        half = (127.5, 127.5, 127.5)
        config = replace(config, pixel_mean=half, pixel_std=half)
    model = BlendMask(config)
    load_backbone_weights(model, tmp_path / "test_convnext.pth")
    assert torch.equal(model.backbone.body.stem_0.weight, trained.stem[0].weight)


def test_weights_for_other_images_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    config = replace(NANO, backbone="torchvision/resnet18", pixel_std=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"pixel_std = .*the weights of torchvision/resnet18"):
        load_backbone_weights(BlendMask(config), tmp_path / "resnet18.pth")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    model = BlendMask(replace(NANO, backbone="torchvision/resnet50"))
    with pytest.raises(ValueError, match=r"resnet34.pth for torchvision/resnet50: these weights"):
        load_backbone_weights(model, tmp_path / "resnet34.pth")


def test_a_mask_head_needs_a_top_layer_where_the_merger_has_attentions():
    with pytest.raises(ValueError, match="top_layer = None: Blender needs 196 attentions"):
        MaskHead(Pixels(16, 16), None, Blender(num_bases=4, attention_size=7))


def test_the_examples_of_the_guide_run(tmp_path, monkeypatch):
    guide = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    section = guide.split("## Parts of your own, and other detectors")[1]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "guide"}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3 and names["masks"].shape == (2, 128, 128)
    assert "guide.SmallBackbone" in names["model"].own_parts["backbone"]
    assert (tmp_path / "runs" / "mine" / "model.safetensors").exists()


def test_any_module_can_be_the_top_layer_of_a_mask_head():
    linear = nn.Linear(5, 3)
    features = torch.rand(2, 5)  # of two objects of some detector
    head = MaskHead(Pixels(16, 16), linear, Product(), mask_size=7)
    assert torch.equal(head.attentions(features), linear(features))
    bases = head.bases({"c2": torch.rand(1, 16, 24, 24), "p3": torch.rand(1, 16, 12, 12)})
    boxes = torch.tensor([[5.0, 5.0, 60.0, 40.0], [20.0, 10.0, 80.0, 90.0]])
    masks = head(bases, head.attentions(features), torch.zeros(2, dtype=torch.int64), boxes)
    assert masks.shape == (2, 7, 7)
    none = MaskHead(Pixels(16, 16), None, Assembler(num_bases=4))
    assert none.attentions(features).shape == (2, 0)


def test_the_mask_head_of_a_model_makes_the_models_masks():
    model = BlendMask(NANO).eval()
    head = model.mask_head
    image = SHAPES.load(0).image
    output = model([image])
    index = torch.tensor([[0, 3], [0, 40]])
    boxes = torch.tensor([[5.0, 5.0, 60.0, 40.0], [20.0, 10.0, 80.0, 90.0]])
    attentions = head.attentions(output.box_features, index)
    masks = head(head.bases(output.features), attentions, index[:, 0], boxes)
    assert torch.equal(masks, model.masks_at(output, index, boxes))
    assert "mask_head" not in {name.split(".")[0] for name in model.state_dict()}


def test_another_merger_needs_other_attentions_than_the_config():
    model = BlendMask(NANO, merger=WeightedSum(num_bases=4))
    assert model.top_layer.conv.out_channels == 4
    assert model.masks_at(
        model([torch.rand(3, 64, 64)]), torch.zeros(1, 2, dtype=torch.long), torch.rand(1, 4)
    ).shape == (1, 28, 28)
