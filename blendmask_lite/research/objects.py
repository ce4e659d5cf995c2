"""True objects of images, each with the location that learns it, and the hardest objects.

All measurements in this folder use these objects. Three kinds of hard objects are found by
measuring: complex, separated and overlapping objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.datasets.transforms import resize_sample
from blendmask_lite.images import resized_size
from blendmask_lite.masks import crop_masks, mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.training.targets import object_locations

__all__ = [
    "KINDS",
    "CroppedObjects",
    "HardCase",
    "TrueObjects",
    "complexity",
    "crop_objects",
    "find_hard_cases",
    "kinds_of_boxes",
    "look_at_objects",
    "mean_over_images",
    "separation",
    "true_objects",
]


@dataclass(frozen=True)
class TrueObjects:
    """One image, its N true objects and the output of a model for it.

    Attributes:
        image: (3, H, W) at the size that the model got.
        output: the model's output for this image alone.
        index: (N, 2) int64 pairs (0, location): the location that stands for each object.
        is_learned: (N,) bool, whether that location learns the object; smaller objects may have
            taken all locations of a large one.
        boxes: (N, 4) true corners, pixels.
        labels: (N,) int64.
        masks: (N, H, W) bool.
        mask_crops: (N, R, R) bool, the masks cropped to the boxes.
    """

    image: Tensor
    output: BlendMaskOutput
    index: Tensor
    is_learned: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    mask_crops: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def look_at_objects(model: BlendMask, sample: Sample) -> TrueObjects:
    """Run a model on an image at its test size. The model's mode is restored afterwards.

    Raises:
        ValueError: the sample has no masks.
    """
    if sample.target.masks is None:
        raise ValueError(f"image {sample.image_id}: its objects have no masks")
    height, width = sample.image.shape[-2:]
    settings = model.inference
    size = resized_size((height, width), settings.test_size, settings.max_size)
    sample = resize_sample(sample, size)
    target = sample.target.to(model.device)
    assert target.masks is not None
    with evaluating(model):
        output = model([sample.image.to(model.device)])
    location, is_learned = object_locations(output, target, model.config)
    boxes = target.boxes.float()
    return TrueObjects(
        image=sample.image,
        output=output,
        index=F.pad(location[:, None], (1, 0)),
        is_learned=is_learned,
        boxes=boxes,
        labels=target.labels,
        masks=target.masks,
        mask_crops=crop_masks(target.masks, boxes, model.config.mask_size),
    )


def true_objects(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[TrueObjects]:
    """The objects of one image after another, including images without objects.

    Args:
        model: the model to run.
        dataset: data set with masks.
        max_images: number of images to take from the start of the data set; by default all.
        progress: called with (done, total).

    Raises:
        ValueError: there are no images.
    """
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    if total < 1:
        raise ValueError(f"a data set of {len(dataset)} images, {max_images} wanted: at least 1")
    for index in range(total):
        yield look_at_objects(model, dataset.load(index))
        if progress is not None:
            progress(index + 1, total)


@dataclass(frozen=True)
class CroppedObjects:
    """Inputs of the merger for N objects of many images, over their true boxes.

    One call of the merger tries a changed base or attention on all objects.

    Attributes:
        crops: (N, K, R, R) bases, cut out along the boxes.
        attentions: (N, A) raw attentions.
        own: (N, R, R) bool, the objects' own cells.
        neighbours: (N, R, R) bool, cells of other objects.
        is_isolated: (N,) bool, see `kinds_of_boxes`.
        is_overlapping: (N,) bool, see `kinds_of_boxes`.
        image: (N,) int64, 0-based index of each object's image.
    """

    crops: Tensor
    attentions: Tensor
    own: Tensor
    neighbours: Tensor
    is_isolated: Tensor
    is_overlapping: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.own)


@torch.no_grad()
def crop_objects(model: BlendMask, images: Iterable[TrueObjects]) -> CroppedObjects:
    """The objects of all images that some location learns.

    Args:
        model: the model that made `images`, in evaluation mode.
        images: at least one image, as `true_objects` yields them.
    """
    rows = []
    for number, objects in enumerate(images):
        masks, boxes = objects.masks, objects.boxes
        others = masks.any(dim=0) & ~masks  # a mask covers only the visible part of its object
        is_isolated, is_overlapping, _ = kinds_of_boxes(boxes)
        row = (
            model.crops_at(objects.output, objects.index[:, 0], boxes),
            model.attentions_at(objects.output, objects.index),
            objects.mask_crops,
            crop_masks(others, boxes, model.config.mask_size) & ~objects.mask_crops,
            is_isolated,
            is_overlapping,
            torch.full((len(objects),), number),
        )
        is_learned = objects.is_learned.cpu()
        rows.append([column.cpu()[is_learned] for column in row])
    return CroppedObjects(*(torch.cat(column) for column in zip(*rows, strict=True)))


OVERLAP = 0.2  # lowest IoU of two boxes whose objects count as overlapping
NUM_DRAWS = 1000  # bootstrap samples for an interval
SAME_CENTER = 0.1  # relative to both boxes' smaller side: nearer centers count as one


def kinds_of_boxes(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether objects of an image are isolated, overlap, or share a center.

    Args:
        boxes: (N, 4) corners, pixels.

    Returns:
        Three (N,) bool. Isolated: no other box touches it. Overlapping: another box has an IoU of
        at least `OVERLAP` with it. One center: another box's center is within `SAME_CENTER`.
    """
    overlap = box_iou(boxes, boxes).fill_diagonal_(0)
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = SAME_CENTER * torch.minimum(sides[:, None], sides)
    is_same = (torch.cdist(centers, centers) <= near).fill_diagonal_(False)
    return (overlap == 0).all(dim=1), (overlap >= OVERLAP).any(dim=1), is_same.any(dim=1)


def mean_over_images(values: Tensor, image: Tensor) -> Tensor:
    """A mean over objects, with an interval over images.

    Objects in one image are similar, so images are drawn with replacement, not objects.

    Args:
        values: (N,), N >= 1.
        image: (N,) int64, the image of each object.

    Returns:
        (3,) mean and ends of its 95 % interval.
    """
    _, place, num_objects = image.unique(return_inverse=True, return_counts=True)
    total = torch.zeros(len(num_objects), dtype=torch.float64).index_add(0, place, values.double())
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(total), (NUM_DRAWS, len(total)), generator=generator)
    means = total[drawn].sum(dim=1) / num_objects[drawn].sum(dim=1)
    ends = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return torch.cat([values.double().mean()[None], ends]).float()


KINDS = ("complex", "separated", "overlapping")
LEAST_SIDE = 16.0  # pixels; smaller boxes show too little
ONE_PART = 0.05  # `separation` below which a mask counts as one part


@dataclass(frozen=True)
class HardCase:
    """One object of an image.

    Attributes:
        measure: how hard the object is, by the measure of its kind.
        image: (3, H, W).
        box: (4,) true corners, pixels.
        true_mask: (H, W) bool.
        mask: (H, W) bool, the network's mask over the true box.
        iou: IoU of the two masks, 0 to 1.
    """

    measure: float
    image: Tensor
    box: Tensor
    true_mask: Tensor
    mask: Tensor
    iou: float


@torch.no_grad()
def find_hard_cases(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    number: int = 3,
    max_images: int | None = None,
) -> dict[str, list[HardCase]]:
    """The hardest objects of each kind, hardest first, at most one per image and kind.

    Hardness is measured on the true masks; the network's masks may still be right.

    - complex: `complexity`, the length of the outline relative to the area, for masks in one part.
    - separated: `separation`, the share of the mask outside its largest connected part.
    - overlapping: the largest IoU of the box with the box of an object of the same class.

    Args:
        model: its masks are shown.
        dataset: data set with masks.
        number: largest number of objects of each kind.
        max_images: largest number of images to search.

    Returns:
        Objects by kind, without objects that are not hard at all (separation or overlap 0).
    """
    best: dict[str, list[HardCase]] = {kind: [] for kind in KINDS}
    for objects in true_objects(model, dataset, max_images=max_images):
        sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).amin(dim=1)
        allowed = objects.is_learned & (sides >= LEAST_SIDE)
        if not allowed.any():
            continue
        height, width = objects.image.shape[-2:]
        logits = model.masks_at(objects.output, objects.index, objects.boxes)
        threshold = model.inference.mask_threshold
        masks = paste_masks(logits, objects.boxes, (height, width), threshold)
        iou = mask_iou(masks, objects.masks)
        same_class = objects.labels[:, None] == objects.labels
        between = (box_iou(objects.boxes, objects.boxes) * same_class).fill_diagonal_(0)
        parts = separation(objects.masks)
        outline = complexity(objects.masks) * (parts < ONE_PART)
        measures = (outline, parts, between.amax(dim=1))
        for kind, measure in zip(KINDS, measures, strict=True):
            place = int(torch.where(allowed, measure, -1.0).argmax())
            if float(measure[place]) <= 0:
                continue
            case = HardCase(
                measure=float(measure[place]),
                image=objects.image,
                box=objects.boxes[place].cpu(),
                true_mask=objects.masks[place].cpu(),
                mask=masks[place].cpu(),
                iou=float(iou[place]),
            )
            best[kind] = sorted([*best[kind], case], key=lambda each: -each.measure)[:number]
    return best


def complexity(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N,) outline squared over 4 pi area; 1.27 for a square, more for stars.

    The outline is counted in sides of pixels. An empty mask gives 0.
    """
    padded = F.pad(masks, (1, 1, 1, 1)).int()
    down = padded.diff(dim=1).abs().sum(dim=(1, 2))
    across = padded.diff(dim=2).abs().sum(dim=(1, 2))
    area = masks.flatten(1).sum(dim=1)
    outline = (down + across).float()
    return torch.where(area > 0, outline.square() / (4 * torch.pi * area.clamp(min=1)), 0.0)


def separation(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N,) share of each mask outside its largest connected part, 0 to 1.

    Pixels that touch at a side or a corner are connected.
    """
    shares = [1 - _largest_part(mask) / int(mask.sum()) if mask.any() else 0.0 for mask in masks]
    return torch.tensor(shares, device=masks.device)


def _largest_part(mask: Tensor) -> int:
    """Number of pixels in the largest connected part; labels spread to neighbours until stable."""
    places = torch.arange(1, mask.numel() + 1, device=mask.device, dtype=torch.float64)
    numbers = places.view(mask.shape) * mask
    while True:
        spread = F.max_pool2d(numbers[None], kernel_size=3, stride=1, padding=1)[0] * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    return int(torch.bincount(numbers[mask].long()).max())
