"""Figures of the analyses show the numbers they are given, and print at the size of a page."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from pretended_gpu import pretended_gpu, to_gpu

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import (
    base_overlays_figure,
    basis_scores_figure,
    compare_attentions_figure,
    dots_figure,
    figure_1,
    figure_4,
    figure_pixels,
    fit_figure,
    hard_cases_figure,
    knock_out_figure,
    masks_by_method_figure,
    matched_bases_figure,
    paint_base,
    paint_weights,
    save_figure,
)
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.style import as_picture, base_color, rgb255, usual_magnitude

GREY = torch.full((3, 32, 48), 0.5)


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def picture():
    return ShapesDataset(21, seed=7).load(20).image


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def color_of(name: str) -> torch.Tensor:
    return torch.tensor(rgb255(name)) / 255


# ------------------------------------------------------------------ the paper's figures


def test_figure_1_shows_one_object_s_own_tensors_with_one_call(model, picture):
    figure = figure_1(model, picture, chosen=1)
    found = model.predict([picture], score_threshold=0.3)[0]
    sums = [ax for ax in figure.axes if ax.get_title().startswith("sum")]
    assert np.allclose(sums[0].images[0].get_array(), found.mask_logits[1], atol=1e-4)
    assert f"{model.class_names[found.labels[1]]}, score" in " ".join(texts(figure))
    with pytest.raises(ValueError, match=r"chosen = 99: \d+ objects"):
        figure_1(model, picture, chosen=99)


def test_figure_4_names_what_was_found_and_shows_the_bases(model, picture):
    figure = figure_4(model, picture)
    found = model.predict([picture], score_threshold=0.3)[0]
    assert f"the masks of {len(found)} objects" in figure.get_label()
    with torch.no_grad():
        bases = model([picture]).bases[0]
    limit, stride = usual_magnitude(bases), model.bottom.stride
    shown = [ax.images[0].get_array() for ax in figure.axes if "base" in ax.get_title()]
    assert len(shown) == 4
    for values, base in zip(shown, bases, strict=True):
        overlay = as_picture(paint_base(picture, base, stride=stride, limit=limit))
        assert np.abs(values.astype(int) - overlay).max() <= 1
    titles = {ax.get_title(): ax.title.get_color() for ax in figure.axes if ax.get_title()}
    assert titles["base 3"] == base_color(2)


def test_a_picture_with_nothing_is_drawn_all_the_same(model):
    nothing = torch.zeros(3, 64, 64)
    assert "no object found" in texts(figure_1(model, nothing, score_threshold=0.99))
    assert "0 objects: none" in figure_4(model, nothing, score_threshold=0.99).get_label()


def test_what_a_model_on_a_gpu_found_is_drawn_as_on_the_cpu(model, picture):
    moved = to_gpu(load_model(shipped_checkpoint()))
    found = model.predict([picture], score_threshold=0.3)[0]
    painted = paint_masks(picture, found.masks)
    with pretended_gpu():
        labels = [each(moved, picture).get_label() for each in (figure_1, figure_4)]
        on_gpu = moved.predict([picture], score_threshold=0.3)[0]
        assert on_gpu.masks.device == moved.device
        assert torch.equal(paint_masks(picture, on_gpu.masks), painted)
    assert labels == [each(model, picture).get_label() for each in (figure_1, figure_4)]


# ------------------------------------------------------------------ overlays


def test_an_overlay_is_red_above_zero_blue_below_and_grey_at_it():
    base = torch.zeros(8, 12)
    base[:, :4], base[:, 8:] = 2.0, -2.0
    painted = paint_base(GREY, base, stride=4, limit=2.0)
    assert painted.shape == (3, 32, 48)
    left, middle, right = painted[:, 16, 4], painted[:, 16, 24], painted[:, 16, 44]
    assert left[0] > left[2] + 0.2
    assert right[2] > right[0] + 0.2
    assert torch.allclose(middle, middle[:1].expand(3), atol=5e-3)


def test_weights_are_painted_in_the_colour_of_their_base_inside_the_box_only():
    scores = torch.zeros(1, 3, 8, 8)
    scores[0, 1, :, :4] = 1.0
    scores[0, 2, :, 4:] = 1.0
    boxes = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    painted = paint_weights(GREY, scores, boxes)
    outside = painted[:, 4, 4]
    assert torch.equal(painted[:, 30, 40], outside)
    for x, base in ((10, 1), (22, 2)):
        expected = 0.2 * outside + 0.8 * color_of(base_color(base))
        assert torch.allclose(painted[:, 16, x], expected, atol=1e-4)
    # A box that reaches beyond the picture is cut, one outside of it is not seen.
    paint_weights(GREY, scores, torch.tensor([[-10.0, -10.0, 60.0, 60.0]]))
    away = paint_weights(GREY, scores, torch.tensor([[60.0, 60.0, 80.0, 80.0]]))
    assert torch.equal(away[:, 0, 0], outside) and away.std() < 1e-6


@pytest.mark.parametrize("num_bases", [1, 4, 9])
def test_every_base_has_its_overlay(num_bases):
    bases = torch.randn(num_bases, 8, 12, generator=torch.Generator().manual_seed(0))
    figure = base_overlays_figure(GREY, bases, stride=4, title="a picture")
    pictures = [ax for ax in figure.axes if ax.get_title().startswith("base")]
    assert len(pictures) == num_bases
    assert "a picture" in texts(figure)


def test_large_overlays_go_two_by_two_and_are_larger():
    bases = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(0))
    widths = []
    for is_large in (False, True):
        figure = base_overlays_figure(GREY, bases, stride=4, is_large=is_large)
        figure.canvas.draw()
        places = [ax.get_window_extent() for ax in figure.axes if "base" in ax.get_title()]
        assert len({round(place.y0) for place in places}) == 1 + is_large
        widths.append(places[0].width)
    assert widths[1] > 1.3 * widths[0]


def test_a_scale_holds_most_values_and_ignores_a_peak():
    values = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([1000.0])])
    assert 0.9 < usual_magnitude(values) <= 1
    assert usual_magnitude(torch.zeros(5)) == usual_magnitude(torch.zeros(0)) == 1


# ------------------------------------------------------------------ charts


def scores_of(auc, depth, x, y):
    values = {"object_auc": auc, "depth": depth, "x": x, "y": y}
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    return SimpleNamespace(**tensors, mean_crops=torch.randn(len(auc), 7, 7))


def test_scores_are_written_and_drawn_beside_those_of_untrained_networks():
    trained = scores_of([0.9, 0.4], [0.1, -0.5], [0.6, 0.0], [0.02, -0.7])
    null = scores_of([0.7, 0.45], [0.1, 0.0], [0.12, -0.08], [0.0, 0.1])
    figure = basis_scores_figure(trained, untrained=[null], title="nano")
    written = [text.strip() for text in texts(figure)]
    for number in ("0.90", "0.40", "-0.50", "+0.60", "-0.70"):
        assert number in written
    assert "grey: all bases of 1 untrained network" in written
    assert "base 2: object AUC 0.40" in figure.get_label()
    panel = next(ax for ax in figure.axes if ax.get_title().startswith("left"))
    band = panel.patches[0]
    extent = band.get_patch_transform().transform_path(band.get_path()).get_extents()
    assert (extent.x0, extent.x1) == pytest.approx((-0.08, 0.12))
    widths = [bar.get_width() for bar in panel.patches[1:]]
    assert widths == pytest.approx([0.6, 0.0], abs=1e-6)


def test_many_bases_are_drawn_without_names():
    many = scores_of([0.5] * 32, [0.0] * 32, [0.3] * 32, [0.1] * 32)
    assert figure_pixels(basis_scores_figure(many)).float().std() > 1


def test_knock_outs_have_a_panel_a_kind_and_a_bar_a_base():
    changes = {"times 0": torch.tensor([-10.0, -2.5]), "times 2": torch.tensor([0.5, -1.0])}
    figure = knock_out_figure(changes, baseline=70.0)
    assert [ax.get_title() for ax in figure.axes] == ["times 0", "times 2"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [-10.0, -2.5]
    assert {"-10.0", "-2.5", "+0.5"} <= {text.strip() for text in texts(figure)}
    with pytest.raises(ValueError, match="at least one kind"):
        knock_out_figure({}, baseline=70.0)


def test_dots_stand_at_the_means_with_their_intervals_and_a_series_keeps_its_colour():
    means = {"a": torch.tensor([0.5, 0.4, 0.7]), "b": torch.tensor([-0.1, -0.2, 0.0])}
    figure = dots_figure(
        {"IoU": {"first": means, "second": {"b": means["b"]}}, "gain": {"x": means}}
    )
    upper, lower = figure.axes
    assert [label.get_text() for label in upper.get_yticklabels()] == ["first", "second"]
    assert upper.get_xlabel() == "IoU" and lower.get_xlabel() == "gain"
    assert upper.get_position().y0 > lower.get_position().y1
    lines = [line for line in upper.lines if len(line.get_xdata()) == 2]
    assert list(lines[0].get_xdata()) == pytest.approx([0.4, 0.7])
    dots = [line for line in upper.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([0.5, -0.1, -0.1])
    colors = [dot.get_color() for dot in dots]
    assert colors[0] != colors[1] == colors[2]
    same = [line.get_color() for line in lower.lines if line.get_marker() == "o"]
    assert same == colors[:2]
    assert "IoU: first a 0.500 (0.400 to 0.700)" in figure.get_label()
    for nothing in ({}, {"IoU": {}}):
        with pytest.raises(ValueError, match="at least one panel"):
            dots_figure(nothing)


def test_partners_stand_below_each_other_in_the_first_model_s_colours():
    first, second = torch.randn(3, 8, 12), torch.randn(3, 8, 12)
    order, correlations = torch.tensor([2, 0, 1]), torch.tensor([0.9, 0.5, -0.2])
    figure = matched_bases_figure(
        GREY, first, second, order=order, correlations=correlations, names=("old", "new")
    )
    shown = {ax.get_title(): ax for ax in figure.axes if ax.images}
    below = shown["base 3, r = 0.90"]
    assert np.array_equal(below.images[0].get_array(), second[2].numpy())
    assert below.title.get_color() == base_color(0)
    assert "base 1 and 3: 0.90" in figure.get_label()


def test_two_objects_are_compared_by_their_score_maps():
    scores = torch.rand(2, 3, 7, 7)
    figure = compare_attentions_figure(scores, names=("a cat", "a dog"))
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert np.allclose(shown[6 + 1], scores[0, 1] - scores[1, 1])
    with pytest.raises(ValueError, match="two can be compared"):
        compare_attentions_figure(scores[:1], names=("a cat",))


def test_hard_objects_stand_in_rows_of_their_kind():
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[8:20, 10:30] = True
    case = SimpleNamespace(
        measure=0.25,
        image=GREY,
        box=torch.tensor([10.0, 8.0, 30.0, 20.0]),
        true_mask=mask,
        mask=mask.roll(2, 1),
        iou=0.8182,
    )
    figure = hard_cases_figure({"separated": [case, case], "overlapping": []})
    assert "IoU 0.82" in figure.get_label() and "overlapping: none" in figure.get_label()
    assert "none" in texts(figure)
    assert sum("mask IoU 0.82" in text for text in texts(figure)) == 2
    with pytest.raises(ValueError, match="at least one kind"):
        hard_cases_figure({})


def test_missing_and_extra_pixels_of_every_method_are_marked_and_counted():
    truth = torch.zeros(2, 32, 48, dtype=torch.bool)
    truth[0, 4:20, 4:20], truth[1, 8:28, 24:40] = True, True
    shifted = truth.roll(2, dims=2)
    figure = masks_by_method_figure(
        {"twins": GREY}, {"twins": truth}, {"right": {"twins": truth}, "off": {"twins": shifted}}
    )
    assert "twins, right: IoU 1.00  1.00, 0 missing, 0 extra" in figure.get_label()
    assert "twins, off: IoU 0.78  0.78, 72 missing, 72 extra" in figure.get_label()
    _, right, off = (torch.from_numpy(ax.images[0].get_array()) for ax in figure.axes)
    for color, expected in (((34, 34, 34), truth & ~shifted), ((194, 24, 91), shifted & ~truth)):
        is_marked = [(shown == torch.tensor(color)).all(dim=2) for shown in (right, off)]
        assert not is_marked[0].any()
        assert is_marked[1].equal(expected.any(dim=0))
    with pytest.raises(ValueError, match="off, twins"):
        masks_by_method_figure({"twins": GREY}, {"twins": truth}, {"off": {"twins": truth[:1]}})
    with pytest.raises(ValueError, match="at least one scene"):
        masks_by_method_figure({}, {}, {})


# ------------------------------------------------------------------ pages


def a_chart() -> Figure:
    means = {"network": torch.tensor([0.8, 0.7, 0.9])}
    return dots_figure({"mean IoU": {"box": means}}, title="Where the IoU goes")


def test_a_figure_is_made_as_wide_as_a_column_and_its_text_stays_readable():
    figure = a_chart()
    before = figure.get_size_inches().copy()
    assert fit_figure(figure, "column") is figure
    width, height = figure.get_size_inches()
    assert width == 3.3
    assert height / width == pytest.approx(before[1] / before[0])
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 5
    slide = fit_figure(a_chart(), "slide")
    assert slide.get_size_inches()[0] == 12.8
    assert slide.axes[0].title.get_fontsize() == pytest.approx(9 * 12.8 / before[0])
    for wrong in ("poster", 0):
        with pytest.raises(ValueError, match=f"width '?{wrong}"):
            fit_figure(a_chart(), wrong)


def test_vectors_keep_their_text(tmp_path):
    svg = save_figure(a_chart(), tmp_path / "chart.svg").read_text()
    assert "Where the IoU goes</text>" in svg
    pdf = save_figure(a_chart(), tmp_path / "chart.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"/CIDFontType2" in pdf
    assert save_figure(a_chart(), tmp_path / "chart.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"chart.gif: the name must end in one of"):
        save_figure(a_chart(), tmp_path / "chart.gif")
