"""The shape trace: letters and numbers agree for every kind of model, and a lie is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.course import trace
from blendmask_lite.course.shape_trace import evaluate_dimension


def nano(**changes) -> BlendMask:
    torch.manual_seed(0)
    return BlendMask(replace(PRESETS["nano"], **changes)).eval()


def test_stages_of_a_picture_that_is_padded():
    # By hand: 70 x 100 pads to 96 x 128; strides 4, 8, 16 give 768 + 192 + 48 locations.
    result = trace(nano(), torch.rand(3, 70, 100), score_threshold=0.0)
    assert result["images"].shape == (1, 3, 96, 128)
    assert result["c2"].shape == (1, 32, 24, 32)
    assert result["p5"].symbols == ("B", "64", "H/32", "W/32")
    assert result["class_logits"].shape == (1, 1008, 8)
    assert result["bases"].shape == (1, 4, 24, 32)
    assert result["attentions"].symbols == ("N", "K*M*M")
    assert result["attentions"].shape == (result.letters["N"], 196)
    assert result["mask_logits"].shape == (result.letters["N"], 28, 28)


@pytest.mark.parametrize(
    ("changes", "symbol"),
    [
        ({"num_bases": 1}, "K*M*M"),
        ({"merger": "weighted_sum", "num_bases": 32}, "K"),
        ({"merger": "assembler", "num_bases": 49}, "0"),
        ({"bottom": "deeplab", "bottom_inputs": ("p3", "p5")}, "K*M*M"),
        (
            {"levels": ("p3", "p4", "p5", "p6", "p7"), "size_limits": (16, 32, 64, 128)},
            "K*M*M",
        ),
    ],
)
def test_every_kind_of_model_can_be_traced(changes, symbol):
    result = trace(nano(**changes), torch.rand(3, 64, 96), score_threshold=0.0)
    assert result["attentions"].symbols[1] == symbol
    assert result.figure().axes


def test_nothing_found_is_traced_and_drawn():
    result = trace(nano(), torch.rand(3, 64, 64), score_threshold=1.0)
    assert result["boxes"].shape == (0, 4)
    assert result["mask_logits"].shape == (0, 28, 28)
    assert result.figure().axes


def test_table_says_letters_numbers_and_meaning_as_text_and_html():
    result = trace(nano(), torch.rand(3, 64, 64), score_threshold=1.0)
    for text in (str(result), result._repr_html_()):
        assert "(B, K, H/4, W/4)" in text
        assert "(1, 4, 16, 16)" in text
        assert "shared by all" in text
        assert "K = 4" in text


def test_figure_shows_the_mean_of_each_stage():
    result = trace(nano(), torch.rand(3, 64, 64), score_threshold=1.0)
    shown = {ax.get_title().split()[0]: ax for ax in result.figure().axes if ax.images}
    values = shown["p4"].images[0].get_array().data
    assert torch.allclose(torch.from_numpy(values), result["p4"].tensor[0].mean(0))
    assert set(shown) == {"image", "c2", "c3", "c4", "c5", "p2", "p3", "p4", "p5", "bases"}


def test_shape_that_is_not_what_its_letters_say_is_an_error():
    model = nano()
    model.bottom.stride = 8  # a lie: the bases have stride 4
    with pytest.raises(ValueError, match=r"bases: \(B, K, H/8, W/8\) is \(1, 4, 8, 8\)"):
        trace(model, torch.rand(3, 64, 64), score_threshold=1.0)


def test_unknown_stage_names_those_there_are():
    with pytest.raises(KeyError, match=r"'p9'.*p3, p4"):
        trace(nano(), torch.rand(3, 32, 32), score_threshold=1.0)["p9"]


@pytest.mark.parametrize(
    ("symbol", "number"), [("B", 2), ("64", 64), ("K*M*M", 196), ("H/8", 12), ("H/64", 2), ("0", 0)]
)
def test_dimension_is_worked_out(symbol, number):
    # 96 / 64 = 1.5 is rounded up: a strided convolution keeps the started cell
    assert evaluate_dimension(symbol, {"B": 2, "K": 4, "M": 7, "H": 96}) == number
