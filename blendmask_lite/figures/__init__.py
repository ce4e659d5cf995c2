"""Plain functions that return matplotlib figures of what the model sees and finds."""

# ruff: noqa: F403

from blendmask_lite.figures.bases import *
from blendmask_lite.figures.blending import *
from blendmask_lite.figures.detections import *
from blendmask_lite.figures.evaluation import *
from blendmask_lite.figures.gallery import *
from blendmask_lite.figures.losses import *
from blendmask_lite.figures.masks import *
from blendmask_lite.figures.panoptic import *
from blendmask_lite.figures.paper import *
from blendmask_lite.figures.plots import *
from blendmask_lite.figures.research import *
from blendmask_lite.figures.room import *
from blendmask_lite.figures.sampling import *
from blendmask_lite.figures.style import WIDTHS as WIDTHS
from blendmask_lite.figures.style import DescribedFigure as DescribedFigure
from blendmask_lite.figures.style import figure_file as figure_file
from blendmask_lite.figures.style import figure_pixels as figure_pixels
from blendmask_lite.figures.style import fit_figure as fit_figure
from blendmask_lite.figures.style import save_figure as save_figure
from blendmask_lite.figures.targets import *
from blendmask_lite.figures.training import *
