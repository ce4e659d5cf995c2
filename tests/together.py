"""Trains tiny models in one process and in two, and writes what came out into a folder.

    python together.py FOLDER PORT

WAY.pt has losses and weights after ten steps in float64, for several ways to take the batches. The
norms are GroupNorm and frozen ones, whose results do not depend on who else is in the batch. Two
processes write happened_RANK.json, too: how whole runs ended for each of them. What a process says
is in said_RANK.txt. All are forked after the imports, which take longer than what they do.
"""

import contextlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from blendmask_lite import PRESETS, BlendMask, Target
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.sample import Sample, collate
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.model import blendmask
from blendmask_lite.model.fcos import pyramid_locations as locations
from blendmask_lite.model.layers import group_norm
from blendmask_lite.training import criterion
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.distributed import join_ranks, one_voice
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, rescale

HEIGHT, WIDTH = 64, 96
MODEL = replace(
    PRESETS["panoptic_r50"],
    stem_channels=8,
    stage_width=4,
    stage_channels=16,
    pyramid_channels=16,
    bottom_channels=8,
    semantic_channels=8,
    panoptic_channels=8,
    num_class_convs=1,
    num_box_convs=1,
    attention_size=5,
    mask_size=14,
    num_classes=3,
    num_stuff_classes=2,
    frozen_stages=1,
)
CONFIG = TrainConfig(
    iterations=10,
    batch_size=4,
    learning_rate=0.02,
    milestones=(),
    warmup_iterations=0,
    train_sizes=(HEIGHT,),
    max_size=WIDTH,
)
NUM_IMAGES = 6


def objects_of(index):
    """Some images have many objects, every second one has none."""
    return 0 if index % 2 else 1 + 2 * index


def load(index, generator):
    """An image of noise with boxes of noise; all of one size."""
    del generator
    rng = random.Random(index)
    count = objects_of(index)
    corners = [(rng.randrange(0, 60), rng.randrange(0, 30)) for _ in range(count)]
    boxes = [(x, y, x + rng.randrange(12, 36), y + rng.randrange(12, 34)) for x, y in corners]
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0 : x1 - 4] = True
    generator = torch.Generator().manual_seed(index)
    stuff = torch.randint(0, 3, (HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    stuff[: 8 * index] = 255
    target = Target(
        boxes=torch.tensor(boxes, dtype=torch.float64).view(-1, 4),
        labels=torch.tensor([rng.randrange(3) for _ in boxes], dtype=torch.int64),
        masks=masks,
        stuff=stuff,
    )
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    return Sample(image=image, target=target, image_id=index, original_size=(HEIGHT, WIDTH))


def make_model():
    """In float64, with norms that look at one image at a time."""
    torch.manual_seed(0)
    model = BlendMask(MODEL)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, group_norm(child.num_features))
    return model.double()


class OwnCounts(nn.Module):
    """The usual mistake: each process divides by the counts of its own images."""

    def __init__(self, step, size):
        super().__init__()
        self.step, self.size = step, size

    def forward(self, images, targets, totals=None):
        return {name: loss / self.size for name, loss in self.step(images, targets).items()}


def compare_ways(folder, ways, ranks):
    """Train in several ways to take the batches."""
    # Targets and locations are float32 by default; here nothing shall round.
    torch.set_default_dtype(torch.float64)
    for module in (blendmask, criterion):
        module.pyramid_locations = lambda *shapes, **device: locations(*shapes, **device).double()
    for way, (num_parts, wrap) in ways.items():
        config = replace(CONFIG, accumulate=num_parts)
        state = TrainingState(make_model(), config)
        step = criterion.TrainingStep(state.model)
        losses = []
        train(
            state,
            ranks.wrap(wrap(step, ranks.size)),
            batches_from(
                0,
                config,
                num_images=NUM_IMAGES,
                load=load,
                collate=collate,
                share=(ranks.rank, ranks.size),
            ),
            config,
            on_step=lambda record, losses=losses: losses.append(list(record.losses.values())),
            on_checkpoint=lambda state: None,
            ranks=ranks,
            totals_of=step.criterion.totals,
        )
        content = {"losses": torch.tensor(losses), "weights": state.model.state_dict()}
        if ranks.is_first:
            torch.save(content, Path(folder) / f"{way}.pt")


def run_scenarios(folder, ranks):
    """What happens to a whole run when something happens to one of its processes."""
    happened = {}
    for name, (dataset, patch, recipe) in SCENARIOS.items():
        with contextlib.ExitStack() as stack:
            if ranks.rank == 1:
                stack.enter_context(patch())
            try:
                with one_voice(ranks):
                    happened[name] = train_model(
                        dataset(),
                        Path(folder) / name,
                        recipe,
                        validation=ShapesDataset(3, seed=9),
                        ranks=ranks,
                    )
            except (ValueError, RuntimeError, SystemExit) as error:
                happened[name] = f"{type(error).__name__}: {error}"
    path = Path(folder) / f"happened_{ranks.rank}.json"
    path.write_text(json.dumps(happened))


class Terminated(ShapesDataset):
    """Asks its process to stop while it loads the fourth image, the second of its second step."""

    loads = 0

    def load(self, index):
        self.loads += 1
        if self.loads == 4 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().load(index)


@contextlib.contextmanager
def bad_box_loss():
    """The box loss is not a number."""
    whole = criterion.box_loss
    criterion.box_loss = lambda *values: whole(*values) * math.nan
    yield
    criterion.box_loss = whole


RECIPE = Recipe(
    model=replace(PRESETS["nano"], stage_width=16, stem_channels=16, pyramid_channels=16),
    inference=PRESET_INFERENCE["nano"],
    train=replace(
        rescale(TRAIN_PRESETS["nano"], iterations=3, batch_size=4),
        accumulate=2,
        evaluate_every=3,
        train_sizes=(64,),
        max_size=64,
    ),
)
# Table 7 ends with bases of P3 alone: there nobody reads P5.
P3_ALONE = replace(RECIPE, model=replace(RECIPE.model, bottom="proto_p3", bottom_inputs=("p3",)))
SCENARIOS = {
    "undisturbed": (lambda: ShapesDataset(6, seed=3), contextlib.nullcontext, RECIPE),
    "terminated": (lambda: Terminated(6, seed=3), contextlib.nullcontext, RECIPE),
    "p3 alone": (lambda: ShapesDataset(6, seed=3), contextlib.nullcontext, P3_ALONE),
    "not a number": (lambda: ShapesDataset(6, seed=3), bad_box_loss, RECIPE),
}


def train_all(folder, said, variables):
    """What one process does; torchrun would give it its variables."""
    os.environ.update(variables)
    os.dup2(os.open(Path(folder) / said, os.O_WRONLY | os.O_CREAT), 2)
    torch.set_num_threads(1)
    whole = (1, lambda step, size: step)
    in_parts = (2, lambda step, size: step)
    with join_ranks(torch.device("cpu")) as ranks:
        if ranks.size > 1:
            run_scenarios(folder, ranks)
            ways = {"shared": whole, "shared in parts": in_parts, "own": (1, OwnCounts)}
            compare_ways(folder, ways, ranks)
        else:
            compare_ways(folder, {"whole": whole, "parts": in_parts}, ranks)


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    variables = {f"said_{rank}.txt": {**address, "RANK": str(rank)} for rank in range(2)}
    variables["said_alone.txt"] = {}
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=train_all, args=(folder, *each)) for each in variables.items()]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
