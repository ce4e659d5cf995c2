"""Chapter 12's training: the student's own model and loop, in the notebook's own process.

It writes the same folder as `blendmask-lite train`, so the dashboard, the time machine and
`load_model` can read it. It starts from the same weights and reads the same batches. The trained
tensors also belong to a model of the package, which shows what the student's model has learned.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.config import PRESET_INFERENCE, PRESETS
from blendmask_lite.course.display import Note, show
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.own_model import my_blendmask, my_model, parts_that_raised
from blendmask_lite.datasets.sample import Sample, SampleLoader, collate
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.lab.training_monitor import RunView, TrainingMonitor
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.distributed import ALONE
from blendmask_lite.training.engine import (
    StepRecord,
    TrainingState,
    not_finite,
    seed_step,
    train,
)
from blendmask_lite.training.observers import Observer, RunTables, Watching, make_watchers
from blendmask_lite.training.resume import (
    Recipe,
    begin_state,
    evaluated_model,
    find_last_checkpoint,
    make_checkpoint,
    save_trained,
)
from blendmask_lite.training.run import train_transform
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.schedule import (
    HELD_OUT_SEED,
    NUM_SHAPES,
    SCHEDULES,
    TrainConfig,
    learning_rate_at,
    rescale,
)
from blendmask_lite.training.session import RunSession
from blendmask_lite.weights.checkpoint import write_checkpoint

__all__ = ["MyTraining", "package_losses", "recipe_of", "train_my_model"]

MOST_SNAPSHOTS = 20


def recipe_of(*, seed: int, iterations: int) -> Recipe:
    """The settings of `blendmask-lite train shapes --preset nano`."""
    train = replace(rescale(SCHEDULES["laptop"], iterations=iterations), seed=seed)
    return Recipe(model=PRESETS["nano"], inference=PRESET_INFERENCE["nano"], train=train)


def train_my_model(
    folder: str | Path,
    *,
    seed: int,
    iterations: int,
    num_evaluated: int = 200,
    module: ModuleType | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[int]:
    """Train the model of `my_blendmask.py` with its own loop, or continue a stopped training.

    Args:
        folder: the run's folder.
        seed: seed of the images, of the initial weights and of the order of the images.
        iterations: number of optimizer steps.
        num_evaluated: number of held-out images on which AP is measured at the end.
        module: the module `my_blendmask`.
        should_stop: called after every step; if it returns True, a checkpoint is saved, and the
            training ends.

    Yields:
        The number of steps done, after each of them, and while it is evaluated.

    Raises:
        ValueError: a loss is not finite, or another process trains in the folder.
    """
    module = my_blendmask() if module is None else module
    run, recipe = RunFolder(folder), recipe_of(seed=seed, iterations=iterations)
    config = recipe.train
    dataset = ShapesDataset(NUM_SHAPES, seed=seed)
    held_out = ShapesDataset(num_evaluated, seed=seed + HELD_OUT_SEED)
    with RunSession(run) as session:
        state = begin_state(dataset, recipe, run, find_last_checkpoint(run, True), ALONE)
        mine = my_model(evaluated_model(state), module)
        watching = Watching(num_snapshots=min(MOST_SNAPSHOTS, iterations + 1))
        tables = RunTables(run, iteration=state.iteration, is_evaluated=True)
        observers: list[Observer] = [tables, *make_watchers(watching, run, recipe, held_out)]
        about = {"command": "chapter 12", "num_images": len(dataset), "train": asdict(config)}
        session.begin(about, iteration=state.iteration)
        batches = _batches(state, config, dataset, module)
        try:
            for observer in observers:
                observer.on_start(state)
            mine.train()
            start = time.perf_counter()
            steps = _loop(module, mine, state.optimizer, batches, config, state.iteration)
            for losses in steps if state.iteration < iterations else ():
                values = _values(losses, state.iteration)
                rate, state.iteration = (
                    learning_rate_at(state.iteration, config),
                    state.iteration + 1,
                )
                record = StepRecord(
                    iteration=state.iteration,
                    learning_rate=rate,
                    losses=values,
                    total=sum(values.values()),
                    gradient_norm=_norm(mine),
                    num_images=config.batch_size,
                    seconds=time.perf_counter() - start,
                    data_seconds=0.0,
                )
                for observer in observers:
                    observer.on_step(state, record)
                is_last, is_asked = state.iteration == iterations, should_stop()
                if is_last or is_asked or state.iteration % config.checkpoint_every == 0:
                    write_checkpoint(make_checkpoint(state, recipe), run.last)
                mine.train()
                yield state.iteration
                start = time.perf_counter()
                if is_asked and not is_last:
                    session.finish(is_finished=False, iteration=state.iteration)
                    return
            mine.eval()
            evaluator = InstanceEvaluator(held_out)
            for place, image_id in enumerate(held_out.image_ids):
                [found] = mine.detect([held_out.load_image(place)])
                evaluator.add(image_id, found)
                yield state.iteration
            results = evaluator.finish()
            scores = {"mask AP": results.mask["AP"], "box AP": results.box["AP"]}
            tables.on_evaluate(state, scores)
            save_trained(state, recipe, run.model, half=False)
            session.finish(is_finished=True, iteration=state.iteration)
        finally:
            for observer in observers:
                observer.close()


def _loop(
    module: ModuleType,
    mine: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Any],
    config: TrainConfig,
    first: int,
) -> Iterator[dict[str, Tensor]]:
    """The student's loop; if it raises or ends too early, the package's loop continues."""
    done = first
    own = find_exercise("12.3").solution
    loops = [getattr(module.train_loop, "function", module.train_loop), own]
    for loop in loops:
        try:
            for losses in loop(mine, optimizer, batches, config, done):
                done += 1
                yield losses
                if done == config.iterations:
                    return
            reason = f"it ended after {done} of {config.iterations} steps"
        except Exception as error:
            if loop is own:
                raise  # the cause is not the student's loop, but what it was given
            reason = f"{type(error).__name__}: {error}"
        line = f"{reason}. The package's loop goes on from step {done}; nothing is lost."
        show(Note("red", "Exercise 12.3, your train_loop", (line,)))


def _batches(
    state: TrainingState, config: TrainConfig, dataset: ShapesDataset, module: ModuleType
) -> Iterator[tuple[list[Tensor], list[Target]]]:
    """The batches of the steps to come, each with the random state that the package's engine sets.

    Half of the images are mirrored by the student's `flip`.
    """
    augment = replace(train_transform(config), mirror=partial(_mirror, module.flip))
    load = SampleLoader(dataset, augment, mask_size=PRESETS["nano"].mask_size)
    first, num = state.iteration, len(dataset)
    for batch in batches_from(first, config, num_images=num, load=load, collate=collate):
        seed_step(config.seed, state.iteration)
        yield batch.images, batch.targets


def _mirror(flip: Callable[..., Any], sample: Sample) -> Sample:
    """The sample, mirrored by the student's `flip`: left and right are swapped."""
    target = sample.target
    image, boxes, masks = flip(sample.image, target.boxes, target.masks)
    semantic = None if target.semantic is None else target.semantic.flip(1)
    turned = replace(target, boxes=boxes, masks=masks, semantic=semantic, stuff=None)
    return replace(sample, image=image, target=turned)


def _values(losses: dict[str, Tensor], iteration: int) -> dict[str, float]:
    """The losses as numbers.

    Raises:
        ValueError: a loss is not finite.
    """
    values = {name: value.item() for name, value in losses.items()}
    problem = not_finite(values)
    if problem:
        raise ValueError(f"iteration {iteration}: {problem}; the last checkpoint is whole")
    return values


def _norm(model: nn.Module) -> float:
    """The norm of the gradient, after the clipping."""
    slopes = [each.grad for each in model.parameters() if each.grad is not None]
    return float(nn.utils.get_total_norm(slopes))


def package_losses(*, seed: int, iterations: int, num_steps: int) -> list[float]:
    """The sums of the losses in the first steps of the package's own training."""
    recipe = recipe_of(seed=seed, iterations=iterations)
    config, dataset = recipe.train, ShapesDataset(NUM_SHAPES, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        state = begin_state(dataset, recipe, RunFolder(folder), None, ALONE)
    totals: list[float] = []
    load = SampleLoader(dataset, train_transform(config), mask_size=recipe.model.mask_size)
    with torch.random.fork_rng(devices=[]):
        train(
            state,
            TrainingStep(evaluated_model(state)),
            batches_from(0, config, num_images=len(dataset), load=load, collate=collate),
            config,
            on_step=lambda record: totals.append(record.total),
            on_checkpoint=lambda state: None,
            should_stop=lambda: len(totals) >= num_steps,
        )
    return totals


class MyTraining(TrainingMonitor):
    """The dashboard of the student's own training, which runs between the cells of the notebook.

    It starts at once, continues if it was stopped, and pauses while another cell computes.

    Args:
        folder: the run's folder; a finished run is shown.
        seed: as in `train_my_model`.
        iterations: as in `train_my_model`.
        num_evaluated: as in `train_my_model`.
    """

    def __init__(
        self, folder: str | Path, *, seed: int, iterations: int, num_evaluated: int = 200
    ) -> None:
        self.settings: dict[str, Any] = {
            "seed": seed,
            "iterations": iterations,
            "num_evaluated": num_evaluated,
        }
        self.training: asyncio.Task[None] | None = None
        self.module: ModuleType | None = None  # the module `my_blendmask`, once it trains
        self._is_asked = False
        super().__init__(folder=folder, options="my_blendmask.py, in this notebook")
        for field in (self.controls.folder, self.controls.options):
            field.disabled = True
        self.controls.follow.layout.display = "none"
        if not self.process.run.model.exists():
            self.start()

    @property
    def is_training(self) -> bool:
        """Whether the model is being trained or evaluated now."""
        return self.training is not None and not self.training.done()

    def start(self) -> None:
        """Start the training, or continue a stopped one.

        Raises:
            ValueError: the training is running already.
        """
        if self.is_training:
            raise ValueError("your training is running already")
        self._is_asked = False
        self.training = asyncio.get_running_loop().create_task(self._train())

    def resume(self) -> None:
        """Continue a stopped training; see `start`."""
        self.start()

    def stop(self) -> None:
        """Ask the training to finish its step, save, and end.

        Raises:
            ValueError: nothing is running.
        """
        if not self.is_training:
            raise ValueError("your training is not running")
        self._is_asked = True
        self.say("Stopping: the training finishes its step, saves, and ends.")

    def free(self) -> None:
        """Stop following, and stop the training with its state saved."""
        self._is_asked = True
        super().free()

    async def finished(self) -> None:
        """Wait for the end of the training, and show it.

        Raises:
            Exception: the error that the training raised.
        """
        if self.training is not None:
            await self.training
        self.refresh()

    async def _train(self) -> None:
        self.module = my_blendmask()
        steps = train_my_model(
            self.process.folder,
            **self.settings,
            module=self.module,
            should_stop=lambda: self._is_asked,
        )
        try:
            for _ in steps:
                await asyncio.sleep(0)  # gives buttons, dashboard and other cells their turn
        finally:
            steps.close()  # type: ignore[attr-defined]  # a generator: it releases the folder

    def _show(self, run: RunView, curves: str | None) -> None:
        can_resume = run.can_resume and not self.is_training
        told = self._told
        super()._show(replace(run, can_stop=self.is_training, can_resume=can_resume), curves)
        raised = [] if self.module is None else parts_that_raised(self.module)
        if raised and self._told != told:
            words = f"The package's pieces stood in where yours raised: {'; '.join(raised)}"
            self.say(f"{self.message.text} {words}", "warning")
