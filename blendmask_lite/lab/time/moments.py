"""The moments of a training as the time machine needs them: read once, few kept.

What is compared over time (IoU, scores, scales) stays in the memory for all moments: some numbers
each. Bases, attentions and masks are kept of the last moments that were looked at.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from blendmask_lite.figures.style import largest_magnitude
from blendmask_lite.files import shipped_snapshots
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.training.snapshot_files import Snapshots, read_snapshots
from blendmask_lite.training.snapshots import PictureSnapshot

__all__ = ["Moment", "TimeReel"]


MOST_NUMBERS = 24_000_000  # kept of moments: 96 MB


@dataclass(frozen=True)
class Moment:
    """One object at one moment, as the package's snapshots tell it.

    Attributes:
        iteration: optimizer steps done.
        bases: (K, h, w) of the picture.
        attentions: (k, m, m) raw, of the object; k = 0 where a merger has none.
        mask_probabilities: (R, R) over the true box.
        mask: (H, W) bool: these, pasted into the picture.
        found: (H, W) bool, pixels of anything that was detected.
        num_found: detections kept of the picture.
        mask_iou: of the mask with the true one, 0 to 1.
        score: sqrt(probability of the true class x centerness) at the object's location.
    """

    iteration: int
    bases: Tensor
    attentions: Tensor
    mask_probabilities: Tensor
    mask: Tensor
    found: Tensor
    num_found: int
    mask_iou: float
    score: float


class TimeReel:
    """Snapshots, read when they are looked at.

    Args:
        source: snapshots, a path that `read_snapshots` takes, or None for those that come with
            the package.

    Raises:
        FileNotFoundError: there are none.
        ValueError: pictures that cannot be read, or not one moment.
    """

    def __init__(self, source: Snapshots | str | Path | None = None) -> None:
        if not isinstance(source, Snapshots):
            source = read_snapshots(shipped_snapshots() if source is None else source)
        if len(source) == 0:
            raise ValueError(f"{source.path}: pictures, but not one moment of the training yet")
        self.snapshots = source
        self.damaged: dict[int, str] = {}  # iteration -> what is wrong with its file
        self._moments: OrderedDict[int, tuple[_Kept, ...]] = OrderedDict()
        self._numbers: dict[int, tuple[_Numbers, ...]] = {}
        self._read_numbers()

    @property
    def iterations(self) -> tuple[int, ...]:
        """Of the moments."""
        return self.snapshots.iterations

    def __len__(self) -> int:
        return len(self.snapshots)

    def moment(self, index: int, picture: int, object_index: int) -> Moment:
        """One object at one moment.

        Raises:
            ValueError: the moment's file is damaged.
        """
        kept = self._kept(self.iterations[index])[picture]
        shot, sample = kept.shot, self.snapshots.samples[picture]
        size = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
        own = slice(object_index, object_index + 1)
        probabilities = shot.mask_probabilities[own]
        logits = probabilities.clamp(1 / 510, 1 - 1 / 510).logit()
        boxes = sample.target.boxes[own].float()
        return Moment(
            iteration=self.iterations[index],
            bases=shot.bases,
            attentions=shot.attentions[object_index],
            mask_probabilities=probabilities[0],
            mask=paste_masks(logits, boxes, size, self.snapshots.mask_threshold)[0],
            found=kept.found,
            num_found=kept.num_found,
            mask_iou=float(shot.mask_iou[object_index]),
            score=float(shot.scores[object_index]),
        )

    def curves(self, picture: int) -> Tensor:
        """(T, N) IoU of the masks with the true ones; NaN where a file is damaged."""
        num = len(self.snapshots.samples[picture].target)
        rows = [
            self._numbers[each][picture].mask_iou
            if each in self._numbers
            else torch.full((num,), math.nan)
            for each in self.iterations
        ]
        return torch.stack(rows)

    def limits(self, picture: int, index: int | None = None) -> tuple[float, float]:
        """Largest magnitudes of bases and attentions, at one moment or at all of them."""
        chosen = self.iterations if index is None else (self.iterations[index],)
        numbers = [self._numbers[each][picture] for each in chosen if each in self._numbers]
        return (
            max((each.base_limit for each in numbers), default=1.0),
            max((each.attention_limit for each in numbers), default=1.0),
        )

    def base_crops(self, index: int, picture: int, object_index: int) -> Tensor:
        """(K, R, R) the bases along the object's true box (BlendMask, equation 1).

        Raises:
            ValueError: the moment's file is damaged.
        """
        config = self.snapshots.config
        return crop_bases(
            self._kept(self.iterations[index])[picture].shot.bases[None],
            self.snapshots.samples[picture].target.boxes[object_index][None].float(),
            torch.zeros(1, dtype=torch.int64),
            size=config.mask_size,
            stride=self.snapshots.stride,
            pooling=config.bases_pooling,
        )[0]

    def reload(self) -> bool:
        """Look for new moments of a run that goes on; returns whether there are any.

        Raises:
            FileNotFoundError: the snapshots are gone.
            ValueError: the pictures cannot be read, or the run began again with others.
        """
        fresh = read_snapshots(self.snapshots.path)
        if len(fresh.samples) != len(self.snapshots.samples):
            raise ValueError(f"{fresh.path}: these are other pictures now; open them again")
        if fresh.iterations == self.iterations:
            return False
        if len(fresh) == 0:
            return False
        if not set(fresh.iterations) >= set(self.iterations):  # the run went back and comes again
            self._moments.clear()
            self._numbers.clear()
            self.damaged.clear()
        self.snapshots = replace(self.snapshots, iterations=fresh.iterations)
        self._read_numbers()
        return True

    def _read_numbers(self) -> None:
        for iteration in self.iterations:
            if iteration not in self._numbers and iteration not in self.damaged:
                try:
                    self._kept(iteration)
                except (ValueError, FileNotFoundError) as error:
                    self.damaged[iteration] = str(error)

    def _kept(self, iteration: int) -> tuple[_Kept, ...]:
        if iteration in self._moments:
            self._moments.move_to_end(iteration)
            return self._moments[iteration]
        pictures = self.snapshots[self.iterations.index(iteration)].pictures
        kept = tuple(_Kept.of(each) for each in pictures)
        self._numbers[iteration] = tuple(_Numbers.of(each) for each in pictures)
        self.damaged.pop(iteration, None)
        self._moments[iteration] = kept
        largest = sum(each.num_numbers for each in kept)
        while len(self._moments) > max(2, MOST_NUMBERS // max(largest, 1)):
            self._moments.popitem(last=False)
        return kept


@dataclass(frozen=True)
class _Kept:
    shot: PictureSnapshot  # without the masks that were detected, which are as large as pictures
    found: Tensor
    num_found: int

    @classmethod
    def of(cls, shot: PictureSnapshot) -> _Kept:
        detections = shot.detections
        return cls(
            # By an index, which copies: a slice would keep the masks alive.
            shot=replace(shot, detections=detections[torch.zeros(0, dtype=torch.int64)]),
            found=detections.masks.any(dim=0),
            num_found=len(detections),
        )

    @property
    def num_numbers(self) -> int:
        maps = (self.shot.bases, self.shot.attentions, self.shot.mask_probabilities)
        return sum(each.numel() for each in maps) + self.found.numel() // 4


@dataclass(frozen=True)
class _Numbers:
    mask_iou: Tensor
    base_limit: float
    attention_limit: float

    @classmethod
    def of(cls, shot: PictureSnapshot) -> _Numbers:
        return cls(
            mask_iou=shot.mask_iou,
            base_limit=largest_magnitude(shot.bases),
            attention_limit=largest_magnitude(shot.attentions),
        )
