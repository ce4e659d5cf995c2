"""Right answers to the exercises of chapter 14 in other styles."""

import statistics

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def merge_pixel_by_pixel(masks, scores, stuff, score_threshold, overlap, stuff_area):
    height, width = stuff.shape
    owner = [[0] * width for _ in range(height)]
    places = [(y, x) for y in range(height) for x in range(width)]
    for index in sorted(range(len(masks)), key=lambda i: -scores[i].item()):
        own = [(y, x) for y, x in places if masks[index, y, x]]
        free = [(y, x) for y, x in own if owner[y][x] == 0]
        if scores[index] < score_threshold or not free:
            continue
        if 1 - len(free) / len(own) <= overlap:
            for y, x in free:
                owner[y][x] = index + 1
    for kind in range(1, int(stuff.max()) + 1):
        free = [(y, x) for y, x in places if stuff[y, x] == kind and owner[y][x] == 0]
        if len(free) >= stuff_area:
            for y, x in free:
                owner[y][x] = len(masks) + kind
    return torch.tensor(owner)


def merge_with_where(masks, scores, stuff, score_threshold, overlap, stuff_area):
    things = torch.zeros(stuff.shape, dtype=torch.int64)
    for index in torch.argsort(-scores, stable=True):
        mask = masks[index]
        if scores[index] >= score_threshold and mask.any():
            covered = (mask & things.bool()).sum() / mask.sum()
            if covered <= overlap:
                things = torch.where(mask & ~things.bool(), index + 1, things)
    free = torch.where(things == 0, stuff, 0)
    counts = torch.bincount(free.flatten())
    has_room = (counts >= stuff_area) & (torch.arange(len(counts)) > 0)
    return torch.where(has_room[free], free + len(masks), things)


def merge_on_flat_masks(masks, scores, stuff, score_threshold, overlap, stuff_area):
    flat, kinds = masks.flatten(1), stuff.flatten()
    is_free = torch.ones_like(kinds, dtype=torch.bool)
    owner = kinds.new_zeros(kinds.shape)
    waiting = [(score, i) for i, score in enumerate(scores.tolist()) if score >= score_threshold]
    for _, i in sorted(waiting, key=lambda pair: (-pair[0], pair[1])):
        won = flat[i] & is_free
        num, num_won = flat[i].count_nonzero().item(), won.count_nonzero().item()
        if num_won and num - num_won <= overlap * num:
            owner[won] = i + 1
            is_free &= ~won
    for kind in kinds.unique():
        won = (kinds == kind) & is_free
        if kind > 0 and won.sum() >= stuff_area:
            owner.masked_fill_(won, len(flat) + kind.item())
    return owner.view_as(stuff)


def count_matches_by_a_histogram(true_ids, true_labels, found_ids, found_labels, num_classes):
    num_true, num_found = len(true_labels) + 1, len(found_labels) + 1
    pairs = (true_ids * num_found + found_ids).flatten()
    both = torch.bincount(pairs, minlength=num_true * num_found).view(num_true, num_found).double()
    of_true, of_found, void = both.sum(dim=1), both.sum(dim=0), both[0]
    union = of_true[1:, None] + (of_found - void)[1:] - both[1:, 1:]
    iou = both[1:, 1:] / union.clamp(min=1)
    is_match = (iou > 0.5) & (true_labels[:, None] == found_labels)
    counts = torch.zeros(num_classes, 4, dtype=torch.float64)
    counts[:, 0].index_add_(0, true_labels, (iou * is_match).sum(dim=1))
    counts[:, 1].index_add_(0, true_labels, is_match.sum(dim=1).double())
    counts[:, 3].index_add_(0, true_labels, (~is_match.any(dim=1)).double())
    is_alone = ~is_match.any(dim=0) & (void[1:] <= of_found[1:] / 2)
    counts[:, 2].index_add_(0, found_labels, is_alone.double())
    return counts


def count_matches_with_sets(true_ids, true_labels, found_ids, found_labels, num_classes):
    def segments(ids, num):
        places = [set() for _ in range(num + 1)]
        for place, number in enumerate(ids.flatten().tolist()):
            places[number].add(place)
        return places

    void, *true = segments(true_ids, len(true_labels))
    _, *found = segments(found_ids, len(found_labels))
    counts = [[0.0, 0, 0, 0] for _ in range(num_classes)]
    partners = set()
    for own, label in zip(true, true_labels.tolist(), strict=True):
        for f, other in enumerate(found):
            iou = len(own & other) / len((own | other) - void)
            if found_labels[f] == label and iou > 0.5:
                counts[label][0] += iou
                counts[label][1] += 1
                partners.add(f)
                break
        else:
            counts[label][3] += 1
    for f, label in enumerate(found_labels.tolist()):
        if f not in partners and len(found[f] & void) <= 0.5 * len(found[f]):
            counts[label][2] += 1
    return torch.tensor(counts, dtype=torch.float64)


def count_matches_by_matrix_products(true_ids, true_labels, found_ids, found_labels, num_classes):
    void = (true_ids == 0).flatten().double()
    true = (true_ids.flatten() == torch.arange(1, len(true_labels) + 1)[:, None]).double()
    found = (found_ids.flatten() == torch.arange(1, len(found_labels) + 1)[:, None]).double()
    both = true @ found.T
    area, void_area = found.sum(dim=1), found @ void
    iou = both / (true.sum(dim=1, keepdim=True) + area - void_area - both)
    iou = torch.where((iou > 0.5) & true_labels[:, None].eq(found_labels), iou, 0.0)
    rows = []
    for c in range(num_classes):
        own = iou[true_labels == c]
        alone = (iou[:, found_labels == c] == 0).all(dim=0)
        counted = alone & (void_area / area <= 0.5)[found_labels == c]
        rows.append([own.sum(), (own > 0).sum(), counted.sum(), (own == 0).all(dim=1).sum()])
    return torch.tensor(rows, dtype=torch.float64)


def average_quality_in_plain_loops(counts):
    rows = []
    for iou_sum, matched, unmatched, missed in counts.tolist():
        if matched + unmatched + missed == 0:
            continue
        segmentation = iou_sum / matched if matched else 0.0
        recognition = matched / (matched + 0.5 * unmatched + 0.5 * missed)
        rows.append((segmentation * recognition, segmentation, recognition))
    means = [100 * statistics.fmean(column) for column in zip(*rows, strict=True)]
    return torch.tensor(means, dtype=torch.float64)


def average_quality_with_nan(counts):
    half = counts @ torch.tensor([0, 1, 0.5, 0.5], dtype=torch.float64)
    occurs = half > 0
    pq = counts[:, 0] / half  # nan without a segment
    sq = torch.where(occurs, (counts[:, 0] / counts[:, 1]).nan_to_num(0.0), torch.nan)
    return torch.stack([pq, sq, counts[:, 1] / half], dim=1).nanmean(dim=0) * 100


def average_quality_by_masking(counts):
    iou_sum, matched, unmatched, missed = counts.unbind(dim=1)
    occurs = (counts[:, 1:] != 0).any(dim=1)
    sq, rq = torch.zeros_like(iou_sum), torch.zeros_like(iou_sum)
    sq[matched > 0] = iou_sum[matched > 0] / matched[matched > 0]
    rq[occurs] = (2 * matched / (2 * matched + unmatched + missed))[occurs]
    return torch.stack([(sq * rq).sum(), sq.sum(), rq.sum()]) / occurs.sum() * 100


def panoptic_quality_with_dictionaries(images, limits, num_things, num_stuff):
    totals = {label: [0.0, 0, 0, 0] for label in range(num_things + num_stuff)}
    for masks, scores, labels, stuff, true_ids, true_labels in images:
        owner = merge_pixel_by_pixel(masks, scores, stuff, *limits)
        numbers = sorted(set(owner.flatten().tolist()) - {0})
        new_number = {0: 0} | {old: new for new, old in enumerate(numbers, start=1)}
        ids = owner.clone().apply_(new_number.__getitem__)
        num = len(masks)
        classes = [
            labels[old - 1].item() if old <= num else num_things + old - num - 1 for old in numbers
        ]
        table = count_matches_with_sets(
            true_ids, true_labels, ids, torch.tensor(classes, dtype=torch.int64), len(totals)
        )
        for label, row in enumerate(table.tolist()):
            totals[label] = [old + new for old, new in zip(totals[label], row, strict=True)]
    counts = torch.tensor(list(totals.values()), dtype=torch.float64)
    things = torch.arange(len(counts)) < num_things
    parts = [counts, counts[things], counts[~things]]
    return torch.stack([average_quality_in_plain_loops(part) for part in parts])


def panoptic_quality_with_inverse_indices(images, limits, num_things, num_stuff):
    def count(masks, scores, labels, stuff, true_ids, true_labels):
        owner = merge_with_where(masks, scores, stuff, *limits)
        numbers, ids = torch.cat([owner.new_zeros(1), owner.flatten()]).unique(return_inverse=True)
        table = torch.cat([labels, num_things + torch.arange(num_stuff)])
        found = table[numbers[1:] - 1]
        ids = ids[1:].view_as(owner)
        return count_matches_by_matrix_products(
            true_ids, true_labels, ids, found, num_things + num_stuff
        )

    counts = torch.stack([count(*image) for image in images]).sum(dim=0)
    things, stuff = counts.split([num_things, num_stuff])
    return torch.stack([average_quality_with_nan(part) for part in (counts, things, stuff)])


def panoptic_quality_of_segments_one_by_one(images, limits, num_things, num_stuff):
    iou_sum, matched, unmatched, missed = torch.zeros(4, num_things + num_stuff).double()
    for masks, scores, labels, stuff, true_ids, true_labels in images:
        owner = merge_on_flat_masks(masks, scores, stuff, *limits)
        every = [*labels.tolist(), *range(num_things, num_things + num_stuff)]
        left = dict(enumerate(true_labels.tolist(), start=1))
        for number, label in enumerate(every, start=1):
            mine = owner == number
            if not mine.any():
                continue
            partner = 0
            for t in left:
                true = true_ids == t
                iou = (mine & true).sum() / (mine & (true_ids > 0) | true).sum()
                if left[t] == label and iou > 0.5:
                    partner = t
                    iou_sum[label] += iou
            if partner:
                matched[label] += 1
                del left[partner]
            elif (true_ids[mine] == 0).double().mean() <= 0.5:
                unmatched[label] += 1
        for label in left.values():
            missed[label] += 1
    counts = torch.stack([iou_sum, matched, unmatched, missed], dim=1)
    slices = slice(None), slice(num_things), slice(num_things, None)
    return torch.stack([average_quality_by_masking(counts[each]) for each in slices])


def head_cost_in_plain_loops(num_objects, channels, num_convs, size):
    costs = []
    for num in num_objects.tolist():
        cost = 0
        for _ in range(num):
            cost += num_convs * size * size * 3 * 3 * channels * channels
            cost += 4 * size * size * channels * (channels + 1)
        costs.append(cost)
    return torch.tensor(costs)


def head_cost_factored(num_objects, channels, num_convs, size):
    return num_objects * (size**2 * channels * (channels * (9 * num_convs + 4) + 4))


def head_cost_counted_by_torch(num_objects, channels, num_convs, size):
    with torch.device("meta"):
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs)]
        head = nn.Sequential(
            *convs, nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.Conv2d(channels, 1, 1)
        )
        crop = torch.zeros(1, channels, size, size)
    with FlopCounterMode(display=False) as counter:
        head(crop)
    return num_objects * (counter.get_total_flops() // 2)
