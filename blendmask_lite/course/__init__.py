"""Tools of the notebooks: exercises, checks and hints, the budget switch, and the shape trace."""

from blendmask_lite.course.checking import CheckResult, check, hint, solution
from blendmask_lite.course.environment import budget, current_budget, environment
from blendmask_lite.course.own_model import my_blendmask, my_model, my_parts, stand_in
from blendmask_lite.course.pictures import unusual_picture
from blendmask_lite.course.progress import network_map, progress
from blendmask_lite.course.shape_trace import trace
from blendmask_lite.course.student import exercise

__all__ = [
    "CheckResult",
    "budget",
    "check",
    "current_budget",
    "environment",
    "exercise",
    "hint",
    "my_blendmask",
    "my_model",
    "my_parts",
    "network_map",
    "progress",
    "solution",
    "stand_in",
    "trace",
    "unusual_picture",
]
