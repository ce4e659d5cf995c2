"""Smaller ONNX files: what float16 and int8 change, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchvision.ops import box_iou

from blendmask_lite import PRESETS, BlendMask, load_model
from blendmask_lite.cli import main
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.weights import export
from blendmask_lite.weights.checkpoint import save_model
from blendmask_lite.weights.export import export_onnx
from blendmask_lite.weights.quantization import quantize_convolutions, store_in_float16

SCENES = ShapesDataset(3, seed=1_000_000)  # that neither training nor calibration has seen


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The shipped model in every precision, as the command writes it."""
    folder = tmp_path_factory.mktemp("onnx")
    graph = export._onnx_graph(load_model(shipped_checkpoint()), explore=False)
    with pytest.MonkeyPatch.context() as patch:  # takes as long as all that comes after it
        patch.setattr(export, "_onnx_graph", lambda model, explore: copy_of(graph))
        patch.setattr("blendmask_lite.cli.export.MOST_CALIBRATION", 10)
        for name in export.PRECISIONS:
            words = ["export", "--precision", name, "-o", str(folder / f"{name}.onnx")]
            assert main(words) == 0
    return folder


def copy_of(graph):
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def session_of(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options)


def partners(files, name):
    """Per scene, the outputs for clear objects in float32, and those of their partners."""
    sessions = [session_of(files / f"{each}.onnx") for each in ("float32", name)]
    for index in range(len(SCENES)):
        image = (SCENES.load_image(index).float() / 255).numpy()
        wanted, found = (session.run(None, {"image": image}) for session in sessions)
        clear = wanted[1] >= 0.5
        assert clear.sum() >= 2
        overlap = box_iou(torch.from_numpy(wanted[0][clear]), torch.from_numpy(found[0])).numpy()
        overlap = np.where(wanted[2][clear][:, None] == found[2], overlap, 0)
        assert overlap.max(axis=1).min() > 0.6
        order = overlap.argmax(axis=1)
        yield [values[clear] for values in wanted], [values[order] for values in found]


@pytest.mark.slow
def test_a_file_in_float32_finds_what_predict_finds(files):
    model, session = load_model(shipped_checkpoint()), session_of(files / "float32.onnx")
    for index in range(len(SCENES)):
        image = SCENES.load_image(index).float() / 255
        [wanted] = model.predict([image])
        boxes, scores, labels, masks = session.run(None, {"image": image.numpy()})
        assert len(boxes) >= 2
        np.testing.assert_array_equal(labels, wanted.labels)
        np.testing.assert_allclose(scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(boxes, wanted.boxes, atol=5e-3)
        np.testing.assert_allclose(masks, wanted.mask_logits.sigmoid(), atol=2e-3)


@pytest.mark.slow
def test_a_file_in_float16_is_half_as_large_and_finds_the_same(files):
    sizes = [(files / f"{name}.onnx").stat().st_size for name in ("float32", "float16")]
    assert 0.49 < sizes[1] / sizes[0] < 0.53
    for wanted, found in partners(files, "float16"):
        np.testing.assert_allclose(found[0], wanted[0], atol=0.01)  # pixels
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-3)
        np.testing.assert_allclose(found[3], wanted[3], atol=0.02)


@pytest.mark.slow
def test_a_file_in_int8_is_a_third_as_large_and_finds_nearly_the_same(files):
    sizes = [(files / f"{name}.onnx").stat().st_size for name in ("float32", "int8")]
    assert sizes[1] / sizes[0] < 0.35
    for wanted, found in partners(files, "int8"):
        boxes, scores, _, masks = (np.abs(a - b) for a, b in zip(found, wanted, strict=True))
        assert np.median(boxes) < 1  # pixels
        assert 0 < scores.max() < 0.05
        assert np.median(masks.mean(axis=(1, 2))) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float16", "int8"])
def test_a_smaller_file_has_the_interface_and_the_metadata_of_the_large_one(files, name):
    large, small = (session_of(files / f"{each}.onnx") for each in ("float32", name))
    for one, other in zip(large.get_outputs(), small.get_outputs(), strict=True):
        assert (one.name, one.type) == (other.name, other.type)
    assert small.get_inputs()[0].type == "tensor(float)"
    metadata = small.get_modelmeta().custom_metadata_map
    assert metadata == large.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["test_size"]) == 128


@pytest.mark.slow
def test_every_convolution_of_an_int8_file_is_quantized_and_nothing_says_where_it_was_made(files):
    graph = onnx.load(files / "int8.onnx").graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 40
    for node in convolutions:
        assert {made_by[name] for name in node.input} == {"DequantizeLinear"}
    assert not any(node.metadata_props for node in graph.node)


@pytest.mark.slow
def test_the_lines_of_the_guide_find_objects_in_a_picture(files, tmp_path, monkeypatch, capsys):
    guide = Path(__file__).resolve().parent.parent / "docs" / "export.md"
    lines = re.findall(r"```python\n(.+?)```", guide.read_text(), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").symlink_to(files / "float16.onnx")
    scene = Image.fromarray(SCENES.load_image(0).permute(1, 2, 0).numpy())
    scene.resize((256, 256), Image.Resampling.BICUBIC).save("photo.jpg", quality=95)
    found = {}
    exec(lines, found)
    [wanted] = load_model(shipped_checkpoint()).predict([SCENES.load_image(0)])
    assert found["scale"] == 0.5
    names = [word.split()[0] for word in capsys.readouterr().out.splitlines() if word[0].isalpha()]
    clear = wanted.labels[wanted.scores >= 0.4]
    assert names == [load_model(shipped_checkpoint()).class_names[label] for label in clear]


def two_convolutions():
    """One bias for both; a tensor has the name that onnxruntime would give to a copy of it."""
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(4, 3, 1, 1)),
        "v": generator.normal(size=(4, 4, 1, 1)),
        "bias": [5.0, -5, 1, 0],
    }
    nodes = [
        helper.make_node("Unsqueeze", ["image", "zero"], ["batch"]),
        helper.make_node("Conv", ["batch", "w", "bias"], ["bias0"], "one"),
        helper.make_node("Conv", ["bias0", "v", "bias"], ["masks"], "two"),
    ]
    stored = [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, 8, 8])],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, [1, 4, 8, 8])],
        [*stored, numpy_helper.from_array(np.int64([0]), "zero")],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def masks_of(proto, image):
    return session_of(proto.SerializeToString()).run(["masks"], {"image": image})[0]


def test_convolutions_that_share_a_bias_are_quantized():
    proto = two_convolutions()
    image = np.random.default_rng(1).random((3, 8, 8), dtype=np.float32)
    wanted = masks_of(proto, image)
    found = masks_of(quantize_convolutions(proto, [image]), image)
    # 7 bits for a weight, 8 for a feature, of two layers one after the other.
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
    assert np.abs(found - wanted).max() > 0


def test_a_weight_beyond_the_range_of_float16_stays_float32(monkeypatch):
    monkeypatch.setattr("blendmask_lite.weights.quantization.LEAST_STORED", 12)
    proto = two_convolutions()
    weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights[0, 0] = 1e5
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    image = np.random.default_rng(1).random((3, 8, 8), dtype=np.float32)
    wanted = masks_of(proto, image)
    store_in_float16(proto)
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert types["w"] == types["bias"] == TensorProto.FLOAT
    assert types["v.float16"] == TensorProto.FLOAT16
    np.testing.assert_allclose(masks_of(proto, image), wanted, rtol=2e-3)


@pytest.fixture(scope="module")
def nano():
    return BlendMask(PRESETS["nano"]).eval()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "precision = 'int4': must be one of float32, float16, int8"),
        ({"precision": "int8"}, "needs images for calibration"),
        ({"precision": "int8", "calibration": [torch.zeros(3, 32, 64)]}, "32 x 64 pixels"),
        ({"precision": "int8", "calibration": [torch.full((3, 64, 64), 9.0)]}, "from 9 to 9"),
    ],
)
def test_export_refuses_bad_arguments_before_the_work(nano, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        export_onnx(nano, tmp_path / "nano.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-o out.pt2 --precision float16", "--precision float16: is for .onnx, not for .pt2"),
        ("-o out.onnx --calibrate empty", "--calibrate: is for --precision int8"),
        ("-o out.onnx --precision int8 --calibrate empty", "empty: a folder without images"),
        ("-o out.onnx --precision int8 --calibrate none", "none: no such folder"),
        ("nano.safetensors -o out.onnx --precision int8", "needs --calibrate DIR"),
    ],
)
def test_the_command_says_what_it_lacks(nano, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save_model(nano, tmp_path / "nano.safetensors")
    assert main(["export", *words.split()]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and said in errors[0]
    assert not list(tmp_path.glob("out.*"))


def test_the_command_knows_no_other_precision(capsys):
    with pytest.raises(SystemExit):
        main(["export", "-o", "out.onnx", "--precision", "int4"])
    assert "--precision: there is no 'int4'; did you mean int8?" in capsys.readouterr().err


def test_calibration_takes_images_from_the_whole_folder_at_the_size_of_the_model(
    tmp_path, monkeypatch
):
    for number in range(120):  # the number is the color
        Image.new("RGB", (40, 20), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
    (tmp_path / "readme.txt").write_text("no image")
    given = []

    def note(model, path, *, precision, calibration, explore):
        given.extend(calibration)
        path.write_bytes(b"")

    monkeypatch.setattr("blendmask_lite.cli.export.export_onnx", note)
    words = ["-o", str(tmp_path / "out.onnx"), "--precision", "int8", "--calibrate", str(tmp_path)]
    assert main(["export", *words]) == 0
    assert {image.shape for image in given} == {(3, 107, 214)}  # at most 214 pixels wide
    colors = [int(image[0, 0, 0]) for image in given]
    assert len(colors) == 50 and colors[0] == 0 and colors[-1] == 117  # 49 * 120 // 50
