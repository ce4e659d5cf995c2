"""What a run can show besides its numbers: TensorBoard's logs and snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.training.observers import Observer
from blendmask_lite.training.recipe import Recipe
from blendmask_lite.training.runlog import RunFolder
from blendmask_lite.training.snapshot_log import SnapshotLog
from blendmask_lite.training.snapshots import choose_pictures

__all__ = ["Watching", "make_watchers"]


@dataclass(frozen=True)
class Watching:
    """What to record of a run; it changes no weight.

    Attributes:
        num_snapshots: over the whole run, at least 2; 0 takes none.
        tensorboard_every: iterations from one set of pictures in TensorBoard to the next; 0 writes
            no log for it.
        num_pictures: that both show.
    """

    num_snapshots: int = 0
    tensorboard_every: int = 0
    num_pictures: int = 4

    def __post_init__(self) -> None:
        if self.num_snapshots < 0 or self.num_snapshots == 1:
            raise ValueError(f"num_snapshots = {self.num_snapshots}: must be 0 or at least 2")
        if self.tensorboard_every < 0:
            raise ValueError(f"tensorboard_every = {self.tensorboard_every}: must be at least 0")
        if self.num_pictures < 1:
            raise ValueError(f"num_pictures = {self.num_pictures}: must be at least 1")


def make_watchers(
    watching: Watching, run: RunFolder, recipe: Recipe, dataset: InstanceDataset
) -> list[Observer]:
    """The observers that were asked for.

    Args:
        watching: what to record.
        run: its folder.
        recipe: length of the run and size of the pictures.
        dataset: to take the pictures from.

    Raises:
        ValueError: snapshots without a picture that has objects, or TensorBoard is not installed.
    """
    watchers: list[Observer] = []
    if not watching.num_snapshots and not watching.tensorboard_every:
        return watchers
    samples = choose_pictures(dataset, recipe.inference, watching.num_pictures)
    if watching.tensorboard_every:
        # Only here: it takes a second, and an installation may do without.
        try:
            from blendmask_lite.training.tensorboard import TensorBoardLog
        except ImportError as error:
            raise ValueError(
                f"TensorBoard is not installed ({error}): pip install 'blendmask_lite[tensorboard]'"
            ) from None
        watchers.append(TensorBoardLog(run, samples, pictures_every=watching.tensorboard_every))
    if watching.num_snapshots:
        iterations = recipe.train.iterations
        watchers.append(
            SnapshotLog(run, samples, number=watching.num_snapshots, iterations=iterations)
        )
    return watchers
