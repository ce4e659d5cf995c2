"""Checkpoints of the released code: names, files, recognition, and the table of the zoo."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import CONFIGS, parity_folder
from released import RELEASED_PRESETS, random_model, released_state, thin

from blendmask_lite import PRESETS, BlendMask, load_adelaidet, save_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.web import DownloadError
from blendmask_lite.weights import adelaidet, zoo
from blendmask_lite.weights.adelaidet import DEAD_WEIGHTS, adelaidet_name
from blendmask_lite.weights.zoo import COCO_STUFF, COCO_THINGS

HEAD = "proposal_generator.fcos_head"
# Read in the released code's own state dicts: preset, name, shape.
FACTS = [
    ("r50", "backbone.bottom_up.stem.conv1.weight", (64, 3, 7, 7)),
    ("r50", "backbone.bottom_up.stem.conv1.norm.weight", (64,)),
    ("r50", "backbone.bottom_up.res3.0.conv1.weight", (128, 256, 1, 1)),
    ("r50", "backbone.bottom_up.res3.0.conv1.norm.running_mean", (128,)),
    ("r50", "backbone.bottom_up.res3.0.conv2.weight", (128, 128, 3, 3)),
    ("r50", "backbone.bottom_up.res3.0.conv3.weight", (512, 128, 1, 1)),
    ("r50", "backbone.bottom_up.res3.0.shortcut.weight", (512, 256, 1, 1)),
    ("r50", "backbone.bottom_up.res3.0.shortcut.norm.bias", (512,)),
    ("r50", "backbone.fpn_lateral3.weight", (256, 512, 1, 1)),
    ("r50", "backbone.fpn_lateral5.weight", (256, 2048, 1, 1)),
    ("r50", "backbone.fpn_output3.bias", (256,)),
    ("r50", "backbone.top_block.p6.weight", (256, 256, 3, 3)),
    ("r50", "backbone.top_block.p7.weight", (256, 256, 3, 3)),
    ("r50", f"{HEAD}.cls_tower.0.weight", (256, 256, 3, 3)),
    ("r50", f"{HEAD}.cls_tower.1.weight", (256,)),
    ("r50", f"{HEAD}.bbox_tower.9.weight", (256, 256, 3, 3)),
    ("r50", f"{HEAD}.cls_logits.weight", (80, 256, 3, 3)),
    ("r50", f"{HEAD}.bbox_pred.weight", (4, 256, 3, 3)),
    ("r50", f"{HEAD}.ctrness.weight", (1, 256, 3, 3)),
    ("r50", "top_layer.weight", (784, 256, 3, 3)),
    ("r50", "basis_module.refine.0.0.weight", (128, 256, 3, 3)),
    ("r50", "basis_module.refine.0.1.num_batches_tracked", ()),
    ("r50", "basis_module.tower.2.1.weight", (128,)),
    ("r50", "basis_module.tower.4.0.weight", (128, 128, 3, 3)),
    ("r50", "basis_module.tower.5.weight", (4, 128, 1, 1)),
    ("r50", "basis_module.seg_head.1.running_mean", (128,)),
    ("r50", "basis_module.seg_head.6.weight", (81, 128, 1, 1)),
    ("rt_r50_bn_head", f"{HEAD}.share_tower.0.weight", (256, 256, 3, 3)),
    ("rt_r50_bn_head", f"{HEAD}.share_tower.1.0.weight", (256,)),
    ("rt_r50_bn_head", f"{HEAD}.share_tower.7.2.running_var", (256,)),
    ("rt_r50_bn_head", "backbone.bottom_up.res2.0.conv1.norm.num_batches_tracked", ()),
    ("rt_r50_bn_head", "basis_module.tower.3.0.weight", (128, 128, 3, 3)),
    ("rt_r50_bn_head", "basis_module.tower.4.bias", (4,)),
    ("r50_550", f"{HEAD}.share_tower.3.weight", (256, 256, 3, 3)),
    ("r50_550", "basis_module.tower.4.weight", (4, 128, 1, 1)),
    ("r101_dcni3", "backbone.bottom_up.res3.0.conv2_offset.weight", (27, 128, 3, 3)),
    ("r101_dcni3", "backbone.bottom_up.res3.0.conv2_offset.bias", (27,)),
    ("r101_dcni3", "backbone.bottom_up.res3.0.conv2.weight", (128, 128, 3, 3)),
    ("r101_dcni3", "backbone.bottom_up.res4.21.conv2_offset.weight", (27, 256, 3, 3)),
    ("r101_dcni3", "backbone.bottom_up.res5.0.conv2_offset.weight", (27, 512, 3, 3)),
    ("dla34", "backbone.bottom_up.base_layer.0.weight", (16, 3, 7, 7)),
    ("dla34", "backbone.bottom_up.base_layer.1.num_batches_tracked", ()),
    ("dla34", "backbone.bottom_up.level0.1.weight", (16,)),
    ("dla34", "backbone.bottom_up.level2.tree1.bn1.running_var", (64,)),
    ("dla34", "backbone.bottom_up.level2.root.conv.weight", (64, 128, 1, 1)),
    ("dla34", "backbone.bottom_up.level2.project.0.weight", (64, 32, 1, 1)),
    ("dla34", "backbone.bottom_up.level3.tree1.root.conv.weight", (128, 256, 1, 1)),
    ("dla34", "backbone.bottom_up.level3.tree1.project.0.weight", (128, 64, 1, 1)),
    ("dla34", "backbone.bottom_up.level3.project.0.weight", (128, 64, 1, 1)),
    ("dla34", "backbone.fpn_lateral3.weight", (256, 128, 1, 1)),
    ("panoptic_r50", "panoptic_module.p2.0.weight", (128, 256, 3, 3)),
    ("panoptic_r50", "panoptic_module.p4.2.norm.bias", (128,)),
    ("panoptic_r50", "panoptic_module.p5.4.weight", (128, 128, 3, 3)),
    ("panoptic_r50", "panoptic_module.predictor.weight", (54, 128, 1, 1)),
    ("panoptic_r50", "backbone.fpn_lateral2.weight", (256, 256, 1, 1)),
    ("person_r50", "basis_module.seg_head.6.bias", (2,)),
]


@pytest.fixture(scope="module")
def thin_r50():
    """A narrow r50 and its weights by the released names."""
    model = random_model(thin("r50"))
    return SimpleNamespace(model=model, state=released_state(model))


@pytest.fixture
def presets(monkeypatch, tmp_path):
    """Every preset narrow, so that its files are small; an empty cache and no network."""
    narrow = {name: thin(name) for name in PRESETS}
    monkeypatch.setattr(adelaidet, "PRESETS", narrow)
    monkeypatch.setattr(adelaidet, "PRESETS", narrow)
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    return narrow


def write(tmp_path: Path, content: object, name: str = "weights.pth", **options) -> Path:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path, **options)
    return path


def assert_same_weights(model: BlendMask, wanted: BlendMask) -> None:
    own = wanted.state_dict()
    assert model.state_dict().keys() == own.keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("name", RELEASED_PRESETS)
def test_names_and_shapes_are_the_released_codes(name):
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    state = released_state(model)
    assert None not in state
    assert len(state) == len(model.state_dict())
    shapes = {theirs: tuple(value.shape) for theirs, value in state.items()}
    facts = {theirs: shape for preset, theirs, shape in FACTS if preset == name}
    assert facts.items() <= shapes.items()


@pytest.mark.parametrize("name", RELEASED_PRESETS)
def test_every_released_configuration_is_recognised_and_loaded_bit_by_bit(name, presets, tmp_path):
    model = random_model(presets[name])
    path = write(tmp_path, {"model": released_state(model)})
    loaded = load_adelaidet(path)
    assert loaded.config == presets[name]
    assert loaded.inference == PRESET_INFERENCE[name]
    assert not loaded.training
    assert_same_weights(loaded, model)


def test_a_file_of_the_released_code_itself_is_read():
    path = parity_folder() / "tiny.state_fp16exact.pt"
    model = load_adelaidet(path, CONFIGS["tiny"])
    stored = torch.load(path, weights_only=True)
    key = "backbone.bottom_up.res4.2.conv3.norm.running_var"
    assert model.state_dict()["backbone.layer3.2.bn3.running_var"].equal(stored[key].float())


def test_dead_weights_are_loaded_and_change_nothing(presets, tmp_path):
    model = random_model(presets["dla34"])
    state = released_state(model)
    assert set(DEAD_WEIGHTS) <= set(state)
    image = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))]
    with torch.no_grad():
        before = load_adelaidet(write(tmp_path, state))(image)
        for name in DEAD_WEIGHTS:
            state[name] = torch.zeros_like(state[name]) + 3
        changed = load_adelaidet(write(tmp_path, state))
        after = changed(image)
    assert changed.state_dict()["backbone.level3.project.1.bias"].eq(3).all()
    assert after.features["c5"].equal(before.features["c5"])
    assert after.class_logits.equal(before.class_logits)


# ------------------------------------------------------------------ files


def with_optimizer(state):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() | {"_last_lr": [np.float64(0.1)]},
        "iteration": 89_999,
    }


def with_metadata(state):
    """As `state_dict()` returns it."""
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict({"": {"version": 1}})
    return ordered


FORMS = {
    "model": lambda state: {"model": state},
    "state_dict": lambda state: {"state_dict": state, "epoch": 12},
    "bare": lambda state: state,
    "optimizer": with_optimizer,
    "metadata": lambda state: {"model": with_metadata(state)},
    "several GPUs": lambda state: {"model": {f"module.{n}": v for n, v in state.items()}},
    "parameters": lambda state: {
        n: torch.nn.Parameter(v, requires_grad=v.is_floating_point()) if v.dim() else v
        for n, v in state.items()
    },
    "numpy": lambda state: {"model": {n: v.numpy() for n, v in state.items()}},
    "old spelling": lambda state: {n.replace("ctrness", "centerness"): v for n, v in state.items()},
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["torch 1.6 and newer", "older"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_is_read(form, is_zip, presets, thin_r50, tmp_path):
    content = FORMS[form](thin_r50.state)
    path = write(tmp_path, content, _use_new_zipfile_serialization=is_zip)
    assert_same_weights(load_adelaidet(path), thin_r50.model)


def test_half_precision_becomes_single(presets, thin_r50, tmp_path):
    half = {n: v.half() if v.is_floating_point() else v for n, v in thin_r50.state.items()}
    model = load_adelaidet(write(tmp_path, half))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    name = "backbone.bottom_up.res5.2.conv3.weight"
    own = model.state_dict()["backbone.layer4.2.conv3.weight"]
    assert own.equal(half[name].float())


def test_counters_of_norms_may_be_missing(presets, tmp_path):
    state = released_state(random_model(presets["rt_r50"]))
    without = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    model = load_adelaidet(write(tmp_path, without))
    assert model.backbone.bn1.num_batches_tracked == 0


class Harmful:
    """Runs a command when it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle 0", "pickle 2", "pickle 5"])
def test_a_file_that_would_run_code_is_refused_by_name(kind, thin_r50, tmp_path):
    marker = tmp_path / "code was run"
    content = {"model": thin_r50.state, "hook": Harmful(marker)}
    path = tmp_path / "harmful.pth"
    if kind in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        arrays = {"model": {"conv1_w": np.zeros((2, 2))}, "hook": Harmful(marker)}
        path.write_bytes(pickle.dumps(arrays, int(kind[-1])))
    with pytest.raises(ValueError, match=r"would run code \(\w+\.system\)") as caught:
        load_adelaidet(path)
    assert str(path) in str(caught.value)
    assert not marker.exists()


def test_a_file_cannot_change_its_reader(presets, thin_r50, tmp_path):
    path = tmp_path / "changing.pkl"
    # Names a class, and sets an attribute of it: the second half of a state does that.
    path.write_bytes(b"cnumpy.core.multiarray\nscalar\n(N(dS'__new__'\nNstb.")
    with pytest.raises(ValueError, match="a change of __new__"):
        load_adelaidet(path)
    array = write(tmp_path, {"model": {n: v.numpy() for n, v in thin_r50.state.items()}})
    assert_same_weights(load_adelaidet(array), thin_r50.model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of weights"),
        (b"no weights at all", "not a file of weights"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (pickle.dumps([1, 2]), "holds a list"),
        (pickle.dumps({}), "holds no weights"),
        (pickle.dumps({"model": {"iteration": 3}}), "'iteration' is a int, not a tensor"),
        (pickle.dumps({"a": np.array([None])}), "an array of type 'O8'"),
        (pickle.dumps({"a": np.zeros(2, ">f4")}), "big-endian"),
        (pickle.dumps({"a": np.zeros(2)})[:-20], "damaged"),
    ],
)
def test_other_files_are_refused_with_the_reason(content, message, tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        load_adelaidet(path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_file_that_is_cut_off_is_refused(is_zip, presets, thin_r50, tmp_path):
    path = write(tmp_path, thin_r50.state, _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"not a file of weights, or .*(cut off|damaged)"):
        load_adelaidet(path)


def test_a_flipped_bit_is_noticed(presets, thin_r50, tmp_path):
    path = write(tmp_path, thin_r50.state)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged \(weights/data/\d+ has a wrong check sum\)"):
        load_adelaidet(path)


def test_folders_missing_files_and_checkpoints_of_ours_are_told_apart(thin_r50, tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_adelaidet(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*R_50_3x"):
        load_adelaidet("R_50_4x")
    ours = tmp_path / "ours.pt"
    save_model(thin_r50.model, ours)
    with pytest.raises(ValueError, match=r"ours\.pt: a checkpoint of blendmask_lite; `load_model`"):
        load_adelaidet(ours)


# ------------------------------------------------------------------ what does not fit


def test_left_over_and_missing_tensors_are_listed_by_their_released_names(
    presets, thin_r50, tmp_path
):
    state = dict(thin_r50.state)
    state["backbone.bottom_up.res2.0.conv4.weight"] = torch.zeros(1)
    state["pixel_mean"] = torch.zeros(3)
    del state[f"{HEAD}.ctrness.bias"], state["basis_module.tower.5.bias"]
    with pytest.raises(ValueError) as caught:
        load_adelaidet(write(tmp_path, state))
    message = str(caught.value)
    assert "2 tensors left over: backbone.bottom_up.res2.0.conv4.weight, pixel_mean" in message
    assert f"2 tensors missing: {HEAD}.ctrness.bias, basis_module.tower.5.bias" in message


def test_of_many_the_first_twenty_and_the_number_are_listed(presets, thin_r50, tmp_path):
    missing = [name for name in thin_r50.state if ".res3." in name and "conv" in name]
    state = {name: value for name, value in thin_r50.state.items() if name not in missing}
    with pytest.raises(ValueError) as caught:
        load_adelaidet(write(tmp_path, state))
    message = str(caught.value)
    assert len(missing) == 60
    assert "60 tensors missing" in message and message.endswith(" and 40 more")
    assert all(name in message for name in missing[:20])
    assert missing[20] not in message


def test_two_tensors_for_one_place_are_refused(presets, thin_r50, tmp_path):
    old = f"{HEAD}.centerness.weight"
    state = thin_r50.state | {old: thin_r50.state[f"{HEAD}.ctrness.weight"]}
    with pytest.raises(ValueError, match=f"weights have {old} beside {HEAD}.ctrness.weight"):
        load_adelaidet(write(tmp_path, state))


def test_another_shape_is_named_with_both(presets, thin_r50, tmp_path):
    state = thin_r50.state | {"top_layer.bias": torch.zeros(785)}
    with pytest.raises(ValueError, match=r"top_layer\.bias \(785,\) instead of \(784,\)"):
        load_adelaidet(write(tmp_path, state))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("top_layer.bias", lambda v: v / 0, "with infinite or undefined values: top_layer.bias"),
        (
            "top_layer.bias",
            torch.Tensor.long,
            "of another type: top_layer.bias torch.int64 instead",
        ),
        ("top_layer.bias", lambda v: v > 0, "of another type: top_layer.bias torch.bool instead"),
        ("top_layer.bias", lambda v: v * 1j, "of another type: top_layer.bias torch.complex64"),
        (
            "basis_module.tower.0.1.running_var",
            torch.Tensor.neg,
            "with negative variances: basis_module.tower.0.1.running_var",
        ),
    ],
)
def test_tensors_that_cannot_be_weights_are_named(
    name, change, words, is_zip, presets, thin_r50, tmp_path
):
    state = thin_r50.state | {name: change(thin_r50.state[name])}
    path = write(tmp_path, state, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_adelaidet(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_small_file_does_not_ask_for_much_memory(is_zip, presets, thin_r50, tmp_path):
    kernel = torch.zeros(1, 8, 3, 3).expand(100_000, -1, -1, -1)
    state = {name: value for name, value in thin_r50.state.items() if "res5" not in name}
    state[f"{HEAD}.cls_logits.weight"] = kernel
    path = write(tmp_path, state, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"cls_logits\.weight declares 28,800,000 bytes, the file"):
        load_adelaidet(path)
    content = {"model": thin_r50.state, "optimizer": bytearray(10)}
    path = write(tmp_path, content, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"refused, .* \(bytearray\)"):
        load_adelaidet(path)


def test_dictionaries_that_hold_each_other_are_not_walked(thin_r50, tmp_path):
    nested: dict = {}
    for _ in range(100):
        nested = {"a": nested, "b": nested}
    path = tmp_path / "nested.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": nested}}))
    with pytest.raises(ValueError, match="'a' is a dict, not a tensor"):
        load_adelaidet(path)


def test_a_preset_that_disagrees_is_refused_with_the_difference(presets, thin_r50, tmp_path):
    path = write(tmp_path, thin_r50.state)
    with pytest.raises(ValueError, match="backbone is 'resnet50', not 'resnet101'") as caught:
        load_adelaidet(path, "r101")
    assert str(caught.value).startswith(f"{path}: not preset r101")
    assert "preset r50 is built so" in str(caught.value)
    with pytest.raises(ValueError, match="there is no panoptic branch"):
        load_adelaidet(path, "panoptic_r50")
    with pytest.raises(ValueError, match=r"levels is .*num_shared_convs is 0, not 3"):
        load_adelaidet(path, "r50_550")
    with pytest.raises(ValueError, match="bottom is 'proto_fpn', not 'deeplab'"):
        load_adelaidet(path, "r50_paper")
    with pytest.raises(ValueError, match="preset 'r52': must be one of"):
        load_adelaidet(path, "r52")


def test_weights_of_another_network_are_refused(tmp_path):
    path = write(tmp_path, {"backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7)})
    with pytest.raises(ValueError, match=r"not AdelaiDet's BlendMask: .*basis_module"):
        load_adelaidet(path)


def test_an_unknown_architecture_needs_a_config(presets, tmp_path):
    config = thin("r50", num_class_convs=2, num_box_convs=3)
    model = random_model(config)
    path = write(tmp_path, released_state(model))
    with pytest.raises(ValueError, match=r"no preset is built so: .*num_box_convs 3"):
        load_adelaidet(path)
    assert_same_weights(load_adelaidet(path, config), model)


# ------------------------------------------------------------------ own data


def test_class_names_follow_the_number_of_classes(presets, tmp_path):
    assert load_adelaidet(
        write(tmp_path, released_state(random_model(presets["r50"])))
    ).class_names == (COCO_THINGS)
    three = replace(presets["r50"], num_classes=3)
    path = write(tmp_path, released_state(random_model(three)))
    model = load_adelaidet(path)
    assert model.config == three
    assert model.class_names == ("class 0", "class 1", "class 2")
    named = load_adelaidet(path, "r50", class_names=["cat", "dog", "cow"])
    assert named.class_names == ("cat", "dog", "cow")
    with pytest.raises(ValueError, match="class_names: 1 names for num_classes = 3"):
        load_adelaidet(path, class_names=["cat"])


def test_one_class_is_a_person_unless_told_otherwise(presets, tmp_path):
    path = write(tmp_path, released_state(random_model(presets["person_r50"])))
    assert load_adelaidet(path).class_names == ("person",)
    assert load_adelaidet(path, "r50").class_names == ("class 0",)
    assert load_adelaidet(path, class_names=["cell"]).class_names == ("cell",)


def test_stuff_has_cocos_names_or_numbers(presets, tmp_path):
    path = write(tmp_path, released_state(random_model(presets["panoptic_r50"])))
    assert load_adelaidet(path).stuff_names == COCO_STUFF
    own = replace(presets["panoptic_r50"], num_stuff_classes=2)
    path = write(tmp_path, released_state(random_model(own)))
    assert load_adelaidet(path).config == own
    assert load_adelaidet(path).stuff_names == ("stuff 1", "stuff 2")
    assert load_adelaidet(path, stuff_names=["sky", "sea"]).stuff_names == ("sky", "sea")


def test_a_training_without_the_semantic_loss_has_no_such_head(presets, thin_r50, tmp_path):
    state = {n: v for n, v in thin_r50.state.items() if not n.startswith("basis_module.seg_head")}
    model = load_adelaidet(write(tmp_path, state))
    assert model.config == replace(presets["r50"], semantic_weight=0.0)
    assert model.semantic_head is None


def test_coco_has_80_kinds_of_things_and_53_of_stuff():
    assert (len(COCO_THINGS), len(set(COCO_THINGS))) == (80, 80)
    assert (len(COCO_STUFF), len(set(COCO_STUFF))) == (53, 53)
    assert COCO_THINGS[0] == "person" and COCO_THINGS[61] == "toilet"
    assert COCO_THINGS[-1] == "toothbrush"
    assert COCO_STUFF[0] == "banner" and COCO_STUFF[-1] == "rug-merged"


@pytest.mark.skipif(
    "BLENDMASK_COCO" not in os.environ,
    reason="BLENDMASK_COCO names no COCO folder with the train2017 and val2017 splits",
)
def test_coco_names_are_those_of_the_annotations_at_hand():
    file = Path(os.environ["BLENDMASK_COCO"]) / "annotations" / "panoptic_val2017.json"
    categories = json.loads(file.read_text())["categories"]
    assert tuple(each["name"] for each in categories if each["isthing"]) == COCO_THINGS
    assert tuple(each["name"] for each in categories if not each["isthing"]) == COCO_STUFF


# ------------------------------------------------------------------ the table


def test_the_table_is_the_model_zoos():
    rows = {e.name: (e.preset, e.box_ap, e.mask_ap, e.pq, e.fps) for e in zoo.PUBLISHED.values()}
    assert rows == {
        "R_50_1x": ("r50", 39.9, 35.8, None, 14),
        "R_50_3x": ("r50", 42.7, 37.8, None, 14),
        "R_101_3x": ("r101", 44.8, 39.5, None, 11),
        "R_101_dcni3_5x": ("r101_dcni3", 46.8, 41.1, None, 10),
        "550_R_50_3x": ("r50_550", 38.7, 34.5, None, 28),
        "RT_R_50_4x_syncbn_shtw": ("rt_r50", 39.3, 35.1, None, 31),
        "RT_R_50_4x_bn-head_syncbn_shtw": ("rt_r50_bn_head", 39.3, 35.1, None, 31),
        "DLA_34_4x": ("dla34", 40.8, 36.3, None, 32),
        "Panoptic/R_50_3x": ("panoptic_r50", None, None, 42.5, None),
        "Panoptic/R_101_3x": ("panoptic_r101", None, None, 44.3, None),
        "Panoptic/R_101_dcni3_5x": ("panoptic_r101_dcni3", None, None, 46.0, None),
        "Person/R_50_1x": ("person_r50", 70.6, 66.7, None, None),
    }
    url = "https://huggingface.co/ZjuCv/AdelaiDet/resolve/main"
    assert zoo.PUBLISHED["R_101_3x"].url == f"{url}/R_101_3x.pth"
    assert zoo.PUBLISHED["DLA_34_4x"].url == f"{url}/DLA_34_syncbn_4x.pth"


def test_a_name_is_read_from_the_cache_also_offline(presets, thin_r50, tmp_path):
    with pytest.raises(DownloadError, match="BLENDMASK_OFFLINE is set") as caught:
        load_adelaidet("R_50_3x")
    place = tmp_path / "cache" / "R_50_3x.pth"
    assert str(place) in str(caught.value)
    write(tmp_path / "cache", thin_r50.state, "R_50_3x.pth")
    assert_same_weights(load_adelaidet("R_50_3x"), thin_r50.model)
    assert place.with_name("R_50_3x.pth.sha256").exists()
    place.write_bytes(place.read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the file of its first use"):
        load_adelaidet("R_50_3x")


def test_a_name_may_be_that_of_the_file(presets, tmp_path):
    model = random_model(presets["dla34"])
    write(tmp_path / "cache", released_state(model), "DLA_34_syncbn_4x.pth")
    assert load_adelaidet("DLA_34_4x").config == presets["dla34"]
    assert load_adelaidet("DLA_34_syncbn_4x").config == presets["dla34"]


def test_an_instance_model_behind_a_panoptic_link_is_explained(presets, thin_r50, tmp_path):
    write(tmp_path / "cache", thin_r50.state, "R_50_3x.pth")
    with pytest.raises(ValueError, match="there is no panoptic branch") as caught:
        load_adelaidet("Panoptic/R_50_3x")
    assert "one link for Panoptic/R_50_3x and R_50_3x" in str(caught.value)
    model = random_model(presets["panoptic_r50"])
    write(tmp_path / "cache", released_state(model), "Panoptic_R_50_3x.pth")
    assert_same_weights(load_adelaidet("Panoptic/R_50_3x"), model)
    assert_same_weights(load_adelaidet("R_50_3x"), thin_r50.model)


def test_a_model_without_a_link_can_be_put_into_the_cache(presets, tmp_path):
    with pytest.raises(DownloadError, match="no link to the file is left") as caught:
        load_adelaidet("Person/R_50_1x")
    assert str(tmp_path / "cache" / "Person_R_50_1x.pth") in str(caught.value)
    model = random_model(presets["person_r50"])
    write(tmp_path / "cache", released_state(model), "Person_R_50_1x.pth")
    assert load_adelaidet("Person/R_50_1x").class_names == ("person",)


def test_urls_have_files_of_their_own_in_the_cache(presets):
    with pytest.raises(DownloadError) as caught:
        load_adelaidet("https://a.example/model_final.pth")
    with pytest.raises(DownloadError) as other:
        load_adelaidet("https://b.example/model_final.pth")
    places = {str(each.value).rpartition("put it at ")[2] for each in (caught, other)}
    assert len(places) == 2
    assert all(place.endswith("_model_final.pth") for place in places)


def test_the_page_of_a_file_leads_to_the_file(presets, thin_r50, tmp_path):
    write(tmp_path / "cache", thin_r50.state, "R_50_1x.pth")
    page = "https://huggingface.co/ZjuCv/AdelaiDet/blob/main/R_50_1x.pth"
    assert_same_weights(load_adelaidet(page), thin_r50.model)


def test_unknown_names_have_no_place():
    assert adelaidet_name("roi_heads.box_head.fc1.weight", num_bottom_convs=3) is None


def test_the_model_card_has_the_table():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    table = page[page.index("| name | configuration |") : page.index("`Person/R_50_1x`") + 200]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, flags=re.MULTILINE)
    assert [name for name, _ in rows] == list(zoo.PUBLISHED)
    for name, cells in rows:
        published = zoo.PUBLISHED[name]
        with torch.device("meta"):
            model = BlendMask(PRESETS[published.preset])
        millions = sum(each.numel() for each in model.parameters()) / 1e6
        numbers = [published.box_ap, published.mask_ap, published.pq, published.fps]
        wanted = ["" if each is None else str(each) for each in numbers]
        _, preset, parameters, *shown, file = [cell.strip() for cell in cells.split("|")]
        assert (preset, parameters) == (f"`{published.preset}`", f"{millions:.2f}")
        assert shown == wanted
        assert "no link is left" in file if published.url is None else published.url in file
    for preset in RELEASED_PRESETS:
        assert f"`{preset}`" in page
