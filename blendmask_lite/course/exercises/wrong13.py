"""What students get wrong in chapter 13, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.research.ablations.report import T_VALUES
from blendmask_lite.research.matching import match_bases

__all__ = ["INTERVALS", "MATCH", "PAIRED", "RESAMPLED"]


def _half_widths(values: Tensor) -> Tensor:
    num = values.shape[1]
    return T_VALUES[num] * values.std(dim=1) / num**0.5


# 13.1


def _intervals_biased(values: Tensor) -> Tensor:
    num = values.shape[1]
    half = T_VALUES[num] * values.std(dim=1, correction=0) / num**0.5
    return torch.stack([values.mean(dim=1), half], dim=1)


def _intervals_of_one_seed(values: Tensor) -> Tensor:
    num = values.shape[1]
    return torch.stack([values.mean(dim=1), T_VALUES[num] * values.std(dim=1)], dim=1)


def _intervals_normal(values: Tensor) -> Tensor:
    half = 1.96 * values.std(dim=1) / values.shape[1] ** 0.5
    return torch.stack([values.mean(dim=1), half], dim=1)


INTERVALS = (
    WrongAnswer(
        _intervals_biased,
        "The spread is divided by S. The mean was taken from the same values, so S - 1 is left.",
    ),
    WrongAnswer(
        _intervals_of_one_seed,
        "This is where one more seed would land. The mean of S seeds spreads less by root S.",
    ),
    WrongAnswer(
        _intervals_normal,
        "1.96 belongs to a spread that is known. Three seeds estimate it badly: t is 4.303.",
    ),
)


# 13.2


def _paired_as_independent(better: Tensor, worse: Tensor) -> Tensor:
    half = (_half_widths(better).square() + _half_widths(worse).square()).sqrt()
    return torch.stack([better.mean(dim=1) - worse.mean(dim=1), half], dim=1)


def _paired_added(better: Tensor, worse: Tensor) -> Tensor:
    half = _half_widths(better) + _half_widths(worse)
    return torch.stack([better.mean(dim=1) - worse.mean(dim=1), half], dim=1)


def _paired_sorted(better: Tensor, worse: Tensor) -> Tensor:
    ours, theirs = better.sort(dim=1).values, worse.sort(dim=1).values
    return torch.stack([(ours - theirs).mean(dim=1), _half_widths(ours - theirs)], dim=1)


PAIRED = (
    WrongAnswer(
        _paired_as_independent,
        "The two spreads were combined as if the runs had nothing in common. Equal seeds saw "
        "equal pictures: take differences first.",
    ),
    WrongAnswer(
        _paired_added,
        "The two half widths were added. That asks whether the intervals overlap, which is "
        "another and a much harder question.",
    ),
    WrongAnswer(
        _paired_sorted,
        "Both rows were sorted, so that best meets best. Pairs are made by seed.",
    ),
)


# 13.3


def _resampled_over_draws(values: Tensor, draws: Tensor) -> Tensor:
    ends = torch.tensor([0.025, 0.975], dtype=values.dtype)
    return torch.quantile(values[draws].flatten(), ends)


def _resampled_one_sided(values: Tensor, draws: Tensor) -> Tensor:
    ends = torch.tensor([0.05, 0.95], dtype=values.dtype)
    return torch.quantile(values[draws].mean(dim=1), ends)


def _resampled_extremes(values: Tensor, draws: Tensor) -> Tensor:
    means = values[draws].mean(dim=1)
    return torch.stack([means.min(), means.max()])


RESAMPLED = (
    WrongAnswer(
        _resampled_over_draws,
        "These are quantiles of single pictures. Every draw of I pictures gives one mean; the "
        "means spread far less.",
    ),
    WrongAnswer(
        _resampled_one_sided,
        "5 % were left out at either end; that leaves 90 %. The middle 95 % begins at 2.5 %.",
    ),
    WrongAnswer(
        _resampled_extremes,
        "The smallest and the largest mean were taken. More draws would widen that forever.",
    ),
)


# 13.4


def _match_each_alone(first: Tensor, second: Tensor) -> Tensor:
    return match_bases([first], [second]).all_correlations.argmax(dim=1)


def _match_by_products(first: Tensor, second: Tensor) -> Tensor:
    one, other = first.flatten(1), second.flatten(1)
    products = one @ other.T
    return products.argmax(dim=1)


def _match_without_sign(first: Tensor, second: Tensor) -> Tensor:
    return match_bases([first], [second], ignore_sign=True).order


def _match_the_other_way(first: Tensor, second: Tensor) -> Tensor:
    return match_bases([first], [second]).order.argsort()


MATCH = (
    WrongAnswer(
        _match_each_alone,
        "Every base took the partner that it likes best, and two took the same one. The sum over "
        "all pairs is to be largest, with each partner once.",
    ),
    WrongAnswer(
        _match_by_products,
        "Products were compared, not correlations: a base that is large everywhere wins against "
        "all. Subtract the means and divide by the lengths first.",
    ),
    WrongAnswer(
        _match_without_sign,
        "A base was paired with a negative. The blender's weights are positive, so a base and its "
        "negative do opposite things: the sign counts.",
    ),
    WrongAnswer(
        _match_the_other_way,
        "This tells for each base of the second run its partner in the first.",
    ),
)
