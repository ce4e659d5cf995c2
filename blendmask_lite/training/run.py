"""A training run from beginning to end: data set in, a folder with the trained model out."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from blendmask_lite.datasets.panoptic import PanopticData
from blendmask_lite.datasets.sample import InstanceDataset, SampleLoader, TrainingDataset, collate
from blendmask_lite.datasets.transforms import TrainTransform, paste_objects
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.evaluation.panoptic import evaluate_panoptic
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.engine import NonFiniteLossError, StepRecord, TrainingState, train
from blendmask_lite.training.failure import save_failure
from blendmask_lite.training.observers import (
    BestModel,
    Observer,
    ProgressLine,
    RunTables,
    Watching,
    make_watchers,
)
from blendmask_lite.training.resume import (
    Recipe,
    begin_state,
    evaluated_model,
    find_last_checkpoint,
    iterations_before,
    make_checkpoint,
    require_fitting,
    save_trained,
)
from blendmask_lite.training.run_folder import RunFolder, full_disk_explained
from blendmask_lite.training.schedule import TrainConfig
from blendmask_lite.training.session import RunSession
from blendmask_lite.weights.checkpoint import write_checkpoint

__all__ = ["StopRequest", "deterministic", "train_model", "train_transform"]


def train_model(
    dataset: TrainingDataset,
    folder: str | Path,
    recipe: Recipe,
    *,
    model: BlendMask | None = None,
    validation: InstanceDataset | None = None,
    is_resumed: bool = False,
    device: str | torch.device = "cpu",
    description: Mapping[str, Any] | None = None,
    half: bool = False,
    watching: Watching | None = None,
    note: str | None = None,
    ranks: Ranks | None = None,
) -> bool:
    """Train a model and write it, its log and its checkpoints into a folder.

    Ctrl-C and SIGTERM save a checkpoint and stop. A killed run can be continued from its last
    checkpoint, with bit-identical results.

    Args:
        dataset: training data; its class and stuff names go into the checkpoint. A data set
            of images and torchvision's target dicts is wrapped into a `TorchvisionDataset`.
        folder: the run's folder; see `RunFolder`.
        recipe: what to train, and how.
        model: this model is trained instead of a new one; it may have your own parts. It gets the
            data's names and the recipe's inference settings.
        validation: data for an evaluation every `recipe.train.evaluate_every` iterations and at the
            end; the model with the best mask AP is kept in best.safetensors.
        is_resumed: continue the run in `folder`, or begin it if there is no checkpoint yet.
        device: device to train on.
        description: more plain values for run.json, such as the command.
        half: whether to write the finished model in half precision.
        watching: what else to record, on images of `validation`, or of `dataset` if there is none.
        note: text that is printed when the training begins.
        ranks: the processes that train together, each of which calls this; by default a single
            process. Their device replaces `device`, and only the first of them writes.

    Returns:
        True if training is finished (perhaps early, because its patience ran out), False if it was
        stopped on request.

    Raises:
        FileExistsError: the folder holds a run and `is_resumed` is False, or it holds a model
            without a checkpoint to continue from.
        ValueError: `dataset` or `validation` lacks what it needs; `model` and the recipe have
            different configs; the recipe differs from the continued run's in more than a greater
            length; the data differ from the run's, or do not have the model's number of classes
            or stuff classes; or there is a patience but no evaluation.
        NonFiniteLossError: see `engine.train`; the step is in failure.pt.
        OSError: the disk is full, or cannot be written to; the last checkpoint is intact.
    """
    ranks = ranks or Ranks(device=torch.device(device))
    require_fitting(dataset, validation, recipe, ranks)
    if model is not None and model.config != recipe.model:
        raise ValueError(
            "model: its config is not the recipe's; pass Recipe(model=model.config, ...)"
        )
    config = recipe.train
    if config.patience is not None and (validation is None or config.evaluate_every is None):
        raise ValueError(f"patience = {config.patience}: needs data to evaluate on, and how often")
    run = RunFolder(folder)
    num_images = 0 if validation is None else len(validation)
    line = ProgressLine(config.iterations, num_images=num_images)
    say = line.note if ranks.is_first else lambda text: None
    with (
        full_disk_explained(run),
        RunSession(run, device=ranks.device, is_recorded=ranks.is_first) as session,
        deterministic(config.is_deterministic, say),
    ):
        last = find_last_checkpoint(run, is_resumed)
        state = begin_state(dataset, recipe, run, last, ranks, model)
        if last is not None:
            session.require_same_data(len(dataset))
        observers: list[Observer] = []
        best: BestModel | None = None
        if ranks.is_first:
            watchers = make_watchers(watching or Watching(), run, recipe, validation or dataset)
            run.remove_leftovers()
            if validation is not None and config.evaluate_every is not None:
                best = BestModel(run, recipe, iteration=state.iteration, half=half)
                watchers.insert(0, best)
            is_evaluated = validation is not None
            tables = RunTables(run, iteration=state.iteration, is_evaluated=is_evaluated)
            observers = [tables, line, *watchers]
        about = {
            **(description or {}),
            "num_images": len(dataset),
            "num_processes": ranks.size,
            "model": asdict(recipe.model),
            "inference": asdict(recipe.inference),
            "train": asdict(config),
        }
        shorter = iterations_before(recipe, last)
        session.begin(about, iteration=state.iteration, iterations_before=shorter)
        if note is not None:
            say(note)
        if shorter is not None:
            say(
                f"continues to {config.iterations} iterations instead of {shorter}, on the "
                "schedule of the longer run: from here on it differs from a run planned at this "
                "length"
            )
        with contextlib.ExitStack() as at_the_end:
            for observer in observers:
                at_the_end.callback(observer.close)
            is_finished = _loop(
                state,
                recipe,
                dataset,
                validation,
                run=run,
                ranks=ranks,
                observers=observers,
                best=best,
                line=line,
            )
        reason = None
        if is_finished and ranks.is_first:
            if best is not None and state.iteration < config.iterations:
                reason = best.reason
                line.note(f"ends at iteration {state.iteration}: {reason}")
            save_trained(state, recipe, run.model, half=half)
            line.note(f"finished: {run.model}")
        elif ranks.is_first:
            line.note(f"stopped at iteration {state.iteration}; --resume continues: {run.last}")
        session.finish(is_finished=is_finished, iteration=state.iteration, reason=reason)
    return is_finished


def _loop(
    state: TrainingState,
    recipe: Recipe,
    dataset: TrainingDataset,
    validation: InstanceDataset | None,
    *,
    run: RunFolder,
    ranks: Ranks,
    observers: Sequence[Observer],
    best: BestModel | None,
    line: ProgressLine,
) -> bool:
    """Train until finished or stopped, telling the observers."""

    def on_step(record: StepRecord) -> None:
        for observer in observers:
            observer.on_step(state, record)

    def on_checkpoint(state: TrainingState) -> None:
        for observer in observers:
            observer.on_checkpoint(state)
        if ranks.is_first:  # written last, so nothing is recorded twice after a kill
            write_checkpoint(make_checkpoint(state, recipe), run.last)

    def on_evaluate(state: TrainingState) -> bool:
        if validation is None:
            return False
        progress = line.counter("images evaluated") if ranks.is_first else None
        scores = _scores(state, validation, ranks, progress)
        for observer in observers:
            observer.on_evaluate(state, scores)
        return best is not None and best.is_enough

    assert isinstance(state.model, BlendMask)
    step = TrainingStep(state.model)
    load = SampleLoader(
        dataset,
        train_transform(recipe.train),
        mix=None if recipe.train.copy_paste is None else paste_objects,
        mix_share=recipe.train.copy_paste or 0,
        mask_size=recipe.model.mask_size,
    )
    batches = batches_from(
        state.iteration,
        recipe.train,
        num_images=len(dataset),
        load=load,
        collate=collate,
        share=(ranks.rank, ranks.size),
        pin_memory=ranks.device.type == "cuda",
    )
    try:
        with StopRequest(line.note if ranks.is_first else lambda text: None) as stop:
            for observer in observers:
                observer.on_start(state)
            if ranks.any(best is not None and best.lacks(state.iteration)):
                on_evaluate(state)
            if ranks.any(best is not None and best.is_enough):
                return True
            return train(
                state,
                ranks.wrap(step),
                batches,
                recipe.train,
                on_step=on_step,
                on_checkpoint=on_checkpoint,
                on_evaluate=on_evaluate,
                should_stop=stop,
                ranks=ranks,
                totals_of=step.criterion.totals,
            )
    except NonFiniteLossError as error:
        save_failure(run.failure, error, state, recipe, ranks)
        message = f"{error}. The step is kept for a closer look: {run.failure}"
        raise NonFiniteLossError(message, error.batch, error.values) from None


def train_transform(config: TrainConfig) -> TrainTransform:
    """The augmentation of the config."""
    return TrainTransform(
        train_sizes=config.train_sizes,
        max_size=config.max_size,
        flip=config.flip,
        color_jitter=config.color_jitter,
        channel_permutation=config.channel_permutation,
        crop=config.crop,
        jitter=config.jitter,
    )


def _scores(
    state: TrainingState,
    validation: InstanceDataset,
    ranks: Ranks,
    progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    """Scores in percent: "mask AP", "box AP50", ...; with stuff also "panoptic PQ" and so on.

    The processes share the images.
    """
    model = evaluated_model(state)
    ranks.same_buffers(model)
    how: dict[str, Any] = {
        "progress": progress,
        "share": (ranks.rank, ranks.size),
        "gather": ranks.gather,
    }
    results = evaluate_model(model.eval(), validation, **how)
    kinds = {"mask": results.mask, "box": results.box}
    if model.stuff_names and isinstance(validation, PanopticData):
        quality = evaluate_panoptic(model, validation, **how)
        kinds |= {"panoptic": quality.all, "things": quality.things, "stuff": quality.stuff}
    return {f"{kind} {name}": value for kind, part in kinds.items() for name, value in part.items()}


@contextlib.contextmanager
def deterministic(is_asked: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Inside the `with` block torch uses deterministic algorithms, if `is_asked`.

    On a GPU, many threads add up the gradients of RoIAlign, bilinear interpolation and deformable
    convolution in varying order, which changes the rounding. The first two have deterministic but
    slower versions, which are used here: torch's own for `F.interpolate`, and torch.compile's for
    `roi_align`. Operations that have none are computed as usual, and reported once. cuBLAS reads
    its setting when it is first used: a process that has used it before should have
    CUBLAS_WORKSPACE_CONFIG=:4096:8 in its environment.

    Args:
        is_asked: if False, nothing is changed.
        say: called once for each operation that has no deterministic version.
    """
    if not is_asked:
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    mode = torch.get_deterministic_debug_mode()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True, warn_only=True)
        with _said_once(say):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)


@contextlib.contextmanager
def _said_once(say: Callable[[str], None]) -> Iterator[None]:
    """Turn torch's warnings of several lines into one line per operation."""
    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_once(message: Any, *place: Any, **more: Any) -> None:
            name, is_ours, _ = str(message).partition(" does not have a deterministic implement")
            if not is_ours:
                show(message, *place, **more)
            elif name not in said:
                said.add(name)
                say(f"not deterministic on this device, as torch has nothing else: {name}")

        warnings.showwarning = show_once
        warnings.filterwarnings("always", message=".*does not have a deterministic implement")
        yield


class StopRequest:
    """Inside the `with` block, the first signal is only remembered; a second Ctrl-C interrupts.

    Signals reach the main thread only; elsewhere entering the block raises ValueError.

    Args:
        say: called at once with what will happen, because a step can take long.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal is not None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            with contextlib.suppress(RuntimeError):  # it came while a line was being written
                self.say("finishes this step and saves; Ctrl-C again stops at once, unsaved")
        self.signal = signal.Signals(number)
