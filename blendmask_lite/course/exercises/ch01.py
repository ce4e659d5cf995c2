"""Exercises of chapter 01, objects as data: IoU, crops, sizes, grades; and of its appendix."""

from __future__ import annotations

import contextlib
import io
import math

import torch
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Generator, Tensor
from torchvision.ops import roi_align

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.exercises.polygons_and_rle import POLYGON, RUNS
from blendmask_lite.datasets.coco_format import encode_masks
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.masks import crop_masks

__all__ = ["EXERCISES"]


@task("01.1", "IoU of masks", minutes=10, difficulty=2)
def pairwise_iou(found: Tensor, true: Tensor) -> Tensor:
    """IoU of every found mask with every true one: intersection over union.

    Args:
        found: (D, H, W) bool; D may be 0.
        true: (N, H, W) bool; N may be 0.

    Returns:
        (D, N) float32, 0 to 1; 0 if both masks are empty.
    """
    # Step 1: a row of H * W numbers, 0 or 1, for every mask
    found_rows, true_rows = found.flatten(1).float(), true.flatten(1).float()
    # Step 2: pixels that the two masks of each pair share: (D, H * W) times (H * W, N)
    shared = found_rows @ true_rows.T
    # Step 3: both areas together count the shared pixels twice
    union = found_rows.sum(dim=1)[:, None] + true_rows.sum(dim=1) - shared
    # Step 4: divide, but not by 0
    return shared / union.clamp(min=1)


def _reference_pairwise_iou(found: Tensor, true: Tensor) -> Tensor:
    if not len(found) or not len(true):
        return torch.zeros(len(found), len(true))
    no_crowds = [0] * len(true)
    iou = coco_masks.iou(encode_masks(found), encode_masks(true), no_crowds)
    return torch.from_numpy(iou).float()


def _iou_cases(generator: Generator) -> list[Case]:
    left, right = (torch.zeros(1, 4, 6, dtype=torch.bool) for _ in range(2))
    left[0, :, :4] = right[0, :, 2:] = True  # 8 pixels shared, 24 in the union
    noise = torch.rand(5, 9, 7, generator=generator) < 0.4
    nothing = torch.zeros(1, 4, 6, dtype=torch.bool)
    return [
        Case("two squares of 4 x 4 that share 2 columns: 8 / 24", left, right),
        Case("three found, two true", noise[:3], noise[3:]),
        Case("a mask and itself, an empty one, another", left, torch.cat([left, nothing, right])),
        Case("an empty mask and another one", nothing, torch.cat([nothing, left])),
        Case("one pixel, found", left[:, :1, :1], left[:, :1, :1]),
        Case("nothing found", left[:0], torch.cat([left, right])),
        Case("nothing there", torch.cat([left, right]), left[:0]),
    ]


IOU = Exercise(
    solution=pairwise_iou,
    reference=_reference_pairwise_iou,
    make_cases=_iou_cases,
    result_axes="D, N",
    wrong_answers=(
        WrongAnswer(
            {" - shared\n": "\n"},
            "The sum of both areas counts the shared pixels twice. The union counts them once.",
        ),
        WrongAnswer(
            {"shared / union": "2 * shared / (union + shared)"},
            "This is the Dice coefficient: twice the intersection, divided by the sum of both "
            "areas. IoU divides the intersection by the union.",
        ),
        WrongAnswer(
            {"shared / union": "shared / true_rows.sum(dim=1)"},
            "You divided by the area of the true mask. A found mask that covers the whole image "
            "would be perfect.",
        ),
        WrongAnswer(
            {"union.clamp(min=1)": "(union + 1)"},
            "You added 1 to the union, to avoid dividing by 0. That makes every IoU too small. "
            "Only an empty union needs it.",
        ),
    ),
    hints=(
        "How many pixels do two masks share? What is the product of two numbers that are 0 or 1?",
        "masks.flatten(1).float() has the shape (N, H * W); a matrix product sums over pixels.",
        "shared = found_rows @ true_rows.T; the union is area + area - shared, at least 1.",
    ),
)


@task("01.2", "Crop and resize a mask to R x R", minutes=10, difficulty=3)
def crop_and_resize(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop every mask along its box and resize it to R x R: the target of a mask head.

    Args:
        masks: (N, H, W) bool; N may be 0.
        boxes: (N, 4) corners, pixels, one per mask.
        size: R, cells.

    Returns:
        (N, R, R) bool: True for cells of which the mask covers at least half, by roi_align's
        samples.
    """
    # Step 1: a region is (index of its mask, x0, y0, x1, y1); maps are (N, 1, H, W), float
    index = torch.arange(len(masks))
    regions = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    # Step 2: roi_align with aligned=True averages samples; sampling_ratio=0: one per pixel
    shares = roi_align(
        masks[:, None].to(boxes), regions, size, spatial_scale=1.0, sampling_ratio=0, aligned=True
    )
    # Step 3: half or more
    return shares[:, 0] >= 0.5


def _crop_cases(generator: Generator) -> list[Case]:
    step = torch.zeros(1, 6, 8, dtype=torch.bool)
    step[0, 1:5, 2:4] = step[0, 3, 4:6] = True  # exactly half of one cell is covered
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    middle = 16 + 16 * torch.rand(3, 2, 1, 1, generator=generator)
    radius = 7 + 8 * torch.rand(3, 1, 1, generator=generator)
    far = ((x - middle[:, 0]) ** 2 + (y - middle[:, 1]) ** 2).sqrt()
    rings = (far < radius) & (far > 0.6 * radius)
    around = torch.cat([middle[..., 0, 0], middle[..., 0, 0]], dim=1)
    boxes = around + radius[:, 0] * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    stripes = (x + 2 * y)[None] % 6 < 3
    whole = torch.tensor([[3.0, 2.0, 61.0, 45.0]])
    return [
        Case("one mask, 4 x 4 pixels -> 2 x 2", step, torch.tensor([[2.0, 1.0, 6.0, 5.0]]), 2),
        Case("three rings -> 7 x 7", rings, boxes, 7),
        Case("three rings -> 28 x 28, finer than the pixels", rings, boxes, 28),
        Case("stripes -> 14 x 14", stripes, whole, 14),
        Case("no object", torch.zeros(0, 6, 8, dtype=torch.bool), torch.zeros(0, 4), 14),
    ]


CROP = Exercise(
    solution=crop_and_resize,
    reference=crop_masks,
    make_cases=_crop_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"aligned=True": "aligned=False"},
            "Everything is half a pixel off: without aligned=True, roi_align puts the center of "
            "pixel 0 at 0, not at 0.5. Chapter 07 is about this half pixel.",
        ),
        WrongAnswer(
            {">= 0.5": "> 0"},
            "You took every cell that the mask touches, so the object grows. A cell counts if half "
            "of it is covered.",
        ),
        WrongAnswer(
            {"sampling_ratio=0": "sampling_ratio=1"},
            "One sample per cell (sampling_ratio=1) sees a single point. A target averages over "
            "the cell's pixels (sampling_ratio=0).",
        ),
        WrongAnswer(
            {">= 0.5": "> 0.5"},
            "A cell of which exactly half is covered belongs to the mask, too: use >=.",
        ),
    ),
    hints=(
        "What share of a cell does the mask cover, and which share is enough?",
        "masks[:, None].float() are the maps; torch.cat puts the index in front of each box.",
        "roi_align(maps, regions, size, sampling_ratio=0, aligned=True)[:, 0] >= 0.5",
    ),
)


@task("01.3", "Small, medium, large", minutes=5, difficulty=1)
def size_groups(areas: Tensor) -> Tensor:
    """Which of COCO's three AP numbers by size each object counts for.

    Args:
        areas: (N,) pixels of each mask; N may be 0.

    Returns:
        (N, 3) bool: for AP small, medium, large. The ranges of area are 0 to 32 squared, 32
        squared to 96 squared, and from 96 squared up; both ends belong to a range.
    """
    # Step 1: the lower and the upper end of the three ranges, (3,) each
    low, high = torch.tensor([0, 32**2, 96**2]), torch.tensor([32**2, 96**2, torch.inf])
    # Step 2: compare (N, 1) with (3,)
    return (areas[:, None] >= low) & (areas[:, None] <= high)


def _reference_size_groups(areas: Tensor) -> Tensor:
    """Ask the evaluation: its number is NaN if a single object does not count for it."""
    rows = [_counts_for(area) for area in areas.tolist()]
    return torch.tensor(rows, dtype=torch.bool).reshape(-1, 3)


def _counts_for(area: float) -> list[bool]:
    run = encode_masks(torch.ones(1, 1, 1, dtype=torch.bool))[0]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": run, "area": area}
    truth = {
        "images": [{"id": 1, "height": 1, "width": 1}],
        "annotations": [entry | {"bbox": [0, 0, 1, 1], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "object"}],
    }
    numbers = evaluate_detections(truth, [])["mask"].numbers
    return [not math.isnan(numbers[name]) for name in ("APS", "APM", "APL")]


def _size_cases(generator: Generator) -> list[Case]:
    sides = 200 * torch.rand(6, generator=generator)
    return [
        Case("one of each", torch.tensor([100.0, 5000.0, 40000.0])),
        Case("at the borders", torch.tensor([0.0, 1023, 1024, 1025, 9216, 9300])),
        Case("six objects", (sides**2).round()),
        Case("no object", torch.zeros(0)),
    ]


SIZES = Exercise(
    solution=size_groups,
    reference=_reference_size_groups,
    make_cases=_size_cases,
    wrong_answers=(
        WrongAnswer(
            {"<= high": "< high"},
            "Almost: an area right on a border counts for both ranges, since both ends belong to a "
            "range.",
        ),
        WrongAnswer(
            {"**2": ""},
            "You compared the area with 32 and 96, the sides of squares. Areas need 32 ** 2.",
        ),
        WrongAnswer(
            {"(areas[:, None] >= low) & ": ""},
            "You only tested the upper ends, so every small object is medium and large as well.",
        ),
    ),
    hints=(
        "What is an object of exactly 32 x 32 pixels: small or medium?",
        "areas[:, None] has the shape (N, 1): compared with (3,) it gives (N, 3).",
        "(areas[:, None] >= low) & (areas[:, None] <= high), with torch.inf as the last high.",
    ),
)


@task("01.4", "Grade an image as COCO does", minutes=30, difficulty=5)
def grade_image(
    found: Tensor,
    true: Tensor,
    is_crowd: Tensor,
    threshold: float,
    area_range: tuple[float, float],
) -> Tensor:
    """Which detections of one image and class are right, which are wrong, and which do not count.

    A true object is ignored if it is a crowd, or if its area is outside the range. From the best
    detection to the worst, each takes one object that it overlaps by at least the threshold: the
    one that it overlaps most (the last of equals), and an ignored one only if there is no other.
    An object is taken once; a crowd can be taken again and again.

    Args:
        found: (D, H, W) bool, masks by falling score; D may be 0.
        true: (N, H, W) bool; N may be 0.
        is_crowd: (N,) bool. With a crowd, the overlap is the share of the *detection* inside it.
        threshold: least overlap; the IoU of the masks for everything but crowds.
        area_range: least and largest area, pixels; both ends belong to the range.

    Returns:
        (D,) int64: 1 (right) if it took an object that counts, -1 (does not count) if it took an
        ignored one, or none while its own area is outside the range, and 0 (wrong) otherwise.
    """
    # Step 1: overlaps (D, N): your own IoU, but the share of the detection for crowds
    areas, true_areas = found.flatten(1).sum(dim=1), true.flatten(1).sum(dim=1)
    shared = found.flatten(1).float() @ true.flatten(1).float().T
    shares = shared / areas[:, None].clamp(min=1)
    overlaps = torch.where(is_crowd, shares, pairwise_iou(found, true))
    # Step 2: which objects and which detections are outside the range of areas?
    low, high = area_range
    is_ignored = is_crowd | (true_areas < low) | (true_areas > high)
    is_outside = (areas < low) | (areas > high)
    # Step 3: one detection after the other takes an object, if possible one that counts
    is_free = torch.ones(len(true), dtype=torch.bool)
    verdicts = torch.where(is_outside, -1, 0)
    for index, overlap in enumerate(overlaps):
        can_take = (overlap >= threshold) & (is_free | is_crowd)
        preferred = can_take & ~is_ignored
        if can_take.any():
            wanted = preferred if preferred.any() else can_take
            taken = int(torch.where(wanted, overlap, -1.0).flip(0).argmax())
            taken = len(true) - 1 - taken  # the last of equals
            is_free[taken] = False
            verdicts[index] = -1 if is_ignored[taken] else 1
    return verdicts


def _reference_grade_image(
    found: Tensor,
    true: Tensor,
    is_crowd: Tensor,
    threshold: float,
    area_range: tuple[float, float],
) -> Tensor:
    """Ask pycocotools, by which papers are graded."""
    size = {"id": 1, "height": found.shape[1], "width": found.shape[2]}
    common = {"image_id": 1, "category_id": 1}
    every = zip(encode_masks(true), true, is_crowd.tolist(), strict=True)
    objects = [
        common
        | {"id": number, "segmentation": run, "area": int(mask.sum())}
        | {"iscrowd": int(crowd), "bbox": [0, 0, 1, 1]}
        for number, (run, mask, crowd) in enumerate(every, start=1)
    ]
    results = [
        common | {"segmentation": run, "score": 1 - 0.001 * index}
        for index, run in enumerate(encode_masks(found))
    ]
    if not results:
        return torch.zeros(0, dtype=torch.int64)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a lot
        truth = COCO()
        truth.dataset = {"info": {}, "images": [size], "annotations": objects}
        truth.dataset["categories"] = [{"id": 1, "name": "object"}]
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.iouThrs = [threshold]
        evaluation.params.areaRng = [list(area_range)]
        evaluation.params.areaRngLbl = ["own"]
        evaluation.params.maxDets = [len(results)]
        evaluation.evaluate()
    [graded] = evaluation.evalImgs
    is_right = torch.from_numpy(graded["dtMatches"][0] > 0)
    does_not_count = torch.from_numpy(graded["dtIgnore"][0].astype(bool))
    return torch.where(does_not_count, -1, is_right.long())


ANY_AREA = (0.0, math.inf)


def _grade_cases(generator: Generator) -> list[Case]:
    none = torch.zeros(0, 8, 12, dtype=torch.bool)
    alone, no_crowd = torch.tensor([False]), torch.tensor([False, False])
    square = _rectangles((2, 2, 4, 4))
    pair = _rectangles((0, 0, 4, 4), (4, 0, 4, 4))
    crowd = _rectangles((0, 0, 12, 8), (0, 0, 3, 3))
    with_crowd = torch.tensor([True, False])
    inside = _rectangles((0, 0, 3, 3), (1, 0, 3, 3), (5, 5, 3, 3), (8, 1, 2, 2))
    noise = _rectangles(*_random_rectangles(generator, 9))
    crowds = torch.rand(4, generator=generator) < 0.4
    return [
        Case(
            "4 x 5 pixels: one object found, found again, and hardly found",
            _rectangles((0, 0, 2, 4), (0, 0, 2, 3), (1, 0, 3, 4))[:, :4, :5],
            _rectangles((0, 0, 2, 4))[:, :4, :5],
            alone,
            0.5,
            ANY_AREA,
        ),
        Case(
            "the second best object is still free",
            _rectangles((0, 0, 4, 4), (1, 0, 4, 4)),
            _rectangles((0, 0, 4, 4), (2, 0, 4, 4)),
            no_crowd,
            0.5,
            ANY_AREA,
        ),
        Case("exactly on the threshold", pair[:1], _rectangles((0, 0, 4, 2)), alone, 0.5, ANY_AREA),
        Case("a crowd, and an object in it", inside, crowd, with_crowd, 0.5, ANY_AREA),
        Case(
            "half of a find lies in a crowd",
            _rectangles((2, 0, 4, 4), (3, 0, 4, 4)),
            _rectangles((0, 0, 4, 8)),
            torch.tensor([True]),
            0.5,
            ANY_AREA,
        ),
        Case(
            "only areas up to 9: one object counts, a larger one does not",
            _rectangles((0, 0, 3, 3), (5, 0, 4, 4), (5, 5, 2, 2), (8, 5, 4, 3), (5, 0, 4, 3)),
            _rectangles((0, 0, 3, 3), (5, 0, 4, 4)),
            no_crowd,
            0.5,
            (0.0, 9.0),
        ),
        Case(
            "only areas from 9 to 16",
            _rectangles((0, 0, 3, 3), (0, 4, 4, 4), (8, 0, 2, 4), (4, 0, 3, 3), (6, 4, 4, 4)),
            _rectangles((0, 0, 3, 3), (0, 4, 4, 4), (8, 0, 2, 4)),
            torch.tensor([False, False, False]),
            0.75,
            (9.0, 16.0),
        ),
        Case(
            "an ignored object overlaps more than one that counts",
            _rectangles((0, 0, 4, 3), (0, 0, 4, 3)),
            _rectangles((0, 0, 4, 3), (0, 0, 4, 4)),
            no_crowd,
            0.5,
            (13.0, 20.0),
        ),
        Case(
            "equal overlaps: the last object is taken, the first is left",
            _rectangles((2, 0, 4, 4), (0, 0, 5, 4)),
            _rectangles((1, 0, 4, 4), (3, 0, 4, 4)),
            no_crowd,
            0.5,
            ANY_AREA,
        ),
        Case(
            "five finds, four objects, some of them crowds",
            noise[:5],
            noise[5:],
            crowds,
            0.25,
            ANY_AREA,
        ),
        Case(
            "the same, of 12 pixels or more", noise[:5], noise[5:], crowds, 0.25, (12.0, math.inf)
        ),
        Case("one pixel in a crowd", _rectangles((3, 3, 1, 1)), square, ~alone, 0.75, ANY_AREA),
        Case("nothing found", none, square, alone, 0.5, ANY_AREA),
        Case("nothing there", pair, none, alone[:0], 0.5, (0.0, 15.0)),
    ]


def _rectangles(*boxes: tuple[int, int, int, int]) -> Tensor:
    """(N, 8, 12) bool: filled rectangles given by x, y, width and height, pixels."""
    masks = torch.zeros(len(boxes), 8, 12, dtype=torch.bool)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = True
    return masks


def _random_rectangles(generator: Generator, num: int) -> list[tuple[int, int, int, int]]:
    def draw(low: int, high: int) -> list[int]:
        return torch.randint(low, high, (num,), generator=generator).tolist()

    return list(zip(draw(0, 7), draw(0, 4), draw(3, 6), draw(3, 5), strict=True))


GRADE = Exercise(
    solution=grade_image,
    reference=_reference_grade_image,
    make_cases=_grade_cases,
    result_axes="D",
    wrong_answers=(
        WrongAnswer(
            {
                "torch.where(is_crowd, shares, pairwise_iou(found, true))": (
                    "pairwise_iou(found, true)"
                )
            },
            "A crowd is much larger than one object, so their IoU is small. With a crowd, ask "
            "which share of the detection lies in it.",
        ),
        WrongAnswer(
            {" & (is_free | is_crowd)": ""},
            "An object is taken once. A second find of it is wrong, unless it overlaps another "
            "object that is still free.",
        ),
        WrongAnswer(
            {"is_free | is_crowd": "is_free"},
            "A crowd holds many objects, so it can be taken again and again.",
        ),
        WrongAnswer(
            {"preferred if preferred.any() else can_take": "can_take"},
            "An object that counts comes first, even if an ignored one overlaps more.",
        ),
        WrongAnswer(
            {"torch.where(is_outside, -1, 0)": "torch.zeros(len(found), dtype=torch.int64)"},
            "A detection that takes nothing is wrong only if its own area is in the range. A large "
            "one is no mistake among small objects.",
        ),
        WrongAnswer(
            {"is_ignored = is_crowd |": "is_ignored = is_crowd & False |"},
            "A detection in a crowd is neither right nor wrong: it does not count.",
        ),
        WrongAnswer(
            {
                "can_take = (overlap >= threshold) & (is_free | is_crowd)": (
                    "can_take = (overlap >= threshold) & (is_free | is_crowd) & "
                    "(overlap == overlap.sort().values[-1:])"
                )
            },
            "You looked only at the object with the largest overlap of all. If that is taken, a "
            "detection takes the best one that is still free.",
        ),
    ),
    hints=(
        "Which objects may a detection take: by overlap, and by who has taken them before?",
        "Loop over detections only. Keep (N,) bool of what is free; a crowd is always free.",
        "Two sets of candidates: those that count, and all. Take the argmax of torch.where(wanted, "
        "overlap, -1.0) over the first that is not empty. Start with -1 outside the range, else 0.",
    ),
)


EXERCISES = (IOU, CROP, SIZES, GRADE, POLYGON, RUNS)
