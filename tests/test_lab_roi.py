"""Sample points by hand and against the pooled values, and the RoI sampler without a browser."""

from __future__ import annotations

import pytest
import torch

from blendmask_lite.figures.plots import lines_figure
from blendmask_lite.figures.sampling import paint_sampling, sampling_figure
from blendmask_lite.lab.canvas import CanvasEvent
from blendmask_lite.lab.roi_sampler import RoiSampler
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.research.fields import (
    BoxPooling,
    cell_weights,
    pool_box,
    pooled_region,
    sample_points,
)

# A map whose cells say where their centers are, in cells from the edge.
HEIGHT, WIDTH, STRIDE = 12, 16, 4
X = (torch.arange(WIDTH) + 0.5).expand(HEIGHT, WIDTH)
Y = (torch.arange(HEIGHT) + 0.5)[:, None].expand(HEIGHT, WIDTH)
BOX = torch.tensor([10.0, 9.0, 42.0, 33.0])  # pixels: cells 2.5 to 10.5, and 2.25 to 8.25


@pytest.fixture
def sampler():
    made = RoiSampler()
    yield made
    made.close()


def how(**changes):
    return BoxPooling(**({"size": 4, "stride": STRIDE} | changes))


def test_sample_points_are_those_worked_out_by_hand():
    # Bins are 2 cells wide and 1.5 high; the first center is at 2.5 + 1, 2.25 + 0.75.
    points = sample_points(BOX, how())
    assert points.shape == (4, 4, 1, 2)
    assert points[0, :, 0, 0].tolist() == [3.5, 5.5, 7.5, 9.5]
    assert points[:, 0, 0, 1].tolist() == [3.0, 4.5, 6.0, 7.5]
    assert pooled_region(BOX, how()).tolist() == [2.5, 2.25, 10.5, 8.25]
    # 2.5 rounds to 3 and 10.5 to 11, whose cell is taken in.
    assert pooled_region(BOX, how(kind="pool")).tolist() == [3, 2, 12, 9]
    assert sample_points(BOX, how(kind="pool")).shape == (4, 4, 0, 2)


@pytest.mark.parametrize("changes", [{}, {"samples": 2}, {"is_aligned": False}, {"size": 3}])
def test_points_are_where_torchvision_reads(changes):
    """On a map of coordinates the crop is the mean place of its points."""
    chosen = how(**changes)
    middle = sample_points(BOX, chosen).mean(dim=2)
    assert torch.allclose(pool_box(X, BOX, chosen), middle[..., 0], atol=1e-5)
    assert torch.allclose(pool_box(Y, BOX, chosen), middle[..., 1], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_pooled_region_is_what_torchvision_pools(seed):
    """With one bin the largest cell of it, over boxes whose corners lie on halves of cells."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(HEIGHT, WIDTH, generator=generator)
    for _ in range(20):
        corner = torch.randint(0, 12, (2,), generator=generator) * 2.0
        side = torch.randint(1, 10, (2,), generator=generator) * 2.0
        box = torch.cat([corner, corner + side])
        x0, y0, x1, y1 = pooled_region(box, how(kind="pool")).int().tolist()
        crop = pool_box(values, box, how(kind="pool", size=1))
        assert crop.item() == values[y0:y1, x0:x1].max()


def test_half_a_cell_off_is_half_a_cell_to_the_right_and_below():
    off = sample_points(BOX, how(is_aligned=False)) - sample_points(BOX, how())
    assert torch.allclose(off, torch.full_like(off, 0.5))


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_a_box_is_pooled_as_the_package_crops_bases(kind):
    values = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    expected = crop_bases(
        values[None, None],
        BOX[None],
        torch.zeros(1, dtype=torch.int64),
        size=4,
        stride=STRIDE,
        pooling=kind,
    )[0, 0]
    assert torch.equal(pool_box(values, BOX, how(kind=kind)), expected)


def test_weights_of_a_cell_are_bilinear_and_give_its_value():
    values = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    # The point (3.5, 3.0) is the middle of the edge between the cells of rows 2 and 3.
    weights = cell_weights(values, BOX, how(), 0, 0)
    assert weights.nonzero().tolist() == [[2, 3], [3, 3]]
    assert weights[2, 3] == weights[3, 3] == 0.5
    for chosen in (how(), how(samples=2), how(is_aligned=False), how(kind="pool")):
        weights = cell_weights(values, BOX, chosen, 2, 1)
        assert float(weights.sum()) == pytest.approx(1)
        assert float((weights * values).sum()) == pytest.approx(
            float(pool_box(values, BOX, chosen)[2, 1])
        )


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="size = 0"):
        how(size=0)
    with pytest.raises(ValueError, match="'nearest'"):
        how(kind="nearest")
    with pytest.raises(ValueError, match="shape"):
        RoiSampler(values=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="at most 40"):
        RoiSampler(values=torch.zeros(41, 4))
    with pytest.raises(ValueError, match="x1 must be above"):
        RoiSampler(box=(8, 8, 4, 12))


def test_figures_show_points_weights_and_curves():
    points = sample_points(BOX, how()).flatten(0, 2)
    weights = cell_weights(X, BOX, how(), 1, 1)
    figure = sampling_figure(
        X,
        pooled_region(BOX, how()),
        points,
        pool_box(X, BOX, how()),
        weights=weights,
        chosen=(1, 1),
    )
    assert len(figure.axes[0].collections[0].get_offsets()) == 16
    written = [each.get_text() for each in figure.axes[0].texts]
    assert written == [f"{each:.2f}" for each in weights[weights > 0].tolist()]
    painted = paint_sampling(X, pooled_region(BOX, how()), points, 4, scale=10)
    assert painted.shape == (3, 120, 160)
    assert painted[:, 30, 35].tolist() == [0, 0, 0]  # the point (3.5, 3.0)
    figure = lines_figure({"a": ([1, 10], [2.0, 3.0])}, x_label="n", y_label="ms", is_log=True)
    assert "ms over n: a from 2 to 3" in figure.get_label()
    assert figure.axes[0].get_xticks().tolist() == [1, 10]
    with pytest.raises(ValueError, match="at least one"):
        lines_figure({}, x_label="n", y_label="ms")


def test_dragging_the_box_moves_points_and_crop(sampler):
    before = dict(sampler.canvas.still), dict(sampler.canvas.live)
    sampler.canvas.act(CanvasEvent("box", "map", box=(8.0, 8.0, 40.0, 44.0)))
    assert sampler.canvas.still != before[0] and sampler.canvas.live != before[1]
    assert sampler.canvas.box == [8, 8, 40, 44] == sampler.box.tolist()
    sampler.reset.click()
    assert sampler.canvas.live == before[1] and sampler.message.text == ""


def test_pointing_shows_the_cells_behind_and_their_sum(sampler):
    assert sampler.canvas.marks == {}
    sampler.canvas.act(CanvasEvent("hover", "crop", cells=((2, 1),)))
    weights = cell_weights(sampler.values, sampler.box, sampler.how, 1, 2)
    shown = sampler.canvas.marks["map"]
    assert len(shown) == int((weights > 0).sum()) == 4
    for mark in shown:
        assert mark["weight"] == pytest.approx(float(weights[mark["y"], mark["x"]]))
    assert sampler.canvas.marks["crop"][0]["x"] == 2
    chart = sampler.canvas.bars["cell"]
    total = float(pool_box(sampler.values, sampler.box, sampler.how)[1, 2])
    assert "Row 2, column 3" in chart["title"] and f"{total:.2f}" in chart["title"]
    assert sum(bar["value"] for bar in chart["bars"]) == pytest.approx(total, abs=1e-5)
    sampler.canvas.act(CanvasEvent("hover", "crop"))
    assert sampler.canvas.marks == {}


def test_methods_differ_from_the_papers_choice(sampler):
    def differences():
        return [bar["value"] for bar in sampler.canvas.bars["difference"]["bars"]]

    assert differences() == [0, 0]
    sampler.samples.value = 2
    finer = differences()
    assert 0 < finer[0] < finer[1]
    sampler.samples.value = 1
    for method in ("RoIAlign, half a cell off", "RoIPool"):
        sampler.method.value = method
        assert differences()[0] > finer[0]
    assert sampler.samples.disabled
    sampler.canvas.act(CanvasEvent("hover", "crop", cells=((0, 0),)))
    assert "the largest cell" in sampler.canvas.bars["cell"]["title"]
    sampler.method.value = "RoIAlign"
    assert not sampler.samples.disabled and differences() == [0, 0]


def test_another_size_lays_out_another_crop(sampler):
    sampler.canvas.act(CanvasEvent("hover", "crop", cells=((3, 3),)))
    sampler.size.value = 2
    assert len(sampler.canvas.live["crop"]) == 4 and sampler.canvas.marks == {}
    assert sampler.message.text == ""


def test_a_cell_outside_of_the_map_says_so(sampler):
    sampler.put((-80, -80, -40, -40))
    sampler.canvas.act(CanvasEvent("hover", "crop", cells=((0, 0),)))
    assert "outside" in sampler.canvas.bars["cell"]["title"]


def test_a_box_without_size_is_told_and_the_old_one_stays(sampler):
    before = sampler.box
    sampler.canvas.act(CanvasEvent("box", "map", box=(8.0, 8.0, 8.0, 20.0)))
    assert "x1 must be above" in sampler.message.text and sampler.box is before


def test_closing_drops_the_map():
    made = RoiSampler(values=torch.rand(9, 7), stride=8)
    made.close()
    assert made.canvas.still == {} and not hasattr(made, "values")
