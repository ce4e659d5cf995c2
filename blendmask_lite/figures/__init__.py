"""Pictures of what the model sees and finds: plain functions that return matplotlib figures."""

from blendmask_lite.figures.attentions import attentions_figure, crop_picture
from blendmask_lite.figures.bases import bases_figure
from blendmask_lite.figures.blending import blending_figure, object_blending_figure
from blendmask_lite.figures.detections import detections_figure, draw_detections, paint_masks
from blendmask_lite.figures.layout import DescribedFigure, figure_pixels
from blendmask_lite.figures.maps import maps_figure
from blendmask_lite.figures.moments import film_figure, moment_figure
from blendmask_lite.figures.overview import overview_figure
from blendmask_lite.figures.panoptic import paint_segments, panoptic_figure
from blendmask_lite.figures.runs import curves_figure

__all__ = [
    "DescribedFigure",
    "attentions_figure",
    "bases_figure",
    "blending_figure",
    "crop_picture",
    "curves_figure",
    "detections_figure",
    "draw_detections",
    "figure_pixels",
    "film_figure",
    "maps_figure",
    "moment_figure",
    "object_blending_figure",
    "overview_figure",
    "paint_masks",
    "paint_segments",
    "panoptic_figure",
]
