"""The time machine's state as figures for print."""

from __future__ import annotations

from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.training import film_figure, moment_figure
from blendmask_lite.lab.time_reel import TimeReel
from blendmask_lite.lab.time_view import object_names

__all__ = ["MOST_COLUMNS", "film_of", "moment_of"]

MOST_COLUMNS = 7  # moments in a film strip


def moment_of(
    reel: TimeReel,
    picture: int,
    object_index: int,
    index: int,
    *,
    limits: tuple[float, float] | None = None,
    is_all: bool = False,
) -> DescribedFigure:
    """One object at one moment.

    Args:
        reel: of the training.
        picture: which one, from 0.
        object_index: which of its objects, from 0.
        index: of the moment, from 0.
        limits: largest magnitudes of bases and attentions; without, those of the moment.
        is_all: paint all that was detected on the picture, and not the object's mask.

    Raises:
        ValueError: the moment's file is damaged.
    """
    sample = reel.snapshots.samples[picture]
    moment = reel.moment(index, picture, object_index)
    name = object_names(reel, picture)[object_index]
    assert sample.target.masks is not None
    return moment_figure(
        sample.image,
        box=sample.target.boxes[object_index],
        true_mask=sample.target.masks[object_index],
        bases=moment.bases,
        attentions=moment.attentions,
        mask_probabilities=moment.mask_probabilities,
        stride=reel.snapshots.stride,
        found_masks=(moment.found if is_all else moment.mask)[None],
        limits=limits,
        title=f"object {name} after {moment.iteration:,} iterations, IoU {moment.mask_iou:.2f}",
    )


def film_of(
    reel: TimeReel, picture: int, object_index: int, *, most: int = MOST_COLUMNS
) -> DescribedFigure:
    """Some moments of one object, the first and the last among them, side by side.

    Args:
        reel: of the training.
        picture: which one, from 0.
        object_index: which of its objects, from 0.
        most: moments.

    Raises:
        ValueError: no moment can be read.
    """
    sample = reel.snapshots.samples[picture]
    places = [place for place, each in enumerate(reel.iterations) if each not in reel.damaged]
    num = min(most, len(places))
    chosen = [places[round(i * (len(places) - 1) / max(num - 1, 1))] for i in range(num)]
    moments = {place: reel.moment(place, picture, object_index) for place in chosen}
    assert sample.target.masks is not None
    return film_figure(
        sample.image,
        box=sample.target.boxes[object_index],
        true_mask=sample.target.masks[object_index],
        bases={
            each.iteration: reel.base_crops(place, picture, object_index)
            for place, each in moments.items()
        },
        mask_probabilities={each.iteration: each.mask_probabilities for each in moments.values()},
        mask_iou={each.iteration: each.mask_iou for each in moments.values()},
        title=f"object {object_names(reel, picture)[object_index]}",
    )
