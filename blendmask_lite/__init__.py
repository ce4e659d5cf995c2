"""BlendMask in plain PyTorch, to understand, train and use.

>>> from blendmask_lite import load_model, shipped_checkpoint
>>> model = load_model(shipped_checkpoint())
>>> [found] = model.predict("photo.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blendmask_lite.config import PRESETS, InferenceConfig, ModelConfig
    from blendmask_lite.files import shipped_checkpoint
    from blendmask_lite.model.blendmask import BlendMask
    from blendmask_lite.model.mask_head import MaskHead
    from blendmask_lite.model.output import BlendMaskOutput
    from blendmask_lite.structures import Detections, PanopticResult, Segment, Target
    from blendmask_lite.weights.adelaidet import load_adelaidet
    from blendmask_lite.weights.checkpoint import load_model, save_model
    from blendmask_lite.weights.imagenet import load_detectron2_backbone
else:
    # A public name imports its module when it is first used: torch and torchvision take seconds,
    # which `blendmask-lite --help` does not need.
    _MODULES = {
        "config": ("PRESETS", "InferenceConfig", "ModelConfig"),
        "files": ("shipped_checkpoint",),
        "model.blendmask": ("BlendMask",),
        "model.mask_head": ("MaskHead",),
        "model.output": ("BlendMaskOutput",),
        "structures": ("Detections", "PanopticResult", "Segment", "Target"),
        "weights.adelaidet": ("load_adelaidet",),
        "weights.checkpoint": ("load_model", "save_model"),
        "weights.imagenet": ("load_detectron2_backbone",),
    }

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "PRESETS",
    "BlendMask",
    "BlendMaskOutput",
    "Detections",
    "InferenceConfig",
    "MaskHead",
    "ModelConfig",
    "PanopticResult",
    "Segment",
    "Target",
    "load_adelaidet",
    "load_detectron2_backbone",
    "load_model",
    "save_model",
    "shipped_checkpoint",
]

__version__ = "0.1.0"
