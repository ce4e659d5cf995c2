"""Look inside BlendMask by hand: widgets that arrange figures and canvases in a notebook."""

from blendmask_lite.lab.blender_lab import BlenderLab
from blendmask_lite.lab.canvas import Canvas
from blendmask_lite.lab.canvas_parts import CanvasEvent
from blendmask_lite.lab.dashboard import Dashboard
from blendmask_lite.lab.data_browser import DataBrowser
from blendmask_lite.lab.explorer import Explorer
from blendmask_lite.lab.figure_panel import FigurePanel
from blendmask_lite.lab.loss_playground import LossPlayground
from blendmask_lite.lab.messages import LabWidget, shows_errors
from blendmask_lite.lab.nms_stepper import NmsStepper
from blendmask_lite.lab.receptive_field import ReceptiveFieldExplorer
from blendmask_lite.lab.roi_sampler import RoiSampler
from blendmask_lite.lab.targets_explorer import TargetsExplorer
from blendmask_lite.lab.time_machine import TimeMachine
from blendmask_lite.lab.training_monitor import TrainingMonitor

__all__ = [
    "BlenderLab",
    "Canvas",
    "CanvasEvent",
    "Dashboard",
    "DataBrowser",
    "Explorer",
    "FigurePanel",
    "LabWidget",
    "LossPlayground",
    "NmsStepper",
    "ReceptiveFieldExplorer",
    "RoiSampler",
    "TargetsExplorer",
    "TimeMachine",
    "TrainingMonitor",
    "shows_errors",
]
