"""Times r50 against torchvision's Mask R-CNN: totals, stages, number of instances.

Chapter 14. Random weights, one image, one thread. The contenders take turns, so that whatever else
the machine does hits them alike; medians are reported, for a ratio that of the rounds' ratios with
the middle 95 % of its bootstrap. A large matrix product takes its turn among the stages: what it
reaches is the peak of which a stage has a share. `--clock cpu` counts this process' own seconds and
is the better judge on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from contenders import NUM_DETECTIONS, coco_like_boxes, make_blendmask, make_mask_rcnn
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blendmask_lite import BlendMask
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.inputs import batch_images

__all__ = ["main"]

INSTANCES = (1, 10, 100)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# What the project aims at, by (height, width): Mask R-CNN's time over ours.
TARGET_RATIOS = {(800, 1088): 2.0, (480, 640): 2.8}
TARGETS_MS = {"paste 100 masks": 40.0, "blender, 100 boxes": 8.0}
TARGET_GROWTH = 0.05  # of the total from 1 to 100 instances
PEAK = "large matrix product"
PEAK_SIDE = 2048  # of its factors
DRAWS = 2000  # of the bootstrap

Job = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line and print its tables."""
    options = parse(arguments)
    torch.set_num_threads(1)
    results = [measure(size, options.repeats, CLOCKS[options.clock]) for size in options.sizes]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, one thread,")
    print(f"{options.repeats} repeats, medians, {options.clock} clock, {processor()}")
    for result in results:
        print(table(result))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        *("--sizes", "-s"),
        nargs="+",
        type=size_of,
        default=list(TARGET_RATIOS),
        metavar="HEIGHTxWIDTH",
        help="of the image, multiples of 32, pixels (default: 800x1088 480x640)",
    )
    parser.add_argument("--repeats", "-r", type=int, default=7, help="of everything (default: 7)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="default: wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    return parser.parse_args(arguments)


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of a text such as 800x1088."""
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH") from None
    if height % 32 or width % 32 or min(height, width) < 32:
        raise argparse.ArgumentTypeError(f"{text}: both sides must be multiples of 32")
    return height, width


@torch.no_grad()
def measure(size: tuple[int, int], repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """All times at one image size, milliseconds."""
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    blendmask, mask_rcnn = make_blendmask(image), make_mask_rcnn(image)
    totals = interleaved(
        {
            "Mask R-CNN": lambda: mask_rcnn([image]),
            **{
                f"r50, {n} instances": lambda n=n: blendmask.predict([image], max_detections=n)
                for n in INSTANCES
            },
        },
        repeats,
        clock,
    )
    stages = blendmask_stages(blendmask, image)
    stages[PEAK] = matrix_product()
    return {
        "size": size,
        "totals": totals,
        "blendmask": interleaved(stages, repeats, clock),
        "gflops": {name: operations(job) for name, job in stages.items()},
        "mask_rcnn": interleaved(mask_rcnn_stages(mask_rcnn, image), repeats, clock),
        "parts": interleaved(parts(blendmask, image), repeats, clock),
    }


def matrix_product() -> Job:
    """The most floating-point operations a second that this core gives away."""
    a, b = torch.randn(2, PEAK_SIDE, PEAK_SIDE)
    return lambda: a @ b


def operations(job: Job) -> float:
    """Multiplications and additions of a job's products and convolutions, 10^9."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops() / 1e9


def interleaved(
    jobs: dict[str, Job], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Milliseconds of every job in every round; one round warms up and is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(repeats + 1):
        for name, job in jobs.items():
            started = clock()
            job()
            if round_number:
                times[name].append(1000 * (clock() - started))
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and the middle 95 % of its bootstrap."""
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    generator = random.Random(0)
    draws = sorted(
        statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(DRAWS)
    )
    low, high = draws[round(0.025 * DRAWS)], draws[round(0.975 * DRAWS) - 1]
    return statistics.median(ratios), low, high


def blendmask_stages(model: BlendMask, image: Tensor) -> dict[str, Job]:
    """The steps of `BlendMask.predict`, each with its inputs ready."""
    batch, _ = batch_images([image], model.config, device="cpu")
    output = model([image])
    levels = [output.features[name] for name in model.config.levels]
    [found] = model.detect(output)
    image_index = torch.zeros_like(found.location_index)
    index = torch.stack([image_index, found.location_index], dim=1)
    attentions = model.attentions_at(output, index)
    crops = model.crops_at(output, image_index, found.boxes)
    logits = model.merger(crops, attentions)
    size = (image.shape[-2], image.shape[-1])
    return {
        "normalise, pad": lambda: batch_images([image], model.config, device="cpu"),
        "backbone": lambda: model.backbone(batch),
        "pyramid": lambda: model.fpn(output.features),
        "FCOS head": lambda: model.head(levels),
        "bottom module": lambda: model.bottom(output.features),
        "scores, top-k, NMS": lambda: model.detect(output),
        "attentions": lambda: model.attentions_at(output, index),
        "crop bases": lambda: model.crops_at(output, image_index, found.boxes),
        "blend": lambda: model.merger(crops, attentions),
        "paste": lambda: paste_masks(logits, found.boxes, size),
    }


def mask_rcnn_stages(model: nn.Module, image: Tensor) -> dict[str, Job]:
    """The steps of torchvision's `GeneralizedRCNN.forward`."""
    images, _ = model.transform([image])
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    found, _ = model.roi_heads(features, proposals, images.image_sizes)
    size = [(image.shape[-2], image.shape[-1])]
    copies = [dict(each) for each in found]  # postprocess writes into what it is given
    return {
        "normalise, pad": lambda: model.transform([image]),
        "backbone, pyramid": lambda: model.backbone(images.tensors),
        "region proposals": lambda: model.rpn(images, features),
        "box and mask heads": lambda: model.roi_heads(features, proposals, images.image_sizes),
        "paste": lambda: model.transform.postprocess(
            [dict(each) for each in copies], images.image_sizes, size
        ),
    }


def parts(model: BlendMask, image: Tensor) -> dict[str, Job]:
    """What the project promises about 100 objects of sizes as in COCO."""
    size = (image.shape[-2], image.shape[-1])
    output = model([image])
    boxes = coco_like_boxes(NUM_DETECTIONS, size)
    image_index = torch.zeros(len(boxes), dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    attentions = torch.randn(len(boxes), model.merger.attention_channels, generator=generator)

    def blend() -> Tensor:
        logits: Tensor = model.merger(model.crops_at(output, image_index, boxes), attentions)
        return logits

    logits = blend()
    return {
        "paste 100 masks": lambda: paste_masks(logits, boxes, size),
        "blender, 100 boxes": blend,
    }


def table(result: dict[str, Any]) -> str:
    """The text that is printed for one size."""
    size, totals = result["size"], result["totals"]
    few, many = (totals[f"r50, {n} instances"] for n in (INSTANCES[0], INSTANCES[-1]))
    faster = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(totals["Mask R-CNN"], many))
    growth = "{:+.1%} [{:+.1%}, {:+.1%}]".format(*(value - 1 for value in ratio(many, few)))
    target = f" (target {TARGET_RATIOS[size]})" if size in TARGET_RATIOS else ""
    lines = [
        "",
        f"{size[0]}x{size[1]}",
        *rows("Totals", totals),
        f"  Mask R-CNN / r50, both with {NUM_DETECTIONS} detections: {faster}{target}",
        f"  growth from 1 to 100 instances: {growth} (target {TARGET_GROWTH:.0%})",
        *rows("Stages of r50", result["blendmask"], gflops=result["gflops"]),
        *rows("Stages of Mask R-CNN", result["mask_rcnn"]),
        *rows("Parts", result["parts"], targets=TARGETS_MS),
    ]
    return "\n".join(lines)


def rows(
    title: str,
    times: dict[str, list[float]],
    *,
    targets: dict[str, float] | None = None,
    gflops: dict[str, float] | None = None,
) -> list[str]:
    lines = [f"  {title}"]
    for name, each in times.items():
        milliseconds = statistics.median(each)
        note = f"  (target {targets[name]:.0f})" if targets else ""
        if gflops and gflops[name] > 0:
            speed = [gflops[name] / value for value in each]
            peak = [gflops[PEAK] / value for value in times[PEAK]]
            share = "{:4.0%} [{:.0%}, {:.0%}]".format(*ratio(speed, peak))
            note = f"  {1000 * statistics.median(speed):6.1f} GFLOP/s, {share} of the peak"
        lines.append(f"    {name:22} {milliseconds:8.1f} ms{note}")
    return lines


def processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
