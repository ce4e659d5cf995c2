"""Times training steps on a GPU: images a second, peak memory, utilisation, synchronous norms.

    python benchmarks/training.py                         r50, 16 images, bfloat16
    torchrun --nproc-per-node 1 benchmarks/training.py --preset rt_r50
                                                          with synchronous norms, too
    torchrun --nproc-per-node 4 benchmarks/training.py    16 images over 4 GPUs
    python benchmarks/training.py --preset nano --size 64x96 --batch-size 2 --steps 1
                                                          any machine

The images are noise with seven objects each, about as many as in COCO, and are on the device before
the clock starts: what is measured is the network, the losses and the optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from contenders import coco_like_boxes

from blendmask_lite import PRESETS, BlendMask, Target
from blendmask_lite.datasets.sample import Batch
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.distributed import Ranks, join_ranks
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, rescale

__all__ = ["main"]

NUM_OBJECTS = 7  # of an image of COCO, on average
NUM_BOXES = 100  # of the blender
WARM_UP = 3  # steps that are not counted


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line, print its numbers and return them."""
    options = parse(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with join_ranks(torch.device(device)) as ranks:
        result = {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "torch": str(torch.__version__),
            "processes": ranks.size,
            **measure_steps(options, ranks),
            "blender_ms": measure_blender(options, ranks.device),
        }
        if ranks.is_first:
            print(json.dumps(result, indent=1))
            if options.json is not None:
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="r50")
    parser.add_argument("--size", type=size_of, default=(800, 1344), metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch-size", type=int, default=16, help="over all processes")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    return parser.parse_args(arguments)


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of a text such as 800x1344."""
    height, width = (int(part) for part in text.split("x"))
    return height, width


def measure_steps(options: argparse.Namespace, ranks: Ranks) -> dict[str, Any]:
    """Images a second, memory and utilisation; on GPUs with synchronous norms and without."""
    kinds = {"plain norms": False}
    if ranks.is_joined and ranks.device.type == "cuda":
        kinds["synchronous norms"] = True
    return {kind: steps_with(options, ranks, is_synchronous=on) for kind, on in kinds.items()}


def steps_with(
    options: argparse.Namespace, ranks: Ranks, *, is_synchronous: bool
) -> dict[str, float | None]:
    torch.manual_seed(0)
    model = BlendMask(PRESETS[options.preset]).to(ranks.device)
    if is_synchronous:
        ranks.synchronize_norms(model)
    config = make_config(options)
    state, step = TrainingState(model, config), TrainingStep(model)
    batch = make_batch(options, options.batch_size // ranks.size, ranks.device)
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    with gpu_utilisation() as utilisation:
        train(
            state,
            ranks.wrap(step),
            [batch] * config.iterations,
            config,
            on_step=lambda record: seconds.append(record.seconds),
            on_checkpoint=lambda state: None,
            ranks=ranks,
            totals_of=step.criterion.totals,
        )
    used = utilisation[len(utilisation) // 3 :]  # without building and warming up
    return {
        "images_per_second": options.batch_size / statistics.median(seconds[WARM_UP:]),
        "peak_memory_gb": peak_memory(ranks.device),
        "gpu_utilisation_percent": statistics.mean(used) if used else None,
    }


def make_config(options: argparse.Namespace) -> TrainConfig:
    """The preset's own optimizer, for a few steps that change next to nothing."""
    values = vars(rescale(TRAIN_PRESETS[options.preset], batch_size=options.batch_size)).copy()
    values |= {
        "iterations": options.steps + WARM_UP,
        "learning_rate": 1e-8,
        "accumulate": options.accumulate,
        "precision": options.precision,
    }
    return TrainConfig(**values)


def make_batch(options: argparse.Namespace, num_images: int, device: torch.device) -> Batch:
    """Noise with `NUM_OBJECTS` objects an image."""
    config, size = PRESETS[options.preset], options.size
    generator = torch.Generator().manual_seed(0)
    target = Target(
        boxes=coco_like_boxes(NUM_OBJECTS, size),
        labels=torch.randint(0, config.num_classes, (NUM_OBJECTS,), generator=generator),
        mask_crops=torch.ones(NUM_OBJECTS, config.mask_size, config.mask_size, dtype=torch.bool),
        semantic=torch.zeros(size, dtype=torch.uint8),
        stuff=torch.zeros(size, dtype=torch.uint8) if config.num_stuff_classes else None,
    ).to(device)
    images = torch.randint(
        0, 256, (num_images, 3, *size), generator=generator, dtype=torch.uint8
    ).to(device)
    return Batch(list(images), [target] * num_images, list(range(num_images)))


def peak_memory(device: torch.device) -> float:
    """Of the GPU, or on the CPU of the process; gigabytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@contextlib.contextmanager
def gpu_utilisation() -> Iterator[list[float]]:
    """Percent, twice a second; in the list when the block has ended. Empty without nvidia-smi."""
    values: list[float] = []
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        yield values
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    command = [*query, "--loop-ms=500", f"--id={torch.cuda.current_device()}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield values
    finally:
        process.terminate()
        values += [float(line) for line in process.communicate()[0].split() if line.isdigit()]


@torch.no_grad()
def measure_blender(options: argparse.Namespace, device: torch.device) -> float:
    """Milliseconds from the bases to the mask logits of `NUM_BOXES` boxes of one image."""
    torch.manual_seed(0)
    model = BlendMask(PRESETS[options.preset]).eval().to(device)
    output = model([torch.rand(3, *options.size, device=device)])
    boxes = coco_like_boxes(NUM_BOXES, options.size).to(device)
    image = torch.zeros(NUM_BOXES, dtype=torch.int64, device=device)
    attentions = torch.randn(NUM_BOXES, model.merger.attention_channels, device=device)

    def blend() -> None:
        model.merger(model.crops_at(output, image, boxes), attentions)

    return statistics.median(timed(blend, device) for _ in range(options.steps + WARM_UP))


def timed(job: Callable[[], None], device: torch.device) -> float:
    """Milliseconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
