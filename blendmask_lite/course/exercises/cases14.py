"""Chapter 14: what its exercises are judged by, and the cases that answers are tried on."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case
from blendmask_lite.datasets.panoptic import TrueSegment, TrueSegments
from blendmask_lite.evaluation.panoptic import count_segments
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.model.panoptic import merge_things_and_stuff
from blendmask_lite.research.costs import mask_head_cost
from blendmask_lite.structures import Detections

__all__ = [
    "cost_cases",
    "match_cases",
    "merge_cases",
    "quality_cases",
    "reference_average_quality",
    "reference_count_matches",
    "reference_head_cost",
    "reference_merge",
]


# 14.1


def reference_merge(
    masks: Tensor,
    scores: Tensor,
    stuff: Tensor,
    score_threshold: float,
    overlap: float,
    stuff_area: int,
) -> Tensor:
    """The package's merge; see `ch14.merge`."""
    num, (height, width) = len(masks), stuff.shape
    found = Detections(
        boxes=torch.zeros(num, 4),
        scores=scores,
        labels=torch.zeros(num, dtype=torch.int64),
        masks=masks,
        mask_logits=torch.zeros(num, 1, 1),
        location_index=torch.zeros(num, dtype=torch.int64),
        proposal_boxes=torch.zeros(num, 4),
        image_size=(height, width),
    )
    merged = merge_things_and_stuff(
        found, stuff, score_threshold=score_threshold, overlap=overlap, stuff_area=stuff_area
    )
    owner = torch.zeros_like(stuff)
    for each in merged.segments:
        index = each.instance_index
        owner[merged.ids == each.id] = num + each.label if index is None else index + 1
    return owner


def merge_cases(generator: Generator) -> list[Case]:
    """Two objects by hand, six at random, none."""
    # By hand: the second object is the best and takes rows 0 and 1; the first keeps row 2 only,
    # half of its mask is covered. Of the stuff row 3 is left.
    masks = torch.zeros(2, 4, 3, dtype=torch.bool)
    masks[0, 1:3], masks[1, 0:2] = True, True
    stuff = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 0, 0], [2, 2, 1]])
    scores = torch.tensor([0.6, 0.9])
    several = _rectangles(generator, 6, 12, 16) | _rectangles(generator, 6, 12, 16)
    random = torch.rand(6, generator=generator)
    kinds = _ids(_rectangles(generator, 3, 12, 16))
    return [
        Case("two objects, half of one is covered: kept", (masks, scores, stuff, 0.3, 0.5, 1)),
        Case("the same with overlap 0.4: left out", (masks, scores, stuff, 0.3, 0.4, 1)),
        Case("the same with stuff of 2 pixels or more", (masks, scores, stuff, 0.3, 0.5, 2)),
        Case("six objects, 12 x 16 pixels", (several, random, kinds, 0.2, 0.4, 12)),
        Case("no object", (masks[:0], scores[:0], stuff, 0.3, 0.5, 1)),
    ]


# 14.2


def reference_count_matches(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    """The evaluation's counts; see `ch14.count_matches`."""
    segments = [TrueSegment(n, label) for n, label in enumerate(true_labels.tolist(), start=1)]
    categories = [{"id": n, "name": str(n), "isthing": 1} for n in range(num_classes)]
    found = dict(enumerate(found_labels.tolist(), start=1))
    counted = count_segments(TrueSegments(true_ids, tuple(segments)), found_ids, found, categories)
    counts = torch.zeros(num_classes, 4, dtype=torch.float64)
    for label, each in counted.items():
        row = [each.iou_sum, each.matched, each.unmatched, each.missed]
        counts[label] = torch.tensor(row, dtype=torch.float64)
    return counts


def match_cases(generator: Generator) -> list[Case]:
    """Three pictures by hand, one at random, nothing found, nothing true."""
    # By hand: segment 1 has 6 pixels, 4 of them found; a fifth found one is void: IoU 4/6.
    # Segments 2 share 2 of 4 pixels that are not void, which is not above 1/2. Half of the second
    # found one is void, so it is held against the model; the third is void as a whole.
    true = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [2, 2, 2, 2], [0, 0, 0, 0]])
    found = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 2, 2], [3, 3, 2, 2]])
    labels = torch.tensor([0, 1])
    shifted = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 2, 2, 2], [0, 3, 3, 3]])
    nothing = torch.zeros(4, 4, dtype=torch.int64)
    big, big_labels = _segments(generator, 7, 20, 24)
    moved = big.roll(int(torch.randint(1, 3, (), generator=generator)), dims=1)
    moved_labels = big_labels.clone()
    moved_labels[0] = (moved_labels[0] + 1) % 3
    big = torch.where(torch.arange(24) < 4, 0, big)
    kept, big = big.unique(return_inverse=True)
    big_labels = big_labels[kept[kept > 0] - 1]
    return [
        Case(
            "two true segments, three found, some void",
            (true, labels, found, torch.tensor([0, 1, 1]), 2),
        ),
        Case("classes exchanged", (true, labels, found, torch.tensor([1, 0, 0]), 2)),
        Case("all a little off", (true, labels, shifted, torch.tensor([0, 1, 0]), 2)),
        Case("random segments of three classes", (big, big_labels, moved, moved_labels, 3)),
        Case("nothing found", (true, labels, nothing, labels[:0], 2)),
        Case("nothing true, all void", (nothing, labels[:0], found, torch.tensor([0, 1, 1]), 2)),
    ]


# 14.3


def reference_average_quality(counts: Tensor) -> Tensor:
    """The evaluation's averages; see `ch14.average_quality`."""
    classes = {}
    for number, (iou_sum, *numbers) in enumerate(counts.tolist()):
        classes[str(number)] = SegmentCounts(iou_sum, *(int(each) for each in numbers))
    quality = PanopticQuality(thing_classes=classes, stuff_classes={}, num_images=1).all
    return torch.tensor([quality[name] for name in ("PQ", "SQ", "RQ")], dtype=torch.float64)


def quality_cases(generator: Generator) -> list[Case]:
    """Two classes by hand, one that does not occur, six at random, no match."""
    # By hand: the first class has SQ 0.8 and RQ 2 / (2 + 1) = 2/3, the second SQ 1 and RQ 1.
    two = torch.tensor([[1.6, 2, 1, 1], [1, 1, 0, 0]], dtype=torch.float64)
    absent = torch.cat([two, torch.zeros(1, 4, dtype=torch.float64)])
    random = torch.randint(0, 9, (6, 4), generator=generator).double()
    random[:, 0] = random[:, 1] * (0.5 + 0.5 * torch.rand(6, generator=generator).double())
    random[:, 2] += 1
    return [
        Case("two classes", (two,)),
        Case("and a third that does not occur", (absent,)),
        Case("six classes", (random,)),
        Case("nothing matches", (torch.tensor([[0.0, 0, 2, 3]], dtype=torch.float64),)),
    ]


# 14.4


def reference_head_cost(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    """Torchvision's layers, counted; see `ch14.head_cost`."""
    settings = {"channels": channels, "num_convs": num_convs, "size": size, "classes": 1}
    one = mask_head_cost(1, **settings)
    return torch.tensor([n * one for n in num_objects.tolist()], dtype=torch.int64)


def cost_cases(generator: Generator) -> list[Case]:
    """One of everything by hand, Mask R-CNN's head, another one, no object."""
    random = torch.randint(1, 100, (5,), generator=generator)
    return [
        Case("one object, one channel, one convolution, one cell", (torch.tensor([1]), 1, 1, 1)),
        Case("Mask R-CNN's head, five pictures", (random, 256, 4, 14)),
        Case("another head", (random, 64, 2, 7)),
        Case("no object", (torch.tensor([0]), 256, 4, 14)),
    ]


def _rectangles(generator: Generator, num: int, height: int, width: int) -> Tensor:
    """(num, height, width) bool, a rectangle each."""
    masks = torch.zeros(num, height, width, dtype=torch.bool)
    for mask in masks:
        y, x = (
            int(torch.randint(0, side - 5, (), generator=generator)) for side in (height, width)
        )
        h, w = torch.randint(3, 9, (2,), generator=generator).tolist()
        mask[y : y + h, x : x + w] = True
    return masks


def _ids(masks: Tensor) -> Tensor:
    """(H, W) int64: the number of the last mask at each pixel, from 1; 0 without one."""
    numbers = torch.arange(1, len(masks) + 1)[:, None, None]
    return (masks * numbers).amax(dim=0)


def _segments(generator: Generator, num: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(H, W) ids that cover all pixels, numbered without gaps, and a class of three for each."""
    kept, ids = _ids(_rectangles(generator, num, height, width)).unique(return_inverse=True)
    return ids + 1, torch.randint(0, 3, (len(kept),), generator=generator)
