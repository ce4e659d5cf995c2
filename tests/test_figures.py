"""Figures show the tensors they are given, cope with nothing and with many, and leave no trace."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.nn import functional as F

from blendmask_lite import PRESETS, BlendMask, Detections
from blendmask_lite.figures import (
    attentions_figure,
    bases_figure,
    blending_figure,
    cells_figure,
    crop_picture,
    detections_figure,
    draw_detections,
    maps_figure,
    object_blending_figure,
    overview_figure,
    paint_masks,
    sampling_figure,
)
from blendmask_lite.figures.bases import paint_base
from blendmask_lite.figures.blending import strongest_bases
from blendmask_lite.figures.style import (
    as_picture,
    base_color,
    object_color,
    rgb255,
    text_on,
    usual_magnitude,
)
from blendmask_lite.structures import UnpastedDetections

NAMES = ("star", "ring", "fish")
HEIGHT, WIDTH = 48, 64


def some_detections(num: int = 2) -> Detections:
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 10:30, 8:24] = True
    masks[1, 5:20, 40:60] = True
    boxes = torch.tensor([[8.0, 10.0, 24.0, 30.0], [40.0, 5.0, 60.0, 20.0]])
    return Detections(
        boxes=boxes,
        scores=torch.tensor([0.9, 0.5]),
        labels=torch.tensor([2, 0]),
        masks=masks,
        mask_logits=torch.zeros(2, 28, 28),
        location_index=torch.tensor([3, 4]),
        proposal_boxes=boxes,
        image_size=(HEIGHT, WIDTH),
    )[:num]


def a_picture() -> torch.Tensor:
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def map_values(figure: Figure) -> list[np.ndarray]:
    """What every axes of the figure shows, color bars and empty ones left out."""
    return [ax.images[0].get_array().data for ax in all_axes(figure) if ax.images]


def all_axes(figure: Figure) -> list:
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def texts(figure: Figure) -> str:
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    return " ".join([*found, *(ax.get_title() for ax in figure.axes)])


# Bases


@pytest.mark.parametrize("num_bases", [1, 4, 32, 49])
def test_every_base_is_shown_with_its_own_values_on_one_scale(num_bases):
    bases = torch.randn(num_bases, 12, 16)
    figure = bases_figure(bases, stride=4)
    shown = map_values(figure)
    assert len(shown) == num_bases
    for values, base in zip(shown, bases, strict=True):
        assert np.array_equal(values, base.numpy())
    limits = {ax.images[0].get_clim() for ax in all_axes(figure) if ax.images}
    usual = usual_magnitude(bases)
    assert limits == {(-usual, usual)}


def test_a_peak_turns_no_other_map_white():
    maps = torch.rand(4, 20, 20).sub(0.5)
    maps[1, 3, 3:7] = -100
    points, region = torch.rand(4, 2), torch.tensor([1.0, 1.0, 9.0, 9.0])
    figures = (
        bases_figure(maps, stride=4),
        attentions_figure(maps[None]),
        blending_figure(maps, torch.full_like(maps, 0.25)),
        sampling_figure(maps[1], region, points, maps[1, :2, :2]),
    )
    for figure in figures:
        low, high = all_axes(figure)[0].images[0].get_clim()
        assert 0.4 < high == -low <= 0.5


def test_bases_are_measured_in_pixels_of_the_picture():
    figure = bases_figure(torch.zeros(4, 12, 16), stride=4, image=a_picture())
    extents = [ax.images[0].get_extent() for ax in all_axes(figure)]
    assert [list(extent) for extent in extents] == [[0, 64, 48, 0]] * 5
    assert "pixels" in figure.axes[1].get_xlabel()


def test_four_bases_beside_their_picture_fit_a_notebook():
    figure = bases_figure(torch.zeros(4, 12, 16), stride=4, image=a_picture())
    assert figure.get_figwidth() <= 9


# Attentions


def test_attentions_have_a_row_per_object_and_a_column_per_base():
    attentions = torch.randn(3, 4, 7, 7)
    shown = map_values(attentions_figure(attentions))
    assert len(shown) == 12
    assert np.array_equal(shown[4 * 1 + 2], attentions[1, 2].numpy())


def test_attentions_of_objects_stand_beside_their_part_of_the_picture():
    found = some_detections()
    attentions = torch.randn(2, 4, 7, 7)
    figure = attentions_figure(
        attentions, names=["a fish", "a star"], image=a_picture(), boxes=found.boxes
    )
    assert map_values(figure)[0].shape == (20, 16, 3)
    assert "a fish" in texts(figure)


def test_no_object_is_said_in_words():
    assert "no object" in texts(attentions_figure(torch.zeros(0, 4, 7, 7)))
    none = some_detections(0)
    maps = {"bases": torch.zeros(4, 12, 16), "attentions": torch.zeros(0, 4, 7, 7)}
    assert "no object" in texts(overview_figure(a_picture(), none, NAMES, **maps, stride=4))


def test_crop_stays_inside_the_picture_and_has_a_pixel_at_least():
    picture = a_picture()
    assert crop_picture(picture, torch.tensor([-9.0, -9.0, 99.0, 99.0])).equal(picture)
    outside = crop_picture(picture, torch.tensor([70.0, 50.0, 71.0, 51.0]))
    assert outside.equal(picture[:, -1:, -1:])


# Blending


@pytest.mark.parametrize("num_bases", [1, 2, 4])
def test_blending_shows_crops_scores_products_and_their_sum(num_bases):
    crops = torch.randn(num_bases, 8, 8)
    scores = torch.randn(num_bases, 8, 8).softmax(dim=0)
    shown = map_values(blending_figure(crops, scores))
    columns = num_bases + 1
    assert len(shown) == 3 * columns - 1  # no picture was given
    assert np.array_equal(shown[0], crops[0].numpy())
    assert np.array_equal(shown[num_bases], scores[0].numpy())
    assert np.allclose(shown[-1], (crops * scores).sum(0).numpy(), atol=1e-6)
    assert np.allclose(shown[2 * num_bases], 1 / (1 + np.exp(-shown[-1])))  # its probability


def test_of_many_bases_those_that_say_most_are_drawn():
    products = torch.zeros(49, 4, 4)
    products[[3, 20, 48]] = torch.tensor([1.0, -3.0, 2.0])[:, None, None]
    assert strongest_bases(products, 2) == [20, 48]
    crops = torch.randn(49, 4, 4)
    assert len(map_values(blending_figure(crops, torch.full_like(crops, 0.1)))) == 3 * 7 - 1


def test_blending_refuses_scores_of_another_shape():
    with pytest.raises(ValueError, match=r"\(4, 8, 8\).*\(4, 7, 7\)"):
        blending_figure(torch.zeros(4, 8, 8), torch.zeros(4, 7, 7))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_bases": 1},
        {"merger": "weighted_sum", "num_bases": 32},
        {"merger": "assembler", "num_bases": 49},
    ],
)
def test_blending_of_a_model_ends_in_the_models_own_mask(changes):
    torch.manual_seed(0)
    model = BlendMask(replace(PRESETS["nano"], **changes)).eval()
    with torch.no_grad():
        output = model([a_picture()])
        index, box = torch.tensor([[0, 5]]), torch.tensor([[4.0, 4.0, 40.0, 40.0]])
        expected = model.masks_at(output, index, box)[0]
    figure = object_blending_figure(model, output, index[0], box[0])
    assert np.allclose(map_values(figure)[-1], expected.numpy(), atol=1e-5)


# Any maps


def test_maps_share_a_scale_that_holds_the_largest_value():
    maps = {"small": torch.full((2, 2), 0.5), "large": torch.full((3, 3), -2.0)}
    figure = maps_figure(maps, label="raw")
    assert [values.shape for values in map_values(figure)] == [(2, 2), (3, 3)]
    assert {ax.images[0].get_clim() for ax in all_axes(figure)} == {(-2.0, 2.0)}
    fixed = maps_figure(maps, label="weight", limits=(0, 1))
    assert fixed.axes[0].images[0].get_clim() == (0, 1)
    with pytest.raises(ValueError, match="empty"):
        maps_figure({}, label="raw")


# Detections


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_drawing_tints_the_masks_and_leaves_the_rest_alone(dtype):
    picture = a_picture() if dtype == torch.float32 else (a_picture() * 255).to(torch.uint8)
    before = picture.clone()
    drawn = draw_detections(picture, some_detections(), NAMES)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert drawn.dtype == np.uint8
    assert picture.equal(before)
    original = draw_detections(picture, some_detections(0), NAMES)
    assert np.array_equal(drawn[35:, 30:], original[35:, 30:])
    assert not np.array_equal(drawn[20, 15], original[20, 15])


def test_names_of_an_object_that_was_found_twice_do_not_cover_each_other():
    found = replace(some_detections(2), boxes=torch.tensor([[4.0, 20.0, 60.0, 44.0]] * 2))
    found = replace(found, masks=torch.zeros_like(found.masks))
    drawn = draw_detections(a_picture(), found, NAMES)
    rows = [
        np.flatnonzero((drawn == rgb255(object_color(index))).all(-1).sum(1) > 10)
        for index in (0, 1)
    ]
    assert rows[0].min() < 20 < rows[1].min()  # above the box, and below that


def test_mask_is_tinted_and_outlined_and_the_better_object_lies_on_top():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[:, 1:7, 1:7] = True  # the same place twice
    painted = paint_masks(torch.zeros(3, 8, 8), masks)
    color = torch.tensor(rgb255(object_color(0))) / 255
    assert torch.allclose(painted[:, 1, 1], color)  # the line
    below = 0.45 * torch.tensor(rgb255(object_color(1))) / 255
    assert torch.allclose(painted[:, 4, 4], 0.55 * below + 0.45 * color)
    assert painted[:, 0, 0].sum() == 0


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(48, 64\).*\(10, 10\)"):
        draw_detections(torch.zeros(3, 10, 10), some_detections(), NAMES)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_detections_figure_names_what_it_shows(num):
    figure = detections_figure(a_picture(), some_detections(num), NAMES)
    assert ("fish 90 %" in texts(figure)) == (num > 0)
    assert ("star 50 %" in texts(figure)) == (num > 1)
    assert len(figure.axes[0].patches) == num
    told = "1 object:" if num == 1 else f"{num} objects:"
    assert told in figure.get_label()


def test_name_of_an_object_in_the_upper_right_corner_lies_inside_the_picture():
    corner = torch.tensor([[WIDTH - 4.0, 0.0, WIDTH, 9.0]])
    figure = detections_figure(a_picture(), replace(some_detections(1), boxes=corner), NAMES)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    [name] = axes.texts
    assert name.get_bbox_patch().get_window_extent().y1 <= axes.bbox.y1 + 0.5
    assert name.get_window_extent().x1 <= axes.bbox.x1 + 0.5


def test_names_of_one_object_found_five_times_do_not_cover_one_another():
    boxes = torch.tensor([[4.0, 12.0, 40.0, 40.0]]).expand(5, -1) + torch.arange(5)[:, None] / 4
    found = some_detections(1)[torch.zeros(5, dtype=torch.int64)]
    figure = detections_figure(a_picture(), replace(found, boxes=boxes), NAMES)
    FigureCanvasAgg(figure).draw()
    names = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts]
    assert len(names) == 5
    for place, one in enumerate(names):
        assert not any(one.overlaps(other) for other in names[:place])
    assert names[0].y1 > max(each.y1 for each in names[1:])  # the best stays at its box


def test_masks_are_painted_in_their_boxes_as_they_were_in_the_whole_picture():
    masks = torch.rand(5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) < 0.9
    masks[1, 10:] = False  # at the upper side
    masks[2, :, :50] = False  # at the right side
    masks[3] = True
    masks[4] = False
    expected = a_picture()
    for index in reversed(range(5)):
        color = torch.tensor(rgb255(object_color(index)))[:, None] / 255
        mask = masks[index]
        # Beyond the picture, max_pool2d sees nothing.
        near = F.max_pool2d((~mask)[None].float(), kernel_size=3, stride=1, padding=1)[0] > 0
        expected[:, mask] = (1 - 0.45) * expected[:, mask] + 0.45 * color
        expected[:, mask & near] = color
    assert paint_masks(a_picture(), masks).equal(expected)


def test_drawing_is_the_same_before_and_after_pasting():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[0.0, 0, 64, 48], [5.5, 7.2, 30.1, 40.9], [40.0, 20.0, 63.0, 47.5]])
    found = UnpastedDetections(
        boxes=boxes,
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 2]),
        mask_logits=torch.randn(3, 14, 14, generator=generator),
        location_index=torch.arange(3),
        proposal_boxes=boxes,
        image_size=(HEIGHT, WIDTH),
        mask_threshold=0.5,
    )
    assert found.pasted().masks.flatten(1).any(dim=1).all()
    for chosen in (slice(0, 3), slice(0, 1), slice(0, 0)):
        drawn = draw_detections(a_picture(), found[chosen], NAMES)
        assert np.array_equal(drawn, draw_detections(a_picture(), found.pasted()[chosen], NAMES))


def test_control_characters_of_a_class_name_are_drawn_as_codes():
    names = ("star", "ring", "\x1b[2J")
    figure = detections_figure(a_picture(), some_detections(1), names)
    assert "\\x1b[2J 90 %" in texts(figure)


def test_one_pixel_picture_with_an_object_is_drawn():
    found = some_detections(1)
    tiny = Detections(
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        scores=found.scores,
        labels=found.labels,
        masks=torch.ones(1, 1, 1, dtype=torch.bool),
        mask_logits=found.mask_logits,
        location_index=found.location_index,
        proposal_boxes=found.boxes,
        image_size=(1, 1),
    )
    assert draw_detections(torch.zeros(3, 1, 1), tiny, NAMES).shape == (1, 1, 3)


# Overview


def test_overview_shows_bases_and_the_chosen_objects_attentions():
    bases, attentions = torch.randn(4, 12, 16), torch.randn(2, 4, 7, 7)
    figure = overview_figure(
        a_picture(),
        some_detections(),
        NAMES,
        bases=bases,
        attentions=attentions,
        stride=4,
        chosen=1,
    )
    shown = map_values(figure)
    assert len(shown) == 10
    limit = usual_magnitude(bases)
    overlays = [paint_base(a_picture(), base, stride=4, limit=limit) for base in bases]
    for value in [*map(as_picture, overlays), *attentions[1].numpy()]:
        assert any(np.array_equal(value, each) for each in shown)


def test_overview_outlines_the_chosen_mask_on_its_attentions():
    bases, attentions = torch.zeros(4, 12, 16), torch.randn(2, 4, 7, 7)
    found = some_detections()
    found.mask_logits[0] = -1.0
    found.mask_logits[0, 14:, 7:] = 1.0  # the lower right: half as high, three quarters as wide
    figure = overview_figure(
        a_picture(), found, NAMES, bases=bases, attentions=attentions, stride=4
    )
    panels = [ax for ax in figure.axes if ax.get_title().startswith("attention")]
    assert len(panels) == 4
    for ax in panels:
        [path] = ax.collections[0].get_paths()
        left, top = path.vertices.min(axis=0)
        assert (left, top) == pytest.approx((7, 14), abs=0.5)
        assert ax.get_xlim() == pytest.approx((0, 28), abs=0.5)  # of the mask, not 7


# For everybody


def test_bases_keep_their_colour_and_repeat_when_there_are_too_many():
    assert len({base_color(k) for k in range(6)}) == 6
    assert base_color(6) == base_color(0)


def test_text_is_dark_on_light_and_light_on_dark():
    assert [text_on(color) for color in ("#ffffff", "#e69f00", "#0072b2")] == [
        "black",
        "black",
        "white",
    ]


def test_notebooks_get_a_png_with_its_description():
    figure = bases_figure(torch.zeros(4, 3, 3), stride=4)
    figure.set_label('bases "of" <nothing>')
    data = figure._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == 'bases "of" <nothing>'
    assert 'alt="bases &quot;of&quot; &lt;nothing&gt;"' in data["text/html"]


@pytest.mark.slow
def test_figures_need_no_pyplot_and_leave_the_settings_alone():
    code = (
        "import sys, torch; from blendmask_lite.figures import bases_figure;"
        "import matplotlib; before = matplotlib.rcParams.copy();"
        "bases_figure(torch.zeros(4, 3, 3), stride=4)._repr_mimebundle_();"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "assert before == matplotlib.rcParams.copy()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cells_show_every_value_and_frame_the_marked_ones():
    figure = cells_figure({"a base": [2, -2, 0.5], "a mask": [1, 0, 0]}, marked=(1,))
    [ax] = figure.axes
    assert [text.get_text() for text in ax.texts] == ["2", "-2", "0.5", "1", "0", "0"]
    [frame] = ax.patches
    assert frame.get_bbox().bounds == (0.5, -0.5, 1, 2)
    with pytest.raises(ValueError, match=r"\[2, 3\] cells"):
        cells_figure({"a": [1, 2], "b": [1, 2, 3]})
