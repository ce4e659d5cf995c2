"""Exercises of chapter 05: decoding, suppression, average precision, the head, a detector."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torchvision.ops import box_iou

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.exercises.fcos_head import HEAD
from blendmask_lite.evaluation import one_class
from blendmask_lite.model.fcos import select_candidates, suppress
from blendmask_lite.research import detector

__all__ = ["EXERCISES"]


@task("05.1", "Decode: boxes and scores", minutes=10, difficulty=1)
def decode(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    """Turn what the head predicts at each location into a box and C scores.

    Args:
        locations: (L, 2) as (x, y), pixels; L may be 0.
        ltrb: (L, 4) distances to the left, top, right and bottom side, pixels.
        class_logits: (L, C).
        centerness_logits: (L,).

    Returns:
        (L, 4 + C): x0, y0, x1, y1 in pixels, then for every class the square root of its
        probability times the centerness.
    """
    # Step 1: two corners, above left and below right
    top_left = locations - ltrb[:, :2]
    bottom_right = locations + ltrb[:, 2:]
    # Step 2: logits to probabilities, and the score of every class
    products = class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]
    return torch.cat([top_left, bottom_right, products.sqrt()], dim=1)


def _reference_decode(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    num, num_classes = class_logits.shape
    every = select_candidates(
        class_logits,
        ltrb,
        centerness_logits,
        locations,
        [num],
        score_threshold=-1.0,
        max_per_level=num * num_classes,
    )
    scores = class_logits.new_zeros(num, num_classes)
    scores[every.location_index, every.labels] = every.scores
    boxes = ltrb.new_zeros(num, 4)
    boxes[every.location_index] = every.boxes
    return torch.cat([boxes, scores], dim=1)


def _decode_cases(generator: Generator) -> list[Case]:
    # 20 and 30 px wide and high; probabilities 1/2 and 0.8, centerness 1/2: scores 0.5 and 0.632.
    by_hand = (
        torch.tensor([[40.0, 60.0]]),
        torch.tensor([[5.0, 10.0, 15.0, 20.0]]),
        torch.tensor([[0.0, 1.3863]]),
        torch.tensor([0.0]),
    )
    return [
        Case("one location, two classes", *by_hand),
        Case("six locations, eight classes", *_predictions(generator, 6, 8)),
        Case("no location", *_predictions(generator, 0, 8)),
    ]


def _predictions(generator: Generator, num: int, num_classes: int) -> tuple[Tensor, ...]:
    """Locations, distances, class logits and centerness logits at `num` locations."""
    return (
        torch.rand(num, 2, generator=generator) * 128,
        4 + torch.rand(num, 4, generator=generator) * 30,
        torch.randn(num, num_classes, generator=generator) * 3,
        torch.randn(num, generator=generator) * 2,
    )


DECODE = Exercise(
    solution=decode,
    reference=_reference_decode,
    make_cases=_decode_cases,
    result_axes="L, 4 + C",
    wrong_answers=(
        WrongAnswer(
            {"locations - ltrb": "locations + ltrb"},
            "You added all four distances. The left and the upper side have smaller x and y than "
            "the location.",
        ),
        WrongAnswer(
            {".sqrt()": ""},
            "The product is right, but the score is its square root. Otherwise 0.7 and 0.7 would "
            "score 0.49.",
        ),
        WrongAnswer(
            {"class_logits.sigmoid()": "class_logits.softmax(dim=1)"},
            "You passed the classes through a softmax. In FCOS every class has a sigmoid of its "
            "own, and none stands for background.",
        ),
        WrongAnswer(
            {" * centerness_logits.sigmoid()[:, None]": ""},
            "The centerness is missing: boxes of locations near an edge would score as high as "
            "those at the center.",
        ),
    ),
    hints=(
        "Which two of the four distances are subtracted, and which are added?",
        "torch.cat of the corners; class probabilities (L, C) times centerness (L, 1).",
        "(class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]).sqrt()",
    ),
)


@task("05.2", "Greedy suppression", minutes=15, difficulty=3)
def keep_greedily(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """The best box removes those that overlap it, then the best of the rest does, and so on.

    Args:
        boxes: (N, 4) corners, pixels; N may be 0.
        scores: (N,).
        labels: (N,) classes; boxes of different classes do not remove each other.
        iou_threshold: a box is removed if its IoU with a kept one is larger.

    Returns:
        (N,) bool: which boxes are kept.
    """
    iou = box_iou(boxes, boxes)
    is_kept = torch.zeros(len(boxes), dtype=torch.bool)
    # Step 1: go through the boxes from the best to the worst
    # Step 2: keep each, unless a box kept earlier removes it
    for index in scores.argsort(descending=True).tolist():
        rivals = is_kept & (labels == labels[index])
        is_kept[index] = not (iou[index, rivals] > iou_threshold).any()
    return is_kept


def _suppression_cases(generator: Generator) -> list[Case]:
    # A row of boxes of 10 px, 2 px apart: neighbours have an IoU of 2/3, the next but one of 3/7.
    # The boxes are not sorted, and the last one has another class.
    left = torch.tensor([4.0, 2.0, 0.0, 1.0])
    chain = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    by_hand = (chain, torch.tensor([0.7, 0.8, 0.9, 0.6]), torch.tensor([0, 0, 0, 1]), 0.5)

    halves = torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    limit = halves, torch.tensor([0.9, 0.8]), torch.tensor([0, 0])

    def drawn(num: int) -> tuple[Tensor, ...]:
        corner = torch.rand(num, 2, generator=generator) * 60
        size = 10 + 30 * torch.rand(num, 2, generator=generator)
        labels = torch.randint(0, 3, (num,), generator=generator)
        scores = torch.randperm(num, generator=generator) / max(num, 1)  # all different
        return torch.cat([corner, corner + size], dim=1), scores, labels

    return [
        Case("four boxes, two classes", *by_hand),
        Case("two boxes with an IoU of exactly 0.5", *limit, 0.5),
        Case("200 boxes, three classes, above 0.4", *drawn(200), 0.4),
        Case("200 boxes, three classes, above 0.6", *drawn(200), 0.6),
        Case("no box", *drawn(0), 0.6),
    ]


GREEDY = Exercise(
    solution=keep_greedily,
    reference=lambda boxes, scores, labels, iou_threshold: (
        detector.greedy_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept
    ),
    make_cases=_suppression_cases,
    result_axes="N",
    wrong_answers=(
        WrongAnswer(
            {"is_kept & (labels": "(scores > scores[index]) & (labels"},
            "Removed boxes still remove others: a box goes although it overlaps no kept one. That "
            "is Fast NMS, the next exercise.",
        ),
        WrongAnswer(
            {" & (labels == labels[index])": ""},
            "Boxes of different classes remove each other. A mug in front of a ring is two "
            "objects.",
        ),
        WrongAnswer(
            {"scores.argsort(descending=True).tolist()": "range(len(scores))"},
            "You took the boxes in the given order, not from the best score down.",
        ),
    ),
    hints=(
        "Which boxes may remove a box: all better ones, or only those that were kept?",
        "Start with is_kept all False, and go through scores.argsort(descending=True).",
        "A box stays if no kept box of its class has box_iou above the threshold with it.",
    ),
)


@task("05.3", "Fast NMS, without a loop", minutes=10, difficulty=3)
def keep_fast(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """A box is removed by any better one that overlaps it, even by one that is removed itself.

    Args:
        boxes: (N, 4) corners, pixels; N may be 0.
        scores: (N,), all different.
        labels: (N,) classes; boxes of different classes do not remove each other.
        iou_threshold: a box is removed if its IoU with a better one is larger.

    Returns:
        (N,) bool: which boxes are kept. No loop.
    """
    # Step 1: (N, N) bool, whether row i is better than column j and of the same class
    is_rival = (scores[:, None] > scores) & (labels[:, None] == labels)
    # Step 2: which columns have a rival with too much overlap
    removes = is_rival & (box_iou(boxes, boxes) > iou_threshold)
    return ~removes.any(dim=0)


FAST = Exercise(
    solution=keep_fast,
    reference=lambda boxes, scores, labels, iou_threshold: (
        detector.fast_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept
    ),
    make_cases=_suppression_cases,
    result_axes="N",
    wrong_answers=(
        WrongAnswer(
            keep_greedily,
            "This is greedy suppression. In Fast NMS, removed boxes remove others, too.",
        ),
        WrongAnswer(
            {" & (labels[:, None] == labels)": ""},
            "Boxes of different classes remove each other; compare the labels of each pair, too.",
        ),
        WrongAnswer(
            {"any(dim=0)": "any(dim=1)"},
            "Worse boxes remove better ones. Rows remove, columns are removed: take `any` over "
            "dim=0.",
        ),
        WrongAnswer(
            {"scores[:, None] > scores": "torch.ones(len(scores), len(scores)).triu(1) > 0"},
            "The upper triangle has the better box only if boxes are sorted by score; these are "
            "not.",
        ),
    ),
    hints=(
        "One (N, N) matrix holds all pairs. Which of them may remove?",
        "scores[:, None] > scores says for every pair whether the row is better.",
        "Combine: better, same class, large IoU. Columns without a True are kept.",
    ),
)


@task("05.4", "Average precision at one IoU", minutes=20, difficulty=3)
def average_precision(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    """The mean, over levels of recall, of the best precision at this or a higher recall.

    Args:
        is_right: (D,) bool, for the detections of all images from the best score to the worst:
            whether it found an object that no better one had found. D may be 0.
        num_objects: number of true objects, at least 1.
        recalls: (T,) float64 levels, ascending; COCO takes 0, 0.01, ..., 1.

    Returns:
        Scalar, computed in float64. A level that is never reached counts as 0.
    """
    # Step 1: precision and recall after the best 1, 2, ... detections
    num_right = is_right.double().cumsum(dim=0)
    precision = num_right / torch.arange(1, len(is_right) + 1)
    recall = num_right / num_objects
    # Step 2: for every level, the best precision of all points that reach it
    reaches = recall >= recalls[:, None]  # (T, D)
    best = torch.cat([recalls.new_zeros(len(recalls), 1), reaches * precision], dim=1).amax(dim=1)
    return best.mean()


def _precision_cases(generator: Generator) -> list[Case]:
    by_hand = torch.tensor([True, False, True])  # 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2
    quarters = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)

    def some(num: int, share: float) -> Tensor:
        falling = torch.linspace(1.0, share, num)  # better scores are right more often
        return torch.rand(num, generator=generator) < falling

    coco = one_class.COCO_RECALLS
    return [
        Case("three detections, four objects, levels in quarters", by_hand, 4, quarters),
        Case("40 detections, 37 objects, COCO's levels", some(40, 0.1), 37, coco),
        Case("300 detections, 211 objects, COCO's levels", some(300, 0.2), 211, coco),
        Case("no detection", some(0, 0.0), 5, coco),
    ]


PRECISION = Exercise(
    solution=average_precision,
    reference=one_class.average_precision,
    make_cases=_precision_cases,
    tolerance=1e-9,
    wrong_answers=(
        WrongAnswer(
            {"reaches * precision": "(reaches & (reaches.cumsum(dim=1) == 1)) * precision"},
            "You took the precision where a level is first reached. COCO takes the best precision "
            "from there on, the envelope of the curve.",
        ),
        WrongAnswer(
            {"best.mean()": "(precision * is_right).sum() / num_objects"},
            "You averaged the precision at each right detection, without levels and envelope. That "
            "is close to COCO's number, but not equal.",
        ),
        WrongAnswer(
            {"best.mean()": "best.sum() / (best > 0).sum().clamp(min=1)"},
            "You left out levels of recall that are never reached. They count as 0, or missing "
            "objects would cost nothing.",
        ),
        WrongAnswer(
            {"/ num_objects": "/ num_right[-1:].clamp(min=1)"},
            "You divided recall by the objects that were found. Divide by all true objects, "
            "including the missed ones.",
        ),
    ),
    hints=(
        "After the best d detections: how many are right, and how many objects are there?",
        "is_right.double().cumsum(0) is divided by 1, 2, 3, ... and by num_objects.",
        "Of all points with recall >= level take the largest precision, or 0; then the mean.",
    ),
)


@task("05.6", "A detector of your own pieces", minutes=30, difficulty=4)
def find_boxes(
    locations: Tensor,
    ltrb: Tensor,
    class_logits: Tensor,
    centerness_logits: Tensor,
    threshold: float,
    iou_threshold: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the objects of one image: from what the head predicts to boxes.

    Args:
        locations: (L, 2) as (x, y), pixels.
        ltrb: (L, 4) distances to the sides, pixels.
        class_logits: (L, C).
        centerness_logits: (L,).
        threshold: a pair (location, class) needs a probability times centerness above it: the
            square of your score.
        iou_threshold: of your greedy suppression.
        most: number of boxes to keep, the best ones.

    Returns:
        Boxes (N, 4), scores (N,), classes (N,) int64 and locations (N,) int64 as places from 0 to
        L - 1, best first; N may be 0. Only the best 1,000 pairs enter the suppression.
    """
    # Step 1: the boxes, and the scores of all pairs (location, class)
    decoded = decode(locations, ltrb, class_logits, centerness_logits)
    boxes, scores = decoded[:, :4], decoded[:, 4:]
    # Step 2: the pairs above the threshold, best first, 1,000 at the most
    place, label = (scores.square() > threshold).nonzero().unbind(dim=1)
    order = scores[place, label].argsort(descending=True)[:1000]
    place, label = place[order], label[order]
    # Step 3: suppress, and keep the best of the rest
    is_kept = keep_greedily(boxes[place], scores[place, label], label, iou_threshold)
    place, label = place[is_kept][:most], label[is_kept][:most]
    return boxes[place], scores[place, label], label, place


def _reference_find_boxes(
    locations: Tensor,
    ltrb: Tensor,
    class_logits: Tensor,
    centerness_logits: Tensor,
    threshold: float,
    iou_threshold: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    candidates = select_candidates(
        class_logits,
        ltrb,
        centerness_logits,
        locations,
        [len(locations)],
        score_threshold=threshold,
        max_per_level=1000,
    )
    found = suppress(candidates, nms_iou=iou_threshold, max_detections=most)
    return found.boxes, found.scores, found.labels, found.location_index


def _detector_cases(generator: Generator) -> list[Case]:
    # Two locations 2 px apart see one object each of two classes; the better one has class 1.
    by_hand = (
        torch.tensor([[40.0, 60.0], [42.0, 60.0]]),
        torch.tensor([[10.0, 10.0, 10.0, 10.0], [12.0, 10.0, 8.0, 10.0]]),
        torch.tensor([[-9.0, 1.0], [0.5, 2.0]]),
        torch.tensor([1.0, 2.0]),
    )
    many = _predictions(generator, 400, 3)
    at_limit = by_hand[0][:1], by_hand[1][:1], torch.zeros(1, 2), torch.zeros(1)
    return [
        Case("two locations, two classes", *by_hand, 0.05, 0.6, 100),
        Case("60 locations, three classes", *_predictions(generator, 60, 3), 0.3, 0.6, 100),
        Case("the best ten of 60", *_predictions(generator, 60, 3), 0.05, 0.05, 10),
        Case("1,200 pairs that do not touch each other", *many, 0.0, 1.0, 5000),
        Case("exactly at the threshold, 1/2 * 1/2", *at_limit, 0.25, 0.6, 100),
        Case("nothing above the threshold", *_predictions(generator, 20, 3), 1.0, 0.6, 100),
    ]


DETECTOR = Exercise(
    solution=find_boxes,
    reference=_reference_find_boxes,
    make_cases=_detector_cases,
    result_axes="N",
    result_names=("boxes", "scores", "classes", "locations"),
    wrong_answers=(
        WrongAnswer(
            {"scores.square() >": "scores >"},
            "You compared the score with the threshold. It is meant for the probability times the "
            "centerness, the score's square.",
        ),
        WrongAnswer(
            {
                "place, label = (scores.square() > threshold).nonzero().unbind(dim=1)": (
                    "best, label = scores.max(dim=1)\n"
                    "    place = (best.square() > threshold).nonzero()[:, 0]\n"
                    "    label = label[place]"
                )
            },
            "You took only the best class of every location. Each pair (location, class) above the "
            "threshold is a candidate of its own.",
        ),
        WrongAnswer(
            {"[is_kept][:most]": "[:most][is_kept[:most]]"},
            "You cut the list before the suppression. Keep the best `most` of what it leaves.",
        ),
        WrongAnswer(
            {"label, iou_threshold": "label * 0, iou_threshold"},
            "Boxes of different classes removed each other. Hand the labels to your suppression.",
        ),
    ),
    hints=(
        "decode gives L boxes and L * C scores. How do you get pairs (location, class) from these?",
        "(scores.square() > threshold).nonzero() has a row (location, class) for each pair; sort "
        "them with argsort(descending=True).",
        "is_kept = keep_greedily(boxes[place], scores[place, label], label, iou_threshold), then "
        "place[is_kept][:most].",
    ),
)


EXERCISES = (DECODE, GREEDY, FAST, PRECISION, HEAD, DETECTOR)
