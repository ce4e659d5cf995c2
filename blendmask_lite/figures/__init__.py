"""Pictures of what the model sees and finds: plain functions that return matplotlib figures."""

from blendmask_lite.figures.bases import (
    base_overlays_figure,
    bases_figure,
    changed_base_figure,
    matched_bases_figure,
    paint_base,
    paint_weights,
)
from blendmask_lite.figures.blending import (
    attentions_figure,
    blending_figure,
    compare_attentions_figure,
    crop_picture,
    object_blending_figure,
)
from blendmask_lite.figures.detections import (
    detections_figure,
    draw_detections,
    paint_boxes,
    paint_masks,
    proposals_figure,
)
from blendmask_lite.figures.evaluation import (
    ap_bars_figure,
    evaluation_figures,
    mistakes_figure,
    write_evaluation_figures,
)
from blendmask_lite.figures.gallery import gallery_figure, hard_cases_figure, specimens_figure
from blendmask_lite.figures.losses import centerness_figure, loss_and_gradient_figure, shares_figure
from blendmask_lite.figures.masks import (
    edges_figure,
    instances_figure,
    mask_resolution_figure,
    pixel_masks_figure,
    round_trip_figure,
    run_lengths_figure,
)
from blendmask_lite.figures.panoptic import (
    paint_segments,
    panoptic_figure,
    panoptic_quality_figure,
    panoptic_steps_figure,
)
from blendmask_lite.figures.paper import figure_1, figure_4, overview_figure
from blendmask_lite.figures.plots import intervals_figure, lines_figure, maps_figure
from blendmask_lite.figures.precision_recall import (
    class_precision_recall_figure,
    precision_recall_figure,
    precision_steps_figure,
)
from blendmask_lite.figures.research import (
    basis_scores_figure,
    cost_bars_figure,
    growth_figure,
    knock_out_figure,
    oracle_figure,
    stages_figure,
)
from blendmask_lite.figures.sampling import (
    CellField,
    paint_gradient,
    receptive_field_figure,
    sampling_figure,
)
from blendmask_lite.figures.style import (
    WIDTHS,
    DescribedFigure,
    figure_file,
    figure_pixels,
    fit_figure,
    save_figure,
)
from blendmask_lite.figures.targets import (
    ambiguity_figure,
    boxes_figure,
    claims_figure,
    sides_figure,
    targets_figure,
)
from blendmask_lite.figures.training import (
    curves_figure,
    film_figure,
    mask_progress_figure,
    moment_figure,
)

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
