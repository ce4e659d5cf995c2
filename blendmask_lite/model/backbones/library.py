"""Backbones from timm and torchvision, looked up by name in the libraries' own registries.

Chapter 02. A name in a file is only ever a registry key; no file decides what gets imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from blendmask_lite.model.backbones.interface import Backbone

__all__ = ["LibraryBackbone", "timm"]

STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
PROBE = (128, 96)  # size of a trial image in pixels, whose maps have sides that are all different


class LibraryBackbone(Backbone):
    """The maps of a classification network of timm or torchvision at strides 4 to 32.

    If the library does not name the maps, our choice is the last map of each stride among the
    outputs of the network's parts and of their parts.

    Args:
        library: "timm" or "torchvision".
        name: name in the library's registry, such as "convnext_tiny" or "efficientnet_b0".
        norm: "bn" trains the batch norms; "frozen_bn" keeps their statistics, scale and shift.
            Other norms are trained like the rest.
        frozen_stages: 0 trains everything; n >= 2 freezes everything that map c<n> depends on.

    Raises:
        ImportError: timm is not installed.
        ValueError: the library has no such network, or the network does not give these maps or
            cannot be frozen this way.
    """

    def __init__(
        self, *, library: str, name: str, norm: str = "frozen_bn", frozen_stages: int = 0
    ) -> None:
        super().__init__()
        self.library, self.name, self.has_frozen_norms = library, name, norm == "frozen_bn"
        self.body = _timm_body(name) if library == "timm" else _torchvision_body(name)
        self.body.eval()
        image = torch.zeros(1, 3, *PROBE)
        try:
            with torch.enable_grad():  # gradients tell below which layers a map depends on
                maps = self(image)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"backbone = {library}/{name}: fails on an image of {PROBE[0]} x {PROBE[1]} pixels "
                f"({error})"
            ) from None
        for level, stride in STRIDES.items():
            size = tuple(side // stride for side in PROBE)
            if level not in maps or maps[level].shape[2:] != size:
                found = {name: tuple(value.shape) for name, value in maps.items()}
                raise ValueError(
                    f"backbone = {library}/{name}: gives no map (B, channels, H/{stride}, "
                    f"W/{stride}); its maps of a {PROBE[0]} x {PROBE[1]} image are {found}"
                )
        self.channels = {level: value.shape[1] for level, value in maps.items()}
        if frozen_stages:
            parameters = list(self.parameters())
            with torch.enable_grad():
                last = maps[f"c{frozen_stages}"].sum()
            below = torch.autograd.grad(last, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, below, strict=True):
                parameter.requires_grad_(gradient is None)
        if self.has_frozen_norms:
            for module in self._batch_norms():
                module.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, sides divisible by 32 -> {"c2": ..., "c5": ...}."""
        maps = self.body(images)
        if isinstance(maps, dict):
            return maps
        return dict(zip(STRIDES, maps[-len(STRIDES) :], strict=False))

    def train(self, mode: bool = True) -> LibraryBackbone:
        """As `nn.Module.train`, but frozen norms keep their statistics."""
        super().train(mode)
        if self.has_frozen_norms:
            for module in self._batch_norms():
                module.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self.body.modules() if isinstance(module, kind)]


def _timm_body(name: str) -> nn.Module:
    """All maps of a network as a list; timm names their layers."""
    library = timm()
    if not library.is_model(name):
        raise ValueError(_unknown("timm", name, library.list_models()))
    try:
        body: nn.Module = library.create_model(name, features_only=True)
    except (RuntimeError, ValueError, AttributeError, AssertionError) as error:
        raise ValueError(f"backbone = timm/{name}: it gives no feature maps ({error})") from None
    return body


def _torchvision_body(name: str) -> nn.Module:
    """The four maps of a network by name, found by their sizes."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(_unknown("torchvision", name, known))
    network = torchvision.models.get_model(name, weights=None).eval()
    _, nodes = get_graph_node_names(network)
    places = list(dict.fromkeys(".".join(node.split(".")[:2]) for node in nodes))
    with torch.no_grad():
        maps = create_feature_extractor(network, places)(torch.zeros(1, 3, *PROBE))
    levels = {tuple(side // stride for side in PROBE): level for level, stride in STRIDES.items()}
    found = {
        levels[tuple(value.shape[2:])]: place
        for place, value in maps.items()
        if isinstance(value, Tensor) and value.dim() == 4 and tuple(value.shape[2:]) in levels
    }
    if len(found) < len(STRIDES):
        missing = ", ".join(sorted(set(STRIDES) - set(found)))
        raise ValueError(f"backbone = torchvision/{name}: it has no map for {missing}")
    return create_feature_extractor(network, {place: level for level, place in found.items()})


def timm() -> Any:
    """The library, if it is installed.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return import_module("timm")
    except ImportError:
        raise ImportError('timm is not installed: pip install "blendmask_lite[timm]"') from None


def _unknown(library: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"; close to it are {', '.join(close)}" if close else ""
    return f"backbone = {library}/{name}: {library} has no such network{hint}"
