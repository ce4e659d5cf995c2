"""Figures of a training: one object at one moment, and at several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blendmask_lite.figures import film_figure, moment_figure
from blendmask_lite.figures.style import base_color

HEIGHT, WIDTH = 40, 56
BOX = torch.tensor([8.0, 8.0, 36.0, 22.0])  # twice as wide as high


def an_object() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[10:20, 10:30] = True
    return {
        "image": torch.rand(3, HEIGHT, WIDTH, generator=generator),
        "box": BOX,
        "true_mask": mask,
        "bases": torch.randn(4, 16, 16, generator=generator),  # padded to 64 x 64 pixels
        "attentions": torch.randn(4, 7, 7, generator=generator) * 3,
        "mask_probabilities": torch.rand(28, 28, generator=generator),
    }


def panels_of(figure) -> dict[str, object]:
    return {ax.get_title().split(",")[0]: ax for ax in figure.axes if ax.axison}


def values(ax) -> np.ndarray:
    return np.asarray(ax.images[0].get_array().data)


def test_a_moment_shows_bases_attentions_and_the_mask_of_one_object():
    shown = an_object()
    figure = moment_figure(**shown, stride=4, title="after 12 iterations")
    panels = panels_of(figure)
    for index in range(4):
        assert np.array_equal(values(panels[f"base {index + 1}"]), shown["bases"][index].numpy())
        attention = panels[f"attention {index + 1}"]
        assert np.array_equal(values(attention), shown["attentions"][index].numpy())
        assert attention.title.get_color() == base_color(index)
    mask = panels["mask"]
    assert np.array_equal(values(mask), shown["mask_probabilities"].numpy())
    assert mask.images[0].get_clim() == (0, 1)
    assert mask.get_aspect() == pytest.approx(0.5)  # as the box
    assert "12 iterations" in figure.get_label()
    # What the model padded is not drawn.
    assert panels["base 1"].get_xlim() == (0, WIDTH)
    assert panels["base 1"].get_ylim() == (HEIGHT, 0)


def test_the_true_outline_lies_where_the_mask_is_in_the_box():
    figure = moment_figure(**an_object(), stride=4)
    (line,) = panels_of(figure)["mask"].collections
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    # In the box of 28 x 14 pixels and 28 x 28 cells: x from 2 to 22, y from 2 to 12 times 2.
    assert corners.min(axis=0) == pytest.approx([2, 4], abs=0.6)
    assert corners.max(axis=0) == pytest.approx([22, 24], abs=0.6)


def test_scales_are_common_to_all_bases_and_can_be_given():
    shown = an_object()
    own = panels_of(moment_figure(**shown, stride=4))
    largest = shown["bases"].abs().max().item()
    for index in (1, 2, 3, 4):
        assert own[f"base {index}"].images[0].get_clim() == pytest.approx((-largest, largest))
    given = panels_of(moment_figure(**shown, stride=4, limits=(7.0, 9.0)))
    assert given["base 2"].images[0].get_clim() == (-7, 7)
    assert given["attention 3"].images[0].get_clim() == (-9, 9)


def test_some_of_many_bases_are_chosen_and_a_merger_may_have_no_attentions():
    shown = an_object() | {"bases": torch.randn(9, 10, 14), "attentions": torch.zeros(0, 1, 1)}
    panels = panels_of(moment_figure(**shown, stride=4, shown=[2, 8]))
    assert [name for name in panels if name.startswith("base")] == ["base 3", "base 9"]
    assert not [name for name in panels if name.startswith("attention")]


def test_found_masks_are_painted_on_the_picture():
    shown = an_object()
    plain = values(panels_of(moment_figure(**shown, stride=4))["picture"])
    painted = moment_figure(**shown, stride=4, found_masks=shown["true_mask"][None])
    different = (values(panels_of(painted)["picture"]) != plain).any(axis=2)
    assert different[10:20, 10:30].mean() > 0.95
    assert not different[~shown["true_mask"].numpy()].any()


def test_an_empty_or_full_mask_has_no_outline():
    shown = an_object()
    for mask in (torch.zeros_like(shown["true_mask"]), torch.ones_like(shown["true_mask"])):
        figure = moment_figure(**shown | {"true_mask": mask}, stride=4)
        assert not panels_of(figure)["mask"].collections


def test_a_film_has_a_column_for_every_moment():
    shown = an_object()
    crops = {0: torch.randn(4, 28, 28), 1200: torch.randn(4, 28, 28) * 5}
    masks = {0: torch.rand(28, 28), 1200: torch.rand(28, 28)}
    kept = {name: shown[name] for name in ("image", "box", "true_mask")}
    iou = {0: 0.1, 1200: 0.876}
    figure = film_figure(**kept, bases=crops, mask_probabilities=masks, mask_iou=iou)
    maps = [values(ax) for ax in figure.axes if ax.images]
    assert len(maps) == 1 + 2 * 5
    for expected in (*masks.values(), *crops[0], *crops[1200]):
        assert any(np.array_equal(each, expected.numpy()) for each in maps)
    titles = [ax.get_title() for ax in figure.axes]
    assert "0\nIoU 0.10" in titles and "1,200\nIoU 0.88" in titles
    with pytest.raises(ValueError, match="same moments"):
        film_figure(**kept, bases=crops, mask_probabilities=masks, mask_iou={0: 0.1})
    with pytest.raises(ValueError, match="at least 1"):
        film_figure(**kept, bases={}, mask_probabilities={}, mask_iou={})
