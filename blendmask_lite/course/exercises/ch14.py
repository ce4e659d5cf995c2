"""Exercises of chapter 14: the panoptic merge, its evaluation, and what an object costs."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.outlines import masks_as_detections
from blendmask_lite.datasets.panoptic import TrueSegment, TrueSegments
from blendmask_lite.evaluation.panoptic import count_segments
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.model.panoptic import merge_things_and_stuff
from blendmask_lite.research.costs import mask_head_cost

__all__ = ["EXERCISES"]


@task("14.1", "Merge objects and stuff", minutes=20, difficulty=3)
def merge(
    masks: Tensor,
    scores: Tensor,
    stuff: Tensor,
    score_threshold: float,
    overlap: float,
    stuff_area: int,
) -> Tensor:
    """Give every pixel to one object, to one kind of stuff, or to nothing.

    Args:
        masks: (N, H, W) bool; objects may overlap; N may be 0.
        scores: (N,) from 0 to 1, not sorted; of equal ones, the earlier object comes first.
        stuff: (H, W) int64 of the semantic branch: 0 for things, 1 to S for stuff.
        score_threshold: objects with a lower score are left out.
        overlap: objects with a larger share of their mask already covered are left out.
        stuff_area: kinds of stuff with fewer free pixels are left out.

    Returns:
        (H, W) int64: 0 nothing, 1 to N the objects in the order of `masks`, N + s stuff s.
    """
    owner = torch.zeros_like(stuff)
    # Step 1: objects, best score first; each gets its free pixels unless too much is covered
    for index in scores.argsort(descending=True, stable=True).tolist():
        free = masks[index] & (owner == 0)
        area, free_area = int(masks[index].sum()), int(free.sum())
        if scores[index] < score_threshold or free_area == 0:
            continue
        if (area - free_area) / area <= overlap:
            owner[free] = index + 1
    # Step 2: each kind of stuff gets its free pixels, if there are enough
    for label in stuff[stuff > 0].unique().tolist():
        free = (stuff == label) & (owner == 0)
        if free.sum() >= stuff_area:
            owner[free] = len(masks) + label
    return owner


def _reference_merge(
    masks: Tensor, scores: Tensor, stuff: Tensor, least_score: float, overlap: float, area: int
) -> Tensor:
    num = len(masks)
    found = masks_as_detections(masks, scores, torch.zeros(num, dtype=torch.int64))
    merged = merge_things_and_stuff(
        found, stuff, score_threshold=least_score, overlap=overlap, stuff_area=area
    )
    owner = torch.zeros_like(stuff)
    for segment in merged.segments:
        index = segment.instance_index
        owner[merged.ids == segment.id] = num + segment.label if index is None else index + 1
    return owner


def _merge_cases(generator: Generator) -> list[Case]:
    # By hand: the second object is the best and takes rows 0 and 1; half of the first object's
    # mask is covered, so it only keeps row 2. Row 3 is left for the stuff.
    masks = torch.zeros(2, 4, 3, dtype=torch.bool)
    masks[0, 1:3], masks[1, 0:2] = True, True
    stuff = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 0, 0], [2, 2, 1]])
    scores = torch.tensor([0.6, 0.9])
    low = torch.tensor([0.5, 0.25])
    covered = torch.zeros(3, 4, 3, dtype=torch.bool)
    covered[0, :2], covered[1, 1], covered[2, 1, 1:], covered[2, 2, 0] = True, True, True, True
    hidden = covered, torch.tensor([0.9, 0.8, 0.7]), stuff
    tied = torch.tensor([0.6, 0.6])
    several = _rectangles(generator, 6, 12, 16) | _rectangles(generator, 6, 12, 16)
    random = torch.rand(6, generator=generator)
    kinds = _ids(_rectangles(generator, 3, 12, 16))
    return [
        Case("two objects, half of one is covered: kept", masks, scores, stuff, 0.3, 0.5, 1),
        Case("the same with overlap 0.4: left out", masks, scores, stuff, 0.3, 0.4, 1),
        Case("the same with stuff of 2 pixels or more", masks, scores, stuff, 0.3, 0.5, 2),
        Case("two equal scores: the first object goes first", masks, tied, stuff, 0.3, 0.5, 1),
        Case("six objects, 12 x 16 pixels", several, random, kinds, 0.2, 0.4, 12),
        Case("a score at the threshold stays, a lower one goes", masks, low, stuff, 0.5, 0.6, 1),
        Case("an object with one free pixel, one with none", *hidden, 0.3, 1.0, 1),
        Case("no object", masks[:0], scores[:0], stuff, 0.3, 0.5, 1),
    ]


def _rectangles(generator: Generator, num: int, height: int, width: int) -> Tensor:
    """(num, height, width) bool, one rectangle in each mask."""
    masks = torch.zeros(num, height, width, dtype=torch.bool)
    for mask in masks:
        y, x = (
            int(torch.randint(0, side - 5, (), generator=generator)) for side in (height, width)
        )
        h, w = torch.randint(3, 9, (2,), generator=generator).tolist()
        mask[y : y + h, x : x + w] = True
    return masks


def _ids(masks: Tensor) -> Tensor:
    """(H, W) int64: index (1-based) of the last mask at each pixel; 0 if there is none."""
    numbers = torch.arange(1, len(masks) + 1)[:, None, None]
    return (masks * numbers).amax(dim=0)


MERGE = Exercise(
    solution=merge,
    reference=_reference_merge,
    make_cases=_merge_cases,
    result_axes="H, W",
    wrong_answers=(
        WrongAnswer(
            {"scores.argsort(descending=True, stable=True).tolist()": "range(len(scores))"},
            "You took the objects in the order of `masks`. The best one comes first; sort by "
            "score.",
        ),
        WrongAnswer(
            {"scores.argsort(descending=True, stable=True)": "scores.argsort(stable=True).flip(0)"},
            "Of two objects with the same score, you took the later one first. The earlier one "
            "comes first.",
        ),
        WrongAnswer(
            {"(area - free_area) / area <= overlap": "True"},
            "You kept every object with a free pixel. An object of which more than `overlap` is "
            "covered is most likely a duplicate.",
        ),
        WrongAnswer(
            {"(area - free_area) / area <= overlap": "free_area / area >= overlap"},
            "You compared `overlap` with the free share. It limits the covered share.",
        ),
        WrongAnswer(
            {" & (owner == 0)\n        if free.sum()": "\n        if free.sum()"},
            "Stuff covers objects. It should get only the pixels that they leave free.",
        ),
        WrongAnswer(
            {"free.sum() >=": "(stuff == label).sum() >="},
            "You compared `stuff_area` with all pixels of the stuff. Only its free pixels count.",
        ),
    ),
    hints=(
        "Which pixels of an object are free when its turn comes, and whose turn is first?",
        "free = masks[index] & (owner == 0); the covered share is 1 - free area / area.",
        "Loop over scores.argsort(descending=True) and write index + 1 into owner[free]; then loop "
        "over stuff.unique() without 0 and write len(masks) + label in the same way.",
    ),
)


@task("14.2", "Match segments", minutes=25, difficulty=4)
def count_matches(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    """Match the segments of one image (Kirillov et al., section 4.1).

    Args:
        true_ids: (H, W) int64: the true segment of each pixel, 1 to T, or 0 for unlabelled (void).
        true_labels: (T,) int64, classes of the segments 1 to T; T may be 0.
        found_ids: (H, W) int64, 1 to F, or 0 for nothing found.
        found_labels: (F,) int64; F may be 0.
        num_classes: C.

    Returns:
        (C, 4) float64 per class: sum of the IoUs of matched pairs, number of matched pairs, found
        but unmatched, true but missed.
    """
    counts = torch.zeros(num_classes, 4, dtype=torch.float64)
    void = true_ids == 0
    matched_true, matched_found = set(), set()
    # Step 1: two segments of one class match if their IoU, without void pixels, is above 1/2
    for t, label in enumerate(true_labels.tolist(), start=1):
        for f in (found_labels == label).nonzero()[:, 0].tolist():
            true, found = true_ids == t, found_ids == f + 1
            iou = (true & found).sum() / ((true | found) & ~void).sum()
            if iou > 0.5:
                counts[label] += torch.tensor([iou, 1, 0, 0], dtype=torch.float64)
                matched_true.add(t)
                matched_found.add(f + 1)
    # Step 2: other found segments are unmatched, unless more than half of them is void
    for f, label in enumerate(found_labels.tolist(), start=1):
        is_void = void[found_ids == f].float().mean() > 0.5
        if f not in matched_found and not is_void:
            counts[label, 2] += 1
    # Step 3: other true segments are missed
    for t, label in enumerate(true_labels.tolist(), start=1):
        if t not in matched_true:
            counts[label, 3] += 1
    return counts


def _reference_count_matches(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    segments = [TrueSegment(n, label) for n, label in enumerate(true_labels.tolist(), start=1)]
    categories = [{"id": n, "name": str(n), "isthing": 1} for n in range(num_classes)]
    found = dict(enumerate(found_labels.tolist(), start=1))
    counted = count_segments(TrueSegments(true_ids, tuple(segments)), found_ids, found, categories)
    counts = torch.zeros(num_classes, 4, dtype=torch.float64)
    for label, own in counted.items():
        row = [own.iou_sum, own.matched, own.unmatched, own.missed]
        counts[label] = torch.tensor(row, dtype=torch.float64)
    return counts


def _match_cases(generator: Generator) -> list[Case]:
    # By hand: segment 1 has 6 pixels, 4 of them found; a fifth found pixel is void: IoU 4/6.
    # True segment 2 and found segment 2 share 2 of the 4 pixels that are not void: IoU 1/2, which
    # is not above 1/2. The second found segment is half void and counts as unmatched; the third is
    # all void and does not count.
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
    classes = torch.tensor([0, 1, 1])
    return [
        Case("two true segments, three found, some void", true, labels, found, classes, 2),
        Case("classes exchanged", true, labels, found, 1 - classes, 2),
        Case("all a little off", true, labels, shifted, torch.tensor([0, 1, 0]), 2),
        Case("random segments of three classes", big, big_labels, moved, moved_labels, 3),
        Case("nothing found", true, labels, nothing, labels[:0], 2),
        Case("no true segment, all void", nothing, labels[:0], found, classes, 2),
    ]


def _segments(generator: Generator, num: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(H, W) ids that cover all pixels, numbered without gaps, and their classes, 0 to 2."""
    kept, ids = _ids(_rectangles(generator, num, height, width)).unique(return_inverse=True)
    return ids + 1, torch.randint(0, 3, (len(kept),), generator=generator)


COUNT_MATCHES = Exercise(
    solution=count_matches,
    reference=_reference_count_matches,
    make_cases=_match_cases,
    wrong_answers=(
        WrongAnswer(
            {"(found_labels == label).nonzero()[:, 0].tolist()": "range(len(found_labels))"},
            "You matched segments of different classes. A star that is called a disk is one "
            "unmatched disk and one missed star.",
        ),
        WrongAnswer(
            {" & ~void": ""},
            "Your union includes void pixels. They have no label, so they cannot be wrong.",
        ),
        WrongAnswer(
            {" and not is_void": ""},
            "You counted every found segment without a partner. One that is mostly on void pixels "
            "may be right; leave it out.",
        ),
    ),
    hints=(
        "Can a true segment have two partners with an IoU above 1/2 if segments are disjoint?",
        "There is no best partner to search for: try all pairs of one class and keep those that "
        "match.",
        "IoU: (true & found).sum() / ((true | found) & ~void).sum(). An unmatched found segment "
        "counts unless void[found_ids == f].float().mean() > 0.5.",
    ),
)


@task("14.3", "PQ = SQ x RQ, class by class", minutes=10, difficulty=2)
def average_quality(counts: Tensor) -> Tensor:
    """PQ, SQ and RQ (Kirillov et al., section 4.2), averaged over the classes that occur.

    Args:
        counts: (C, 4) float64 per class, summed over the images: sum of IoUs, matched,
            unmatched, missed; at least one class occurs.

    Returns:
        (3,) float64: PQ, SQ and RQ in percent. A class without a match has SQ 0.
    """
    # Step 1: only classes with a true or found segment
    iou_sum, matched, unmatched, missed = counts[counts[:, 1:].sum(dim=1) > 0].T
    # Step 2: per class, the mean IoU of its matches and the F1 score of its segments
    segmentation = iou_sum / matched.clamp(min=1)
    recognition = matched / (matched + (unmatched + missed) / 2)
    # Step 3: multiply class by class, then average
    qualities = torch.stack([segmentation * recognition, segmentation, recognition])
    return 100 * qualities.mean(dim=1)


def _reference_average_quality(counts: Tensor) -> Tensor:
    classes = {}
    for number, (iou_sum, *numbers) in enumerate(counts.tolist()):
        classes[str(number)] = SegmentCounts(iou_sum, *map(int, numbers))
    quality = PanopticQuality(thing_classes=classes, stuff_classes={}, num_images=1).all
    return torch.tensor([quality[name] for name in ("PQ", "SQ", "RQ")], dtype=torch.float64)


def _quality_cases(generator: Generator) -> list[Case]:
    # By hand: the first class has SQ 0.8 and RQ 2 / (2 + 1) = 2/3, the second SQ 1 and RQ 1.
    two = torch.tensor([[1.6, 2, 1, 1], [1, 1, 0, 0]], dtype=torch.float64)
    absent = torch.cat([two, torch.zeros(1, 4, dtype=torch.float64)])
    random = torch.randint(0, 9, (6, 4), generator=generator).double()
    random[:, 0] = random[:, 1] * (0.5 + 0.5 * torch.rand(6, generator=generator).double())
    random[:, 2] += 1
    return [
        Case("two classes", two),
        Case("and a third that does not occur", absent),
        Case("six classes", random),
        Case("nothing matches", torch.tensor([[0.0, 0, 2, 3]], dtype=torch.float64)),
    ]


AVERAGE_QUALITY = Exercise(
    solution=average_quality,
    reference=_reference_average_quality,
    make_cases=_quality_cases,
    wrong_answers=(
        WrongAnswer(
            {"counts[counts[:, 1:].sum(dim=1) > 0].T": "counts.T", " / 2)": " / 2).clamp(min=0.5)"},
            "A class without any segment counts as 0 here. It says nothing about the model: leave "
            "it out.",
        ),
        WrongAnswer(
            {"[segmentation *": "[segmentation.mean() *"},
            "You multiplied the averages of SQ and RQ. PQ = SQ x RQ holds for each class; the "
            "average comes last.",
        ),
        WrongAnswer(
            {"counts[counts[:, 1:].sum(dim=1) > 0].T": "counts.sum(dim=0, keepdim=True).T"},
            "You put the segments of all classes together. Every class should count the same, "
            "however many segments it has.",
        ),
        WrongAnswer(
            {" / 2)": ")"},
            "Mistakes count in full here. RQ is an F1 score: unmatched and missed segments count "
            "half.",
        ),
    ),
    hints=(
        "Which classes have no segment at all, and should they lower the average?",
        "SQ = sum of IoUs / matched; RQ = matched / (matched + half of all mistakes).",
        "Multiply SQ and RQ of each class first; then stack all three and take .mean(dim=1).",
    ),
)


@task("14.4", "From detections to PQ", minutes=30, difficulty=4)
def panoptic_quality(
    images: list[tuple[Tensor, ...]],
    limits: tuple[float, float, int],
    num_things: int,
    num_stuff: int,
) -> Tensor:
    """The evaluation of many images, from the pieces of this chapter.

    Args:
        images: for each image (masks, scores, labels, stuff, true_ids, true_labels): masks, scores
            and stuff as in `merge`, labels (N,) int64 from 0 to C-1; true_ids and true_labels as in
            `count_matches`. The classes are C things and then S kinds of stuff: kind s has class
            C + s - 1. Things and stuff occur.
        limits: score threshold, overlap and stuff area of `merge`.
        num_things: C.
        num_stuff: S.

    Returns:
        (3, 3) float64, percent: a row for all classes, one for things and one for stuff; PQ, SQ
        and RQ in each.
    """
    # Step 1: for each image, who owns each pixel
    # Step 2: whoever owns a pixel is a segment; number these without gaps, and name their class
    # Step 3: count the matches, over all images
    counts = torch.zeros(num_things + num_stuff, 4, dtype=torch.float64)
    for masks, scores, labels, stuff, true_ids, true_labels in images:
        owner = merge(masks, scores, stuff, *limits)
        owners = owner[owner > 0].unique()
        found_ids = torch.where(owner > 0, torch.searchsorted(owners, owner) + 1, 0)
        classes = torch.cat([labels, torch.arange(num_things, num_things + num_stuff)])
        counts += count_matches(
            true_ids, true_labels, found_ids, classes[owners - 1], num_things + num_stuff
        )
    # Step 4: the average qualities of all classes, of things, of stuff
    parts = (counts, counts[:num_things], counts[num_things:])
    return torch.stack([average_quality(each) for each in parts])


def _reference_panoptic_quality(
    images: list[tuple[Tensor, ...]],
    limits: tuple[float, float, int],
    num_things: int,
    num_stuff: int,
) -> Tensor:
    counts = torch.zeros(num_things + num_stuff, 4, dtype=torch.float64)
    for masks, scores, labels, stuff, true_ids, true_labels in images:
        merged = merge_things_and_stuff(
            masks_as_detections(masks, scores, labels),
            stuff,
            score_threshold=limits[0],
            overlap=limits[1],
            stuff_area=limits[2],
        )
        classes = [
            each.label if each.instance_index is not None else num_things + each.label - 1
            for each in merged.segments
        ]
        found = torch.tensor(classes, dtype=torch.int64)
        counts += _reference_count_matches(true_ids, true_labels, merged.ids, found, len(counts))
    parts = (counts, counts[:num_things], counts[num_things:])
    return torch.stack([_reference_average_quality(each) for each in parts])


def _evaluation_cases(generator: Generator) -> list[Case]:
    # By hand: the first object gets no pixel, so it is no segment; the second one gets row 0, as
    # in the truth. The stuff gets row 1, three of its four pixels: SQ is 1 and 3/4.
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    masks[:, 0] = True
    stuff = torch.tensor([[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    true = torch.tensor([[1, 1, 1], [2, 2, 2], [2, 0, 0]])
    one = masks, torch.tensor([0.5, 0.9]), torch.tensor([0, 1]), stuff, true, torch.tensor([1, 2])
    scenes = [_scene(generator) for _ in range(3)]
    return [
        Case("one image, two objects on the same pixels", [one], (0.3, 1.0, 1), 2, 1),
        Case("one image of 20 x 24 pixels", scenes[:1], (0.2, 0.4, 4), 3, 2),
        Case("three images: their counts add up", scenes, (0.2, 0.4, 4), 3, 2),
        Case("the same, objects from a score of 0.5 on", scenes, (0.5, 0.4, 4), 3, 2),
        Case("the same, stuff of 100 pixels or more", scenes, (0.2, 0.4, 100), 3, 2),
        Case(
            "nothing found in the last one",
            [*scenes, _nothing_found(scenes[0])],
            (0.2, 0.4, 4),
            3,
            2,
        ),
    ]


def _scene(generator: Generator) -> tuple[Tensor, ...]:
    """True segments of three thing and two stuff classes, and imperfect detections of them."""
    true = _ids(_rectangles(generator, 5, 20, 24))
    kinds = 1 + (torch.arange(24) >= 12).long().expand(20, 24)
    owner = torch.where(true > 0, true, 5 + kinds)
    owner[:2] = 0  # void
    numbers = owner[owner > 0].unique()
    classes = torch.cat([torch.randint(0, 3, (5,), generator=generator), torch.tensor([3, 4])])
    true_ids = torch.where(owner > 0, torch.searchsorted(numbers, owner) + 1, 0)
    visible = numbers[numbers <= 5]
    masks = (true == visible[:, None, None]).roll(1, dims=2)
    masks = torch.cat([masks, masks[:2] | masks[:2].roll(1, dims=1)])  # duplicates
    labels = classes[torch.cat([visible, visible[:2]]) - 1]
    labels[-1] = (labels[-1] + 1) % 3
    scores = 0.3 + 0.7 * torch.rand(len(masks), generator=generator)
    stuff = torch.where(true > 0, 0, kinds.roll(2, dims=1))
    return masks, scores, labels, stuff, true_ids, classes[numbers - 1]


def _nothing_found(scene: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    masks, scores, labels, stuff, *truth = scene
    return masks[:0], scores[:0], labels[:0], torch.zeros_like(stuff), *truth


def _image_by_image(
    images: list[tuple[Tensor, ...]],
    limits: tuple[float, float, int],
    num_things: int,
    num_stuff: int,
) -> Tensor:
    each = [panoptic_quality([image], limits, num_things, num_stuff) for image in images]
    return torch.stack(each).mean(dim=0)


PANOPTIC_QUALITY = Exercise(
    solution=panoptic_quality,
    reference=_reference_panoptic_quality,
    make_cases=_evaluation_cases,
    wrong_answers=(
        WrongAnswer(
            {
                "torch.where(owner > 0, torch.searchsorted(owners, owner) + 1, 0)": "owner",
                "classes[owners - 1]": "classes",
            },
            "Objects and kinds of stuff without a single pixel count as unmatched segments here. "
            "Only what owns a pixel after the merge is a segment.",
        ),
        WrongAnswer(
            {"torch.arange(num_things, num_things + num_stuff)": "torch.arange(num_stuff)"},
            "Your stuff has the classes of things. Kind s of stuff has class C + s - 1.",
        ),
        WrongAnswer(
            _image_by_image,
            "You averaged the quality of the images. The counts of all images are added first, so "
            "that every segment of a class has the same weight.",
        ),
        WrongAnswer(
            {"counts += count_matches": "counts = count_matches"},
            "Only the last image counts. Add up the counts of all images.",
        ),
    ),
    hints=(
        "Which of your three functions comes first, and what does the next one want to be told "
        "that `merge` does not say?",
        "`merge` numbers owners 1 to N + S, and many of them own nothing. Find those that do with "
        "owner[owner > 0].unique(), and give them the ids 1 to F.",
        "torch.cat([labels, torch.arange(C, C + S)])[owners - 1] has the classes, "
        "torch.searchsorted(owners, owner) + 1 the ids where owner > 0. Add count_matches(...) up "
        "over the images; then average_quality of counts, counts[:C] and counts[C:].",
    ),
)


@task("14.5", "What objects cost a mask head", minutes=10, difficulty=2)
def head_cost(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    """Multiply-adds of Mask R-CNN's mask head for one class, for all objects of an image.

    The head runs once per object: `num_convs` convolutions of 3 x 3 on size x size cells, a
    transposed convolution that makes 2 x 2 cells of every cell, each from that cell alone, and a
    1 x 1 convolution to one mask of 2 size x 2 size cells. All layers have `channels` channels.

    Args:
        num_objects: (I,) int64, the number of objects in each of I images.
        channels: of the crops and of all layers except the last.
        num_convs: 3 x 3 convolutions.
        size: side of a crop, cells.

    Returns:
        (I,) int64.
    """
    # Step 1: a convolution costs (output cells) x (kernel area) x (channels in) x (channels out)
    convs = num_convs * size**2 * 9 * channels**2
    # Step 2: the two layers at twice the size
    doubling, predictor = (2 * size) ** 2 * channels**2, (2 * size) ** 2 * channels
    # Step 3: every object costs the same
    return num_objects * (convs + doubling + predictor)


def _reference_head_cost(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    settings = {"channels": channels, "num_convs": num_convs, "size": size, "classes": 1}
    one = mask_head_cost(1, **settings)
    return torch.tensor([n * one for n in num_objects.tolist()], dtype=torch.int64)


def _cost_cases(generator: Generator) -> list[Case]:
    random = torch.randint(1, 100, (5,), generator=generator)
    return [
        Case("one object, one channel, one convolution, one cell", torch.tensor([1]), 1, 1, 1),
        Case("Mask R-CNN's head, five images", random, 256, 4, 14),
        Case("another head", random, 64, 2, 7),
        Case("no object", torch.tensor([0]), 256, 4, 14),
    ]


HEAD_COST = Exercise(
    solution=head_cost,
    reference=_reference_head_cost,
    make_cases=_cost_cases,
    tolerance=0.0,
    wrong_answers=(
        WrongAnswer(
            {"num_objects *": "num_objects.clamp(max=1) *"},
            "Your cost does not depend on the number of objects. This head runs once per object.",
        ),
        WrongAnswer(
            {"(2 * size) ** 2": "size**2"},
            "You counted the last two layers at size x size cells. They make 2 size x 2 size.",
        ),
        WrongAnswer(
            {"doubling, predictor = ": "doubling, predictor = 4 * "},
            "You gave each new cell the four inputs of a 2 x 2 kernel. With stride 2 the kernels "
            "do not overlap: every new cell comes from one old cell.",
        ),
    ),
    hints=(
        "How many cells does each layer make, and how many numbers does a cell need?",
        "The doubling makes (2 size)^2 cells, each of `channels` products per channel.",
        "num_objects * (num_convs * size**2 * 9 * channels**2 + (2 * size)**2 * (channels**2 + "
        "channels)).",
    ),
)


EXERCISES = (MERGE, COUNT_MATCHES, AVERAGE_QUALITY, PANOPTIC_QUALITY, HEAD_COST)
