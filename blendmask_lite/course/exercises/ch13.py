"""Exercises of chapter 13: intervals over seeds and images, pairs, and bases matched."""

from __future__ import annotations

import itertools

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.research.ablations.report import T_VALUES, bootstrap_interval, estimate
from blendmask_lite.research.matching import match_bases

__all__ = ["EXERCISES"]


@task("13.1", "Mean and interval over seeds", minutes=10, difficulty=2)
def intervals(values: Tensor) -> Tensor:
    """Mean over the seeds and its 95 % interval by Student's t.

    Args:
        values: (N, S) float64, rows are methods, columns are seeds; S from 2 to 9.

    Returns:
        (N, 2) float64: the mean m and the half width h; the interval is m - h to m + h.
        `T_VALUES[S]` is t for S seeds.
    """
    # Step 1: the spread of one seed, with S - 1 in the denominator
    spread = values.std(dim=1)
    # Step 2: the spread of a mean of S seeds is smaller by the root of S
    half_width = T_VALUES[values.shape[1]] * spread / values.shape[1] ** 0.5
    return torch.stack([values.mean(dim=1), half_width], dim=1)


def _reference_intervals(values: Tensor) -> Tensor:
    found = [estimate(row) for row in values.tolist()]
    rows = [[interval.mean, interval.half_width or 0.0] for interval in found]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(values), 2)


def _seed_cases(generator: Generator) -> list[Case]:
    # By hand: mean 12, spread 2, so the half width is 4.303 * 2 / sqrt(3) = 4.97.
    three = torch.tensor([[10.0, 12.0, 14.0]], dtype=torch.float64)
    return [
        Case("one method, three seeds", three),
        Case("four methods, five seeds", _scores(generator, 4, 5)),
        Case("two seeds", _scores(generator, 3, 2)),
        Case("one method, no spread", three[:, :1].expand(1, 4).clone()),
    ]


def _scores(generator: Generator, *shape: int) -> Tensor:
    return 20 + 5 * torch.randn(shape, generator=generator, dtype=torch.float64)


INTERVALS = Exercise(
    solution=intervals,
    reference=_reference_intervals,
    make_cases=_seed_cases,
    wrong_answers=(
        WrongAnswer(
            {"std(dim=1)": "std(dim=1, correction=0)"},
            "You divided the spread by S. The mean comes from the same values, which leaves S - 1.",
        ),
        WrongAnswer(
            {" / values.shape[1] ** 0.5": ""},
            "This is the interval for one more seed. The spread of a mean of S seeds is smaller by "
            "root S.",
        ),
        WrongAnswer(
            {"T_VALUES[values.shape[1]]": "1.96"},
            "1.96 is for a spread that is known. Three seeds estimate it badly: t is 4.303.",
        ),
    ),
    hints=(
        "How far is one seed from the mean, and how far is the mean of S seeds?",
        "values.std(dim=1) divides by S - 1, as it should; then divide by S ** 0.5.",
        "Half width: T_VALUES[S] * values.std(dim=1) / S**0.5; stack it behind the mean.",
    ),
)


@task("13.2", "Compare seed by seed", minutes=5, difficulty=2)
def paired_intervals(better: Tensor, worse: Tensor) -> Tensor:
    """Mean difference of two methods and its interval, from differences of equal seeds.

    Args:
        better: (N, S) float64, N comparisons; column s was trained with seed s.
        worse: (N, S), the same seeds in the same order.

    Returns:
        (N, 2) float64: mean difference better - worse, and the half width of its 95 % interval.
    """
    return intervals(better - worse)


def _pair_cases(generator: Generator) -> list[Case]:
    # By hand: the differences are 1, 2, 3: mean 2, spread 1, half width 4.303 / sqrt(3) = 2.48.
    better = torch.tensor([[11.0, 32.0, 23.0]], dtype=torch.float64)
    worse = torch.tensor([[10.0, 30.0, 20.0]], dtype=torch.float64)
    many = _scores(generator, 5, 4)
    return [
        Case("one comparison, three seeds", better, worse),
        Case("five comparisons, four seeds", many + _scores(generator, 5, 4) / 50, many),
        Case("pairs with nothing in common", many, _scores(generator, 5, 4)),
        Case("one difference for all seeds", worse + 1, worse),
    ]


PAIRED = Exercise(
    solution=paired_intervals,
    reference=lambda better, worse: _reference_intervals(better - worse),
    make_cases=_pair_cases,
    wrong_answers=(
        WrongAnswer(
            lambda better, worse: torch.stack(
                [
                    (better - worse).mean(dim=1),
                    intervals(better)[:, 1].hypot(intervals(worse)[:, 1]),
                ],
                dim=1,
            ),
            "You combined the two spreads as if the runs had nothing in common. Equal seeds have "
            "seen equal images: take differences first.",
        ),
        WrongAnswer(
            {"better - worse)": "better) + intervals(worse) * torch.tensor([-1, 1])"},
            "You added the two half widths. That asks whether the intervals overlap, which is "
            "another and much stricter question.",
        ),
        WrongAnswer(
            {"better - worse": "better.sort(dim=1).values - worse.sort(dim=1).values"},
            "You sorted both rows, so the best meets the best. Pairs are made by seed.",
        ),
    ),
    hints=(
        "What do two runs with the same seed have in common, and where does it cancel?",
        "Take differences first, one per seed; they are values like any others.",
        "intervals(better - worse)",
    ),
)


@task("13.3", "Resample the images", minutes=10, difficulty=3)
def resampled_interval(values: Tensor, draws: Tensor) -> Tensor:
    """The bootstrap: the middle 95 % of the means that other images would have given.

    Args:
        values: (I,) float64, one number per image.
        draws: (B, I) int64: B times I images, drawn with replacement.

    Returns:
        (2,) float64, lower and upper end; `torch.quantile` finds them.
    """
    # Step 1: B means, each of its own images
    means = values[draws].mean(dim=1)
    # Step 2: leave out 2.5 % of them at both ends
    return torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype))


def _draw_cases(generator: Generator) -> list[Case]:
    values = torch.tensor([0.0, 10.0], dtype=torch.float64)
    draws = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])  # by hand: means 0, 5, 5, 10
    several = _scores(generator, 1, 30)[0]
    random = torch.randint(0, 30, (200, 30), generator=generator)
    return [
        Case("two images, four draws", values, draws),
        Case("thirty images, 200 draws", several, random),
        Case("one image", values[1:], torch.zeros(3, 1, dtype=torch.int64)),
    ]


RESAMPLED = Exercise(
    solution=resampled_interval,
    reference=bootstrap_interval,
    make_cases=_draw_cases,
    wrong_answers=(
        WrongAnswer(
            {".mean(dim=1)": ".flatten()"},
            "These are quantiles of single images. Every draw of I images gives one mean; the "
            "means have a far smaller spread.",
        ),
        WrongAnswer(
            {"[0.025, 0.975]": "[0.05, 0.95]"},
            "You left out 5 % at both ends, which leaves 90 %. The middle 95 % begins at 2.5 %.",
        ),
        WrongAnswer(
            {"[0.025, 0.975]": "[0.0, 1.0]"},
            "You took the smallest and the largest mean. More draws would widen that forever.",
        ),
    ),
    hints=(
        "values[draws] has the shape (B, I). Which axis has the images of one draw?",
        "Take B means, sort them in your mind, and cut off 2.5 % at both ends.",
        "torch.quantile(values[draws].mean(dim=1), torch.tensor([0.025, 0.975], dtype=...))",
    ),
)


@task("13.4", "Which base is which?", minutes=15, difficulty=3)
def match(first: Tensor, second: Tensor) -> Tensor:
    """Pair the bases of two runs so that the sum of correlations is as large as possible.

    Args:
        first: (K, h, w) bases of one run, K at most 6.
        second: (K, h, w) of another run, for the same image.

    Returns:
        (K,) int64: base k of the first run belongs to base order[k] of the second.
    """
    K = len(first)
    # Step 1: subtract each base's mean, divide by its length: products become correlations
    one, other = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (first, second))
    correlations = one @ other.T / (one.norm(dim=1)[:, None] * other.norm(dim=1))
    # Step 2: try all orders (itertools.permutations) and keep the best
    orders = torch.tensor(list(itertools.permutations(range(K))))
    sums = correlations[torch.arange(K), orders].sum(dim=1)
    return orders[sums.argmax()]


def _match_cases(generator: Generator) -> list[Case]:
    # By hand: base 0 rises to the right, base 1 downwards. In the second run they are swapped,
    # scaled and shifted; scale and shift do not change correlations.
    right = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    bases = torch.stack([right, right.T])
    # The best partner of both bases is the same one; only one of them can have it.
    rival = torch.stack([right + 0.4 * right.T, 0.1 * right - right.T])
    first = torch.randn(4, 6, 8, generator=generator)
    # Correlations 0.9 and 0.8 for the first base, 0.8 and 0.2 for the second: the sum is larger if
    # the first takes its second-best partner. With products instead of correlations, it is not.
    axes = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
    sides = torch.tensor([[1.0, 0, 0], [0.638, 0.518, 0.57], [0.9, 0.436, 0], [0.8, -0.6, 0]])
    pair, others = (sides @ axes).view(2, 2, 2, 2)
    loud, shift = torch.tensor([[10.0, 1.0], [1.0, -1.0]])[..., None, None]
    # Three bases change places in a ring, so that the order is not its own inverse.
    ring = torch.tensor([1, 2, 0, 3]).roll(int(torch.randint(0, 4, (), generator=generator)))
    offsets = 40 * torch.randperm(4, generator=generator)[:, None, None]
    second = 3 * first[ring] + torch.randn(4, 6, 8, generator=generator) + offsets
    return [
        Case("two bases, exchanged", bases, 5 * bases.flip(0) + 7),
        Case("two bases that want one partner", torch.stack([right, right + 0.2 * right.T]), rival),
        Case("a base and its negative", bases, torch.stack([-bases[0], bases[0] + bases[1]])),
        Case("four bases in another order", first, second),
        Case("the same, the first runs' bases 10 and 1 times as strong", pair * loud, others),
        Case("the same, the second run's bases 10 and 1 times as strong", pair, others * loud),
        Case("the same, shifted up and down", pair + shift, others + shift),
        Case("one base", first[:1], second[:1]),
    ]


MATCH = Exercise(
    solution=match,
    reference=lambda first, second: match_bases([first], [second]).order,
    make_cases=_match_cases,
    result_axes="K",
    wrong_answers=(
        WrongAnswer(
            {"orders[sums.argmax()]": "correlations.argmax(dim=1)"},
            "Every base took the partner that it likes best, and two took the same one. The sum "
            "over all pairs should be largest, with each partner used once.",
        ),
        WrongAnswer(
            {"orders[sums.argmax()]": "(first.flatten(1) @ second.flatten(1).T).argmax(dim=1)"},
            "You compared products, not correlations: a base that is large everywhere wins against "
            "all. Subtract the means and divide by the lengths first.",
        ),
        WrongAnswer(
            {"orders].sum": "orders].abs().sum"},
            "A base was paired with a negative one. The blender's weights are positive, so a base "
            "and its negative do opposite things: the sign counts.",
        ),
        WrongAnswer(
            {"orders[sums.argmax()]": "orders[sums.argmax()].argsort()"},
            "This is the partner in the first run for each base of the second.",
        ),
    ),
    hints=(
        "Would the sum of products still find the partner if a base were shifted by 20?",
        "After centring and normalising, one @ other.T is the (K, K) matrix of correlations.",
        "For each order of itertools.permutations(range(K)) add correlations[k, order[k]]; return "
        "the order with the largest sum as an int64 tensor.",
    ),
)


EXERCISES = (INTERVALS, PAIRED, RESAMPLED, MATCH)
