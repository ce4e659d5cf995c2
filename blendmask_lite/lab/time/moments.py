"""The moments of a training for the time machine: read once, and a few kept in memory.

The few numbers that are compared over time (IoU, ends of the scales) are kept for all moments.
Bases, attentions and masks are kept only for the moments shown last.
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
from blendmask_lite.training.snapshots import PictureSnapshot, Snapshots, read_snapshots

__all__ = ["Moment", "TimeReel"]


MOST_NUMBERS = 24_000_000  # numbers kept for the moments: 96 MB


@dataclass(frozen=True)
class Moment:
    """One object at one moment, from a snapshot."""

    iteration: int  # optimizer steps done
    bases: Tensor  # (K, h, w) of the image
    attentions: Tensor  # (k, m, m) raw attentions of the object; k = 0 if the merger has none
    mask_probabilities: Tensor  # (R, R) over the true box
    mask: Tensor  # (H, W) bool: the probabilities, pasted into the image and thresholded
    found: Tensor  # (H, W) bool, the pixels of all detections
    num_found: int  # number of detections in the image
    mask_iou: float  # IoU of the mask with the true one, 0 to 1
    score: float  # sqrt(probability of the true class x centerness) at the object's location


class TimeReel:
    """Snapshots that are read when they are needed.

    Args:
        source: snapshots, a path for `read_snapshots`, or None for the snapshots of the package.

    Raises:
        FileNotFoundError: there are no snapshots.
        ValueError: the images cannot be read, or there is no readable moment.
    """

    def __init__(self, source: Snapshots | str | Path | None = None) -> None:
        if not isinstance(source, Snapshots):
            source = read_snapshots(shipped_snapshots() if source is None else source)
        if len(source) == 0:
            raise ValueError(f"{source.path}: images, but no moment of the training yet")
        self.snapshots = source
        self.damaged: dict[int, str] = {}  # iteration -> what is wrong with its file
        self._moments: OrderedDict[int, tuple[_Kept, ...]] = OrderedDict()
        self._numbers: dict[int, tuple[_Numbers, ...]] = {}
        self._read_numbers()

    @property
    def iterations(self) -> tuple[int, ...]:
        """The iterations of the moments."""
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
        """(T, N) IoU of the masks with the true ones; NaN if a file is damaged."""
        curves = torch.full((len(self), len(self.snapshots.samples[picture].target)), math.nan)
        for row, iteration in zip(curves, self.iterations, strict=True):
            if iteration in self._numbers:
                row[:] = self._numbers[iteration][picture].mask_iou
        return curves

    def limits(self, picture: int, index: int | None = None) -> tuple[float, float]:
        """Largest magnitudes of bases and attentions, at one moment or at all of them."""
        chosen = self.iterations if index is None else (self.iterations[index],)
        numbers = [self._numbers[i][picture] for i in chosen if i in self._numbers]
        return (
            max((own.base_limit for own in numbers), default=1.0),
            max((own.attention_limit for own in numbers), default=1.0),
        )

    def base_crops(self, index: int, picture: int, object_index: int) -> Tensor:
        """(K, R, R) crops of the bases along the object's true box (BlendMask, equation 1).

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
        """Read new moments from a running training; returns whether there are any.

        Raises:
            FileNotFoundError: the snapshots are gone.
            ValueError: the images cannot be read, or the run was restarted with other images.
        """
        fresh = read_snapshots(self.snapshots.path)
        if len(fresh.samples) != len(self.snapshots.samples):
            raise ValueError(f"{fresh.path}: the snapshots now have other images; open them again")
        if fresh.iterations == self.iterations or len(fresh) == 0:
            return False
        if not set(fresh.iterations) >= set(self.iterations):  # the run went back in time
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
        kept = tuple(_Kept.of(shot) for shot in pictures)
        self._numbers[iteration] = tuple(
            _Numbers(own.mask_iou, largest_magnitude(own.bases), largest_magnitude(own.attentions))
            for own in pictures
        )
        self.damaged.pop(iteration, None)
        self._moments[iteration] = kept
        largest = sum(own.num_numbers for own in kept)
        while len(self._moments) > max(2, MOST_NUMBERS // max(largest, 1)):
            self._moments.popitem(last=False)
        return kept


@dataclass(frozen=True)
class _Kept:
    shot: PictureSnapshot  # without detected masks, which are as large as the image
    found: Tensor
    num_found: int

    @classmethod
    def of(cls, shot: PictureSnapshot) -> _Kept:
        detections = shot.detections
        return cls(
            # Indexing by a tensor copies; a slice would keep the masks in memory.
            shot=replace(shot, detections=detections[torch.zeros(0, dtype=torch.int64)]),
            found=detections.masks.any(dim=0),
            num_found=len(detections),
        )

    @property
    def num_numbers(self) -> int:
        maps = (self.shot.bases, self.shot.attentions, self.shot.mask_probabilities)
        return sum(map(torch.numel, maps)) + self.found.numel() // 4


@dataclass(frozen=True)
class _Numbers:
    mask_iou: Tensor
    base_limit: float
    attention_limit: float
