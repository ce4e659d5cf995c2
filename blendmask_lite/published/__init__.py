"""Weights that others trained: the authors' models, and backbones trained on ImageNet."""

from blendmask_lite.published.backbone import load_detectron2_backbone
from blendmask_lite.published.load import load_adelaidet

__all__ = ["load_adelaidet", "load_detectron2_backbone"]
