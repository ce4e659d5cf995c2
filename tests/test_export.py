"""The network as one graph: torch.export, ONNX Runtime, and a GPU that is only pretended."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from released import thin
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from blendmask_lite import (
    PRESETS,
    BlendMask,
    InferenceConfig,
    Target,
    load_model,
    shipped_checkpoint,
)
from blendmask_lite.boxes import clip_boxes
from blendmask_lite.cli import main
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.backbones import dla, efficientnet_lite, resnet
from blendmask_lite.model.layers import DeformConv2d
from blendmask_lite.model.merge import WeightedSum, crop_bases
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.weights import export
from blendmask_lite.weights.checkpoint import save_model
from blendmask_lite.weights.export import Deployed, Explorable, export_program, smallest_side

DEPTHS_OF_PARTS = ("num_shared_convs", "num_class_convs", "num_box_convs", "num_bottom_convs")
INFERENCE = InferenceConfig(score_threshold=0.01, max_detections=20)


def thin_and_shallow(name, **changes):
    """A block or a convolution more of the same kind adds nothing to a graph but time."""
    config = PRESETS[name]
    depths = {part: min(getattr(config, part), 1) for part in DEPTHS_OF_PARTS}
    backbone = config.backbone.replace("resnet101", "resnet50")
    return thin(name, num_classes=5, backbone=backbone, **depths | changes)


@pytest.fixture(scope="module", autouse=True)
def shallow_backbones():
    """Each stage keeps a block, and one stage a second."""
    stages = [
        (*stage[:2], 2 if number == 1 else 1, *stage[3:])
        for number, stage in enumerate(efficientnet_lite.STAGES)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, 50, (1, 2, 1, 1))
        patch.setitem(dla.DEPTHS, 4, 1)
        patch.setattr(efficientnet_lite, "STAGES", tuple(stages))
        patch.setattr(efficientnet_lite, "LAST_BLOCK", {"c2": 2, "c3": 3, "c4": 5, "c5": 7})
        yield


# Every choice that some preset makes is made by one of these: the test below holds them to it.
CONFIGS = {
    "nano": thin_and_shallow("nano"),
    "photos": thin_and_shallow("photos", bottom_inputs=("p3", "p5")),
    "dla34": thin_and_shallow(
        "dla34",
        head_norm="bn_per_level",
        levels=PRESETS["r50"].levels,
        size_limits=PRESETS["r50"].size_limits,
        num_shared_convs=1,
        num_class_convs=0,
        num_box_convs=0,
    ),
    "panoptic_r50_dcni3": thin_and_shallow(
        "panoptic_r50_dcni3",
        levels=PRESETS["r50_550"].levels,
        size_limits=PRESETS["r50_550"].size_limits,
    ),
}
# Numbers that enter no operation of the graph but as constants.
CONSTANTS = {"size_limits", "pixel_mean", "pixel_std", "num_stuff_classes"}


def make_model(name):
    """One whose random weights find objects of different scores, and deform."""
    torch.manual_seed(4)  # finds some with every architecture
    model = BlendMask(CONFIGS[name], inference=INFERENCE)
    with torch.no_grad():
        model.head.class_logits.weight *= 20  # scores far enough apart to be sorted alike
        for module in model.head.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # as if it had seen such large features
                module.running_var.fill_(1e4)
    for module in model.modules():
        if isinstance(module, DeformConv2d):  # by about a pixel; features without norms are large
            torch.nn.init.normal_(module.offset.weight, std=1e-5)
            torch.nn.init.uniform_(module.offset.bias, -1, 1)
    return model.eval()


def image(height, width, seed=1):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


@cache
def exported(name):
    """A model and its program; both stay as they are."""
    model = make_model(name)
    return model, export_program(model)


@pytest.fixture(scope="module")
def open_session(tmp_path_factory):
    """Opens the ONNX file of a preset, which is written once."""
    folder = tmp_path_factory.mktemp("onnx")

    @cache
    def open_session(name):
        model, program = exported(name)
        with pytest.MonkeyPatch.context() as patch:  # takes as long as all that comes after it
            patch.setattr(export, "export_program", lambda *_, **__: program)
            export.export_onnx(model, folder / f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(folder / f"{name}.onnx", options)

    return open_session


def choices(config):
    """(field, value) of all that shapes the graph of a model."""
    made = {
        (field.name, getattr(config, field.name))
        for field in fields(config)
        if field.name not in CONSTANTS
    }
    return made | {("has stuff", config.num_stuff_classes > 0)}


def test_every_choice_of_a_preset_is_in_a_model_that_is_exported():
    presets = map(thin_and_shallow, PRESETS)
    assert set().union(*map(choices, presets)) <= set().union(*map(choices, CONFIGS.values()))


# The file of nano is compared in test_quantization.py, where it is written anyway.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "nano"])
def test_every_architecture_finds_the_same_in_onnx_runtime(name, open_session):
    model, session = exported(name)[0], open_session(name)
    least, num_found = smallest_side(model), 0
    for size in ((least, least + 70), (3 * least - 5, 2 * least + 1)):  # none is the example's
        picture = image(*size)
        wanted = model.predict([picture])[0]
        num_found += len(wanted)
        found = session.run(None, {"image": picture.numpy()})
        order = partners(found, wanted)  # scores that differ in rounding may change places
        boxes, scores, labels, masks = (values[order] for values in found)
        np.testing.assert_array_equal(labels, wanted.labels)
        np.testing.assert_allclose(scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(boxes, wanted.boxes, atol=5e-3)
        np.testing.assert_allclose(masks, wanted.mask_logits.sigmoid(), atol=2e-3)
    assert num_found > 5


def partners(found, wanted):
    """(N,) for each wanted detection the one found with its label and the nearest box."""
    boxes, scores, labels, _ = found
    assert len(boxes) == len(wanted)
    if len(boxes) == 0:
        return np.arange(0)
    assert (np.diff(scores) <= 1e-4).all()
    apart = np.abs(boxes[:, None] - wanted.boxes.numpy()).max(axis=2)
    order = np.where(labels[:, None] == wanted.labels.numpy(), apart, np.inf).argmin(axis=0)
    assert sorted(order) == list(range(len(order)))
    return order


QUICK = ("nano",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS]
)
def test_an_exported_program_finds_what_predict_finds(name):
    model, program = exported(name)
    least, num_found = smallest_side(model), 0
    for size in ((least, least), (2 * least + 9, 4 * least - 3)):
        picture = image(*size)
        wanted = model.predict([picture])[0]
        num_found += len(wanted)
        boxes, scores, labels, masks = program.module()(picture)
        assert labels.equal(wanted.labels)
        torch.testing.assert_close(scores, wanted.scores)
        torch.testing.assert_close(boxes, wanted.boxes)
        torch.testing.assert_close(masks, wanted.mask_logits.sigmoid())
    assert num_found >= 5


@pytest.mark.slow
def test_an_onnx_file_describes_itself_and_may_find_nothing(open_session):
    model, session = exported("photos")[0], open_session("photos")
    # An image of the mean color is 0 inside: every score is that of the bias.
    mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1) / 255
    found = session.run(None, {"image": mean.expand(3, 50, 60).numpy()})
    assert [each.shape for each in found] == [(0, 4), (0,), (0,), (0, 56, 56)]
    assert [each.name for each in session.get_outputs()] == ["boxes", "scores", "labels", "masks"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(model.class_names)
    assert json.loads(metadata["mask_threshold"]) == 0.5


@pytest.mark.slow
def test_an_onnx_file_has_its_norms_folded_and_nothing_of_the_machine_that_wrote_it(open_session):
    path = open_session("panoptic_r50_dcni3")._model_path
    assert str(Path(export.__file__).parent).encode() not in Path(path).read_bytes()
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 40
    assert weights >= {node.input[1] for node in convolutions}


def test_a_training_model_is_not_exported():
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        export_program(make_model("nano").train())


def remade(model, found, size):
    """Boxes and mask probabilities of an image of this size, from the outputs of `Explorable`."""
    boxes, _, _, attentions, bases, stride = map(torch.as_tensor, found)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    mask_size = model.config.mask_size
    crops = crop_bases(bases[None], boxes, index, size=mask_size, stride=int(stride))
    return clip_boxes(boxes, size), model.merger(crops, attentions).sigmoid()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("merger", "is_exported"), [("blender", True), ("weighted_sum", False), ("assembler", False)]
)
def test_masks_remade_of_what_is_explored_are_those_that_predict_finds(merger, is_exported):
    torch.manual_seed(4)
    config = replace(thin_and_shallow("nano"), merger=merger)
    model = BlendMask(config, inference=INFERENCE).eval()
    with torch.no_grad():
        model.head.class_logits.weight *= 20
        model.head.ltrb.bias += 6  # strides, so that boxes reach out of the image
    # A program knows nothing of the merger but its number of attentions: one is enough.
    explore = export_program(model, explore=True).module() if is_exported else Explorable(model)
    picture = image(75, 130)
    wanted = model.predict([picture])[0]
    with torch.no_grad():
        found = explore(picture)
    assert len(wanted) > 2
    assert found[0].min() < 0 < len(found[0])  # boxes are not clipped: equation 1 needs them whole
    boxes, masks = remade(model, found, picture.shape[1:])
    torch.testing.assert_close(boxes, wanted.boxes)
    torch.testing.assert_close(found[1], wanted.scores)
    assert found[2].equal(wanted.labels)
    torch.testing.assert_close(masks, wanted.mask_logits.sigmoid())
    assert found[4].shape == (config.num_bases, 24, 40)  # 96 x 160 padded pixels, by stride


def test_a_merger_of_ones_own_is_not_explored():
    model = BlendMask(PRESETS["nano"], merger=WeightedSum(num_bases=4)).eval()
    with pytest.raises(ValueError, match=r"merger \S*WeightedSum: has no equations to explore"):
        export_program(model, explore=True)


@pytest.mark.slow
def test_the_command_line_writes_an_onnx_file_from_which_the_shipped_models_masks_are_remade(
    tmp_path, capfd
):
    out = tmp_path / "nano.onnx"
    assert main(["export", "-o", str(out), "--explore"]) == 0
    assert "warning" not in capfd.readouterr().err.lower()
    session = onnxruntime.InferenceSession(out)
    names = [each.name for each in session.get_outputs()]
    assert names == ["boxes", "scores", "labels", "attentions", "bases", "stride"]
    text = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in text.items()}
    assert (about["num_bases"], about["attention_size"], about["mask_size"]) == (4, 7, 28)
    assert about["merger"] == "blender" and about["stride"] == 4
    model = load_model(shipped_checkpoint())
    picture = ShapesDataset(1, seed=7).load_image(0).float() / 255
    wanted = model.predict([picture])[0]
    found = session.run(None, {"image": picture.numpy()})
    boxes, masks = remade(model, found, picture.shape[1:])
    assert len(wanted) > 2
    torch.testing.assert_close(boxes, wanted.boxes, atol=5e-3, rtol=0)
    torch.testing.assert_close(masks, wanted.mask_logits.sigmoid(), atol=2e-3, rtol=0)


@pytest.mark.slow
def test_the_command_line_writes_a_program_that_runs(tmp_path, monkeypatch, capsys):
    model, program = exported("nano")

    def exported_before(loaded, **_):
        expected = model.state_dict()
        assert all(value.equal(expected[name]) for name, value in loaded.state_dict().items())
        return program

    monkeypatch.setattr("blendmask_lite.cli.export.export_program", exported_before)  # takes long
    save_model(model, tmp_path / "nano.safetensors")
    words, out = ["export", str(tmp_path / "nano.safetensors"), "-o"], tmp_path / "nano.pt2"
    assert main([*words, str(out)]) == 0
    assert "33 pixels" in capsys.readouterr().out
    boxes, _, labels, _ = torch.export.load(out).module()(image(128, 140))
    assert len(boxes) == len(labels) > 0
    assert main([*words, str(tmp_path / "nano.tflite")]) == 1
    assert "nano.tflite: must end in .onnx or .pt2" in capsys.readouterr().err


# A fake tensor knows its device and computes nothing: mixing devices fails as on a real GPU.


def pretend_on_gpu(module, call):
    with FakeTensorMode(shape_env=ShapeEnv(allow_dynamic_output_shape_ops=True)):
        state = {
            name: torch.empty(shape, dtype=dtype, device="cuda")
            for name, (shape, dtype) in module.items()
        }
        try:
            return call(state)
        except GuardOnDataDependentSymNode:  # with torch 2.11
            pytest.skip("this torch cannot enlarge fake tensors whose number depends on data")


def shapes_of(module):
    return {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["nano", "panoptic_r50_dcni3", "rt_r50_bn_head", "dla34"])
def test_inference_stays_on_its_device(name):
    with torch.device("meta"):
        module = Deployed(BlendMask(PRESETS[name]).eval())

    @torch.no_grad()
    def call(state):
        return functional_call(module, state, (torch.empty(3, 300, 400),))

    assert {each.device.type for each in pretend_on_gpu(shapes_of(module), call)} == {"cuda"}


def fake_target(**options):
    return Target(
        boxes=torch.empty(2, 4, **options),
        labels=torch.empty(2, dtype=torch.int64, **options),
        masks=torch.empty(2, 100, 140, dtype=torch.bool, **options),
        stuff=torch.empty(100, 140, dtype=torch.uint8, **options),
    )


@pytest.mark.parametrize("name", ["nano_panoptic", "r50"])
def test_training_stays_on_its_device(name):
    with torch.device("meta"):
        module = TrainingStep(BlendMask(PRESETS[name]).train())

    def call(state):
        target = fake_target(device="cuda")
        picture = torch.empty(3, 100, 140)  # pictures come from the CPU
        return functional_call(module, state, ([picture, picture], [target, target]))

    losses = pretend_on_gpu(shapes_of(module), call)
    assert {loss.device.type for loss in losses.values()} == {"cuda"}


def test_pasting_stays_on_its_device():
    def call(state):
        return paste_masks(state["logits"], state["boxes"], (60, 80))

    shapes = {"logits": ((5, 28, 28), torch.float32), "boxes": ((5, 4), torch.float32)}
    pasted = pretend_on_gpu(shapes, call)
    assert pasted.device.type == "cuda" and pasted.shape == (5, 60, 80)


@torch.no_grad()
def num_candidates(model, picture):
    return len(model.candidates(model([picture]), 0).scores)


@pytest.mark.parametrize("number", [0, 1])
def test_an_exported_program_may_find_one_object_or_none(number):
    model, program = exported("nano")
    mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1) / 255
    low, high = 0.0, 1.0  # contrasts at which there is nothing to be seen, and more than one thing
    contrast = low
    while (found := num_candidates(model, mean + contrast * (image(75, 129) - mean))) != number:
        low, high = (contrast, high) if found < number else (low, contrast)
        contrast = (low + high) / 2
    picture = mean + contrast * (image(75, 129) - mean)
    wanted = model.predict([picture])[0]
    boxes, _, labels, masks = program.module()(picture)
    assert len(wanted) == len(masks) == number
    torch.testing.assert_close(boxes, wanted.boxes)
    assert labels.equal(wanted.labels)
