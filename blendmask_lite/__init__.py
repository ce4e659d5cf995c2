"""BlendMask in plain PyTorch, to understand, train and use.

>>> from blendmask_lite import load_model, shipped_checkpoint
>>> model = load_model(shipped_checkpoint())
>>> detections = model.predict([image])[0]
"""

from blendmask_lite.assets import shipped_checkpoint
from blendmask_lite.checkpoint import load_model, save_model
from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.presets import PRESETS
from blendmask_lite.published import load_adelaidet, load_detectron2_backbone
from blendmask_lite.structures import Detections, PanopticResult, Segment, Target

__all__ = [
    "PRESETS",
    "BlendMask",
    "BlendMaskOutput",
    "Detections",
    "InferenceConfig",
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
