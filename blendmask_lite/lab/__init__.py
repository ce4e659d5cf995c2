"""The lab: notebook widgets for looking inside BlendMask."""

from importlib import import_module

try:
    for _name in ("anywidget", "ipywidgets"):
        import_module(_name)
except ImportError as error:
    raise ImportError(f'{error}: pip install "blendmask_lite[course]"') from None

from blendmask_lite.lab.blender import BlenderLab
from blendmask_lite.lab.canvas import Canvas, CanvasEvent
from blendmask_lite.lab.dashboard import Dashboard
from blendmask_lite.lab.data_browser import DataBrowser
from blendmask_lite.lab.explorer import Explorer
from blendmask_lite.lab.loss_playground import LossPlayground
from blendmask_lite.lab.nms_stepper import NmsStepper
from blendmask_lite.lab.parts import FigurePanel, LabWidget, shows_errors
from blendmask_lite.lab.receptive_field import ReceptiveFieldExplorer
from blendmask_lite.lab.roi_sampler import RoiSampler
from blendmask_lite.lab.targets_explorer import TargetsExplorer
from blendmask_lite.lab.time import TimeMachine
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
