"""Compare predictions with targets; the engine adds the losses up.

Chapters 04 and 11. Bases and attentions have no targets of their own: the mask loss reaches both
through the blender.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.boxes import centerness
from blendmask_lite.config import ModelConfig
from blendmask_lite.masks import crop_masks, semantic_cells
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.model.layers import at_least_float32, without_autocast
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import UNLABELLED, Target
from blendmask_lite.training.losses import (
    box_loss,
    centerness_loss,
    focal_loss,
    mask_loss,
    panoptic_loss,
    semantic_loss,
)
from blendmask_lite.training.targets import Assignment, assign_batch

__all__ = ["Criterion", "Totals", "TrainingStep"]


class Criterion:
    """All losses of a batch.

    Args:
        config: the model's config; levels, size ranges, center sampling, R and the weights of the
            semantic and panoptic losses are read.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.panoptic_weight = config.panoptic_weight if config.num_stuff_classes else 0.0

    def __call__(
        self,
        model: BlendMask,
        output: BlendMaskOutput,
        targets: Sequence[Target],
        totals: Totals | None = None,
    ) -> dict[str, Tensor]:
        """Losses by name, weighted and ready to be added up.

        The network's heads run in the precision of the caller's autocast; the comparison with the
        targets is done in at least float32.

        Args:
            model: computes the masks of the positive locations, and the semantic and panoptic
                logits.
            output: the result of `model.forward`.
            targets: one per image.
            totals: counts over all images of the optimizer step, if the batch holds only some of
                them; None if it holds all.

        Returns:
            Float32 scalars: class, box, centerness and mask; semantic and panoptic, unless their
            weights are 0. If no location is positive, box, centerness and mask are 0 but still
            attached to every parameter.
        """
        semantic = model.semantic_logits(output) if self.config.semantic_weight else None
        panoptic = model.panoptic_logits(output) if self.panoptic_weight else None
        with without_autocast(output.bases.device):
            return self._compare(model, output, semantic, panoptic, targets, totals)

    def _compare(
        self,
        model: BlendMask,
        output: BlendMaskOutput,
        semantic: Tensor | None,
        panoptic: Tensor | None,
        targets: Sequence[Target],
        totals: Totals | None,
    ) -> dict[str, Tensor]:
        assignment = self.assign(output, targets)
        image, location = assignment.index.unbind(dim=1)
        weight = centerness(assignment.ltrb)
        height, width = (side * 8 for side in output.features["p3"].shape[-2:])
        if totals is None:
            totals = Totals.of(assignment, targets, height, width)
        num_positive = totals.num_positive.to(weight.dtype).clamp(min=1)
        total_weight = totals.centerness.to(weight.dtype).clamp(min=1e-6)
        losses = {
            "class": focal_loss(
                at_least_float32(output.class_logits), assignment.labels, num_positive
            ),
            "box": box_loss(
                output.ltrb[image, location],
                assignment.ltrb,
                output.location_strides[location],
                weight,
                total_weight,
            ),
            "centerness": centerness_loss(
                at_least_float32(output.centerness_logits[image, location]), weight, num_positive
            ),
            "mask": mask_loss(
                self.masks(model, output, targets, assignment),
                self.mask_targets(targets)[assignment.object_index],
                weight,
                total_weight,
            ),
        }
        if semantic is not None:
            logits = at_least_float32(semantic)
            rows, columns = logits.shape[-2:]
            cells = [semantic_cells(target).long() for target in targets]
            maps = torch.stack([_padded(own, rows, columns, value=0) for own in cells])
            loss = semantic_loss(logits, maps, totals.num_cells.to(logits.dtype))
            losses["semantic"] = self.config.semantic_weight * loss
        if panoptic is not None:
            logits = at_least_float32(panoptic)
            maps = torch.stack([_padded_stuff(target, height, width) for target in targets])
            num_labelled = totals.num_labelled.to(logits.dtype).clamp(min=1)
            losses["panoptic"] = self.panoptic_weight * panoptic_loss(logits, maps, num_labelled)
        return losses

    def assign(self, output: BlendMaskOutput, targets: Sequence[Target]) -> Assignment:
        """The assignment of the output's locations to objects."""
        return self._assign(output.locations, output.level_sizes, targets)

    def totals(self, images: Sequence[Tensor], targets: Sequence[Target]) -> Totals:
        """The counts of a batch, before the network has seen it."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = padded_size(sizes, self.config.size_divisor)
        strides = self.config.level_strides
        shapes = [(-(-height // stride), -(-width // stride)) for stride in strides]
        device = targets[0].boxes.device
        locations = pyramid_locations(shapes, strides, device=device)
        assignment = self._assign(locations, [h * w for h, w in shapes], targets)
        return Totals.of(assignment, targets, height, width)

    def _assign(
        self, locations: Tensor, level_sizes: Sequence[int], targets: Sequence[Target]
    ) -> Assignment:
        return assign_batch(
            locations,
            targets,
            level_sizes,
            self.config.level_strides,
            size_ranges=self.config.size_ranges,
            center_radius=self.config.center_radius,
        )

    def masks(
        self,
        model: BlendMask,
        output: BlendMaskOutput,
        targets: Sequence[Target],
        assignment: Assignment,
    ) -> Tensor:
        """(P, R, R) mask logits of the positive locations, over the true boxes.

        The bases are cropped once per object and shared by all of its locations.
        """
        boxes = torch.cat([target.boxes for target in targets]).float()
        image = torch.cat([torch.full_like(target.labels, i) for i, target in enumerate(targets)])
        crops = model.crops_at(output, image, boxes)[assignment.object_index]
        attentions = model.attentions_at(output, assignment.index)
        return model.mask_head.merge(crops, attentions)

    def mask_targets(self, targets: Sequence[Target]) -> Tensor:
        """(objects of the batch, R, R) bool."""
        wanted, all_crops = self.config.mask_size, []
        for place, target in enumerate(targets):
            crops = target.mask_crops
            if crops is None:
                if target.masks is None:
                    raise ValueError(f"targets[{place}]: neither masks nor mask_crops")
                crops = crop_masks(target.masks, target.boxes.float(), wanted)
            size = crops.shape[-1]
            if size != wanted:
                found = f"targets[{place}].mask_crops: {size} cells wide"
                raise ValueError(f"{found}, the model's mask_size is {wanted}")
            all_crops.append(crops)
        return torch.cat(all_crops)


class TrainingStep(nn.Module):
    """Network and criterion in one module, so that distributed training can wrap both.

    Args:
        model: the network; its config makes the criterion.
    """

    def __init__(self, model: BlendMask) -> None:
        super().__init__()
        self.model = model
        self.criterion = Criterion(model.config)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target], totals: Totals | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch; see `Criterion`."""
        if len(images) != len(targets):
            raise ValueError(f"{len(images)} images but {len(targets)} targets")
        return self.criterion(self.model, self.model(images), targets, totals)


def _padded_stuff(target: Target, height: int, width: int) -> Tensor:
    if target.stuff is None:
        raise ValueError("the panoptic loss needs a stuff map in every target")
    return _padded(target.stuff.long(), height, width, value=UNLABELLED)


def _padded(drawn: Tensor, height: int, width: int, *, value: int) -> Tensor:
    """(h, w) -> (height, width), `value` on the right and below."""
    return F.pad(drawn, (0, width - drawn.shape[1], 0, height - drawn.shape[0]), value=value)


@dataclass(frozen=True)
class Totals:
    """Four scalars, float64 (float32 on MPS, which lacks it), summed over any number of images.

    Attributes:
        num_positive: number of positive locations; divides the class and centerness losses.
        centerness: sum of their centerness targets; divides the box and mask losses.
        num_cells: cells of the padded semantic maps, stride 8; divides the semantic loss.
        num_labelled: pixels that are things or stuff; divides the panoptic loss.
    """

    num_positive: Tensor
    centerness: Tensor
    num_cells: Tensor
    num_labelled: Tensor

    @staticmethod
    def of(assignment: Assignment, targets: Sequence[Target], height: int, width: int) -> Totals:
        """The counts of one batch of images, padded to `height` and `width` pixels."""
        weight = centerness(assignment.ltrb)
        exact = torch.float32 if weight.device.type == "mps" else torch.float64
        stuff = [target.stuff for target in targets if target.stuff is not None]
        num_cells = float(len(targets) * (height // 8) * (width // 8))
        labelled = [(own != UNLABELLED).sum() for own in stuff]
        return Totals(
            num_positive=torch.ones_like(weight).sum(dtype=exact),
            centerness=weight.sum(dtype=exact),
            num_cells=weight.new_full((), num_cells, dtype=exact),
            num_labelled=sum(labelled, weight.new_zeros((), dtype=exact)),
        )

    def stacked(self) -> Tensor:
        """(4,) for adding up; `Totals(*stacked)` reverses it."""
        return torch.stack(astuple(self))
