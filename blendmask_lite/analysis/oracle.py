"""Where a mask loses its IoU: box, attention or bases, each in turn replaced by the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.analysis.best_attention import best_attention, best_bases
from blendmask_lite.analysis.objects import TrueObjects, true_objects
from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["OracleResults", "join_oracles", "oracle_swaps", "score_oracles"]


@dataclass(frozen=True)
class OracleResults:
    """IoU of N objects' masks with the true ones, pixels of the picture; 0 to 1.

    Every object is taken at the location that learns it, so nothing is lost by a missing detection.

    Attributes:
        predicted: (N,) over the box that the location predicts.
        true_box: (N,) over the true box.
        best_attention: (N,) over the true box, with the best attention that the network's bases
            allow.
        best_bases: (N,) over the true box, with the network's attention and the best bases for all
            objects of the picture together.
        resolution: (N,) of the true mask itself at R x R cells: nothing can be much better.
    """

    predicted: Tensor
    true_box: Tensor
    best_attention: Tensor
    best_bases: Tensor
    resolution: Tensor

    def __len__(self) -> int:
        return len(self.predicted)

    def means(self) -> dict[str, float]:
        """The mean IoU of every stage, worst stage first; NaN without objects."""
        names = ("predicted", "true_box", "best_attention", "best_bases", "resolution")
        return {name: float(getattr(self, name).mean()) for name in names}

    def losses(self) -> dict[str, Tensor]:
        """What each part costs every object, (N,) each; they add up to 1 - `predicted`.

        resolution: no mask of R x R cells is exact. bases: what even the best attention cannot
        make of them. attention: what the network's is behind the best one. box: what the
        predicted one costs. A part may be below 0 for an object, where two mistakes cancel.
        """
        return {
            "resolution": 1 - self.resolution,
            "bases": self.resolution - self.best_attention,
            "attention": self.best_attention - self.true_box,
            "box": self.true_box - self.predicted,
        }


@torch.no_grad()
def oracle_swaps(model: BlendMask, objects: TrueObjects, *, steps: int = 60) -> OracleResults:
    """The stages of one picture's objects.

    Args:
        model: in evaluation mode, that `objects` were made with.
        objects: N of them; N = 0 gives empty tensors.
        steps: of both optimisations.
    """
    output, index, boxes = objects.output, objects.index, objects.boxes
    threshold, size = model.inference.mask_threshold, objects.masks.shape[-2:]

    def score(logits: Tensor, own: Tensor) -> Tensor:
        pasted = paste_masks(logits, own, (size[0], size[1]), threshold)
        return mask_iou(pasted, objects.masks).cpu()

    location = index[:, 1]
    predicted = ltrb_to_xyxy(output.locations[location], output.ltrb[0, location].float())
    attentions = model.attentions_at(output, index)
    crops = model.crops_at(output, index[:, 0], boxes)
    best = best_attention(model.merger, crops, objects.mask_crops, start=attentions, steps=steps)
    better = best_bases(
        model.merger,
        output.bases[0],
        attentions,
        boxes,
        objects.mask_crops,
        stride=model.bottom.stride,
        pooling=model.config.bases_pooling,
        steps=steps,
    )
    exact = (objects.mask_crops.float() * 2 - 1) * 20  # logits of probabilities 0 and 1
    swapped = better.bases[None]
    return OracleResults(
        predicted=score(model.masks_at(output, index, predicted), predicted),
        true_box=score(model.masks_at(output, index, boxes), boxes),
        best_attention=score(
            model.masks_at(output, index, boxes, attentions=best.attentions), boxes
        ),
        best_bases=score(model.masks_at(output, index, boxes, bases=swapped), boxes),
        resolution=score(exact, boxes),
    )


def score_oracles(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    steps: int = 60,
    progress: Callable[[int, int], None] | None = None,
) -> OracleResults:
    """All objects of a data set that some location learns; arguments as in `oracle_swaps`."""
    found = []
    for objects in true_objects(model, dataset, max_images=max_images, progress=progress):
        each = oracle_swaps(model, objects, steps=steps)
        is_learned = objects.is_learned.cpu()
        found.append(OracleResults(**{name: v[is_learned] for name, v in vars(each).items()}))
    return join_oracles(found)


def join_oracles(results: Sequence[OracleResults]) -> OracleResults:
    """One after the other; at least one."""
    names = vars(results[0])
    return OracleResults(**{name: torch.cat([vars(r)[name] for r in results]) for name in names})
