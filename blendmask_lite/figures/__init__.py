"""Pictures of what the model sees and finds: plain functions that return matplotlib figures."""

from blendmask_lite.figures.analysis_charts import (
    basis_scores_figure,
    knock_out_figure,
    oracle_figure,
)
from blendmask_lite.figures.assignment import (
    ambiguity_figure,
    boxes_figure,
    claims_figure,
    sides_figure,
)
from blendmask_lite.figures.attentions import (
    attentions_figure,
    compare_attentions_figure,
    crop_picture,
)
from blendmask_lite.figures.bases import bases_figure
from blendmask_lite.figures.blending import blending_figure, object_blending_figure
from blendmask_lite.figures.changed_base import changed_base_figure
from blendmask_lite.figures.cost_bars import cost_bars_figure
from blendmask_lite.figures.costs import growth_figure, stages_figure
from blendmask_lite.figures.detections import detections_figure, draw_detections, paint_masks
from blendmask_lite.figures.edges import edges_figure
from blendmask_lite.figures.evaluation_bars import ap_bars_figure, mistakes_figure
from blendmask_lite.figures.evaluation_report import evaluation_figures, write_evaluation_figures
from blendmask_lite.figures.export import WIDTHS, figure_file, fit_figure, save_figure
from blendmask_lite.figures.gallery import gallery_figure
from blendmask_lite.figures.hard_cases import hard_cases_figure
from blendmask_lite.figures.instances import instances_figure, round_trip_figure
from blendmask_lite.figures.intervals import intervals_figure
from blendmask_lite.figures.layout import DescribedFigure, figure_pixels
from blendmask_lite.figures.lines import lines_figure
from blendmask_lite.figures.losses import (
    centerness_figure,
    loss_and_gradient_figure,
    shares_figure,
)
from blendmask_lite.figures.maps import maps_figure
from blendmask_lite.figures.mask_progress import mask_progress_figure
from blendmask_lite.figures.mask_resolution import mask_resolution_figure
from blendmask_lite.figures.matched_bases import matched_bases_figure
from blendmask_lite.figures.moments import film_figure, moment_figure
from blendmask_lite.figures.overlays import base_overlays_figure, paint_base, paint_weights
from blendmask_lite.figures.overview import overview_figure
from blendmask_lite.figures.panoptic import paint_segments, panoptic_figure
from blendmask_lite.figures.panoptic_bars import panoptic_quality_figure
from blendmask_lite.figures.panoptic_steps import panoptic_steps_figure
from blendmask_lite.figures.paper import figure_1, figure_4
from blendmask_lite.figures.pixel_masks import pixel_masks_figure, run_lengths_figure
from blendmask_lite.figures.precision_recall import (
    class_precision_recall_figure,
    precision_recall_figure,
)
from blendmask_lite.figures.precision_steps import precision_steps_figure
from blendmask_lite.figures.proposals import paint_boxes, proposals_figure
from blendmask_lite.figures.receptive_field import (
    CellField,
    paint_gradient,
    receptive_field_figure,
)
from blendmask_lite.figures.runs import curves_figure
from blendmask_lite.figures.sampling import sampling_figure
from blendmask_lite.figures.specimens import specimens_figure
from blendmask_lite.figures.targets import targets_figure

__all__ = [
    "WIDTHS",
    "CellField",
    "DescribedFigure",
    "ambiguity_figure",
    "ap_bars_figure",
    "attentions_figure",
    "base_overlays_figure",
    "bases_figure",
    "basis_scores_figure",
    "blending_figure",
    "boxes_figure",
    "centerness_figure",
    "changed_base_figure",
    "claims_figure",
    "class_precision_recall_figure",
    "compare_attentions_figure",
    "cost_bars_figure",
    "crop_picture",
    "curves_figure",
    "detections_figure",
    "draw_detections",
    "edges_figure",
    "evaluation_figures",
    "figure_1",
    "figure_4",
    "figure_file",
    "figure_pixels",
    "film_figure",
    "fit_figure",
    "gallery_figure",
    "growth_figure",
    "hard_cases_figure",
    "instances_figure",
    "intervals_figure",
    "knock_out_figure",
    "lines_figure",
    "loss_and_gradient_figure",
    "maps_figure",
    "mask_progress_figure",
    "mask_resolution_figure",
    "matched_bases_figure",
    "mistakes_figure",
    "moment_figure",
    "object_blending_figure",
    "oracle_figure",
    "overview_figure",
    "paint_base",
    "paint_boxes",
    "paint_gradient",
    "paint_masks",
    "paint_segments",
    "paint_weights",
    "panoptic_figure",
    "panoptic_quality_figure",
    "panoptic_steps_figure",
    "pixel_masks_figure",
    "precision_recall_figure",
    "precision_steps_figure",
    "proposals_figure",
    "receptive_field_figure",
    "round_trip_figure",
    "run_lengths_figure",
    "sampling_figure",
    "save_figure",
    "shares_figure",
    "sides_figure",
    "specimens_figure",
    "stages_figure",
    "targets_figure",
    "write_evaluation_figures",
]
