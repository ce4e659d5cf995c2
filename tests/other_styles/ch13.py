"""Right answers to the exercises of chapter 13 in other styles."""

import itertools
import math
import statistics

import numpy as np
import torch
from torch.nn import functional as F

from blendmask_lite.research.ablations.report import T_VALUES


def intervals_in_plain_loops(values):
    rows = []
    for row in values.tolist():
        half_width = T_VALUES[len(row)] * statistics.stdev(row) / math.sqrt(len(row))
        rows.append((statistics.mean(row), half_width))
    return torch.tensor(rows, dtype=torch.float64)


def intervals_by_sums_of_squares(values):
    num = values.size(1)
    mean = torch.einsum("ns->n", values) / num
    variance = (values - mean[:, None]).pow(2).sum(dim=1) / (num - 1)
    result = values.new_zeros(len(values), 2)
    result[:, 0], result[:, 1] = mean, T_VALUES[num] * (variance / num).sqrt()
    return result


def intervals_by_numpy(values):
    array = values.numpy()
    error = array.std(axis=1, ddof=1) / np.sqrt(array.shape[1])
    return torch.from_numpy(np.column_stack([array.mean(axis=1), T_VALUES[len(array.T)] * error]))


def paired_intervals_in_plain_loops(better, worse):
    result = torch.zeros(len(better), 2, dtype=torch.float64)
    for n in range(len(better)):
        differences = [b - w for b, w in zip(better[n].tolist(), worse[n].tolist(), strict=True)]
        result[n, 0] = sum(differences) / len(differences)
        spread = statistics.stdev(differences)
        result[n, 1] = T_VALUES[len(differences)] * spread / len(differences) ** 0.5
    return result


def paired_intervals_by_numpy(better, worse):
    difference = np.subtract(better.numpy(), worse.numpy())
    num = difference.shape[1]
    half_width = T_VALUES[num] * difference.std(1, ddof=1) / num**0.5
    return torch.tensor(np.stack([difference.mean(1), half_width], axis=1))


def paired_intervals_by_covariance(better, worse):
    """The variance of a difference from the variances and the covariance of both."""
    num, rows = better.shape[1], []
    for one, other in zip(better, worse, strict=True):
        covariance = torch.cov(torch.stack([one, other]))
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        half_width = T_VALUES[num] * (variance.clamp(min=0) / num).sqrt()
        rows.append(torch.stack([one.mean() - other.mean(), half_width]))
    return torch.stack(rows)


def resampled_interval_in_plain_loops(values, draws):
    values, means = values.tolist(), []
    for draw in draws.tolist():
        means.append(sum(values[i] for i in draw) / len(draw))
    means.sort()
    ends = []
    for share in (0.025, 0.975):
        place = share * (len(means) - 1)
        first = int(place)
        second = min(first + 1, len(means) - 1)
        ends.append(means[first] + (place - first) * (means[second] - means[first]))
    return torch.tensor(ends, dtype=torch.float64)


def resampled_interval_by_numpy(values, draws):
    means = np.take(values.numpy(), draws.numpy()).mean(axis=1)
    return torch.from_numpy(np.percentile(means, [2.5, 97.5]))


def resampled_interval_by_counting(values, draws):
    counts = F.one_hot(draws, len(values)).sum(dim=1).double()
    means = counts @ values / draws.shape[1]
    return torch.stack([means.quantile(0.025), means.quantile(0.975)])


def match_in_plain_loops(first, second):
    def correlation(a, b):
        a, b = a.flatten().tolist(), b.flatten().tolist()
        return statistics.correlation(a, b)

    table = [[correlation(a, b) for b in second] for a in first]
    best, chosen = -math.inf, ()
    for order in itertools.permutations(range(len(first))):
        total = sum(table[k][partner] for k, partner in enumerate(order))
        if total > best:
            best, chosen = total, order
    return torch.tensor(chosen)


def match_by_corrcoef(first, second):
    num = len(first)
    table = torch.corrcoef(torch.cat([first, second]).flatten(1))[:num, num:]
    orders = list(itertools.permutations(range(num)))
    totals = [table[range(num), order].sum() for order in orders]
    return torch.tensor(orders[int(torch.stack(totals).argmax())])


def match_with_matrices_of_permutations(first, second):
    def normalised(bases):
        rows = bases.double().flatten(1)
        return F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)

    table = torch.einsum("ip,jp->ij", normalised(first), normalised(second))
    num = len(first)
    orders = torch.tensor(list(itertools.permutations(range(num)))).reshape(-1, num)
    totals = (F.one_hot(orders, num) * table).sum(dim=(1, 2))
    return orders[totals.max(dim=0).indices]


def match_by_recursion(first, second):
    def best(k, free):
        """Largest sum for the bases from k on, and its partners among `free`."""
        if k == len(first):
            return 0.0, []
        options = []
        for partner in free:
            total, rest = best(k + 1, [f for f in free if f != partner])
            options.append((total + table[k][partner], [partner, *rest]))
        return max(options)

    one, other = (x.flatten(1) - x.mean(dim=(1, 2))[:, None] for x in (first, second))
    table = F.cosine_similarity(one[:, None], other[None], dim=2).tolist()
    return torch.tensor(best(0, list(range(len(second))))[1])
