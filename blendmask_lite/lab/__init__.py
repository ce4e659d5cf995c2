"""Look inside BlendMask by hand: widgets that arrange figures and canvases in a notebook."""

from blendmask_lite.lab.blender_lab import BlenderLab
from blendmask_lite.lab.canvas import Canvas
from blendmask_lite.lab.messages import LabWidget, shows_errors

__all__ = ["BlenderLab", "Canvas", "LabWidget", "shows_errors"]
