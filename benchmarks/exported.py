"""Compares ONNX files of one model: size, AP, agreement with the first file, time.

Each file is run by ONNX Runtime on one thread and, with `--openvino` (`pip install openvino`), by
OpenVINO, too. AP is that of `blendmask-lite evaluate CHECKPOINT ROOT`, computed by the same code.
For the times the contenders take turns on the same images, as in `inference.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from inference import CLOCKS, interleaved, processor, ratio
from numpy.typing import NDArray
from torchvision.ops import box_iou

from blendmask_lite import BlendMask, load_model
from blendmask_lite.cli.options import SHAPES, open_dataset
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.images import resize_for_test
from blendmask_lite.model.blendmask import place_detections
from blendmask_lite.model.fcos import Proposals
from blendmask_lite.training.schedule import HELD_OUT_SEED

__all__ = ["main"]

LEAST_SCORE = 0.3  # of detections that are compared: many fainter ones are no objects
LEAST_IOU = 0.5  # of boxes of one label that are the same detection
QUANTILES = (0.5, 0.99, 1.0)

Array = NDArray[np.float32]
Outputs = tuple[Array, Array, NDArray[np.int64], Array]  # boxes, scores, labels, masks
Runner = Callable[[Array], Outputs]


@dataclass(frozen=True)
class Agreement:
    """How far the detections of one file are from those of another.

    Attributes:
        share: of the detections, in both files together, that have a partner in the other file.
        score: differences of partners: the median, the 99th of 100, the largest.
        box: the same of corners, pixels.
        mask: the same of mask probabilities, cell by cell.
    """

    share: float
    score: tuple[float, ...]
    box: tuple[float, ...]
    mask: tuple[float, ...]


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Run the benchmark from the command line, print its table and return the numbers."""
    options = parse(arguments)
    torch.set_num_threads(1)
    model = load_model(options.checkpoint or shipped_checkpoint())
    dataset = open_dataset(
        options.data,
        split=options.split,
        num_images=options.images,
        seed=HELD_OUT_SEED,
        size=model.inference.test_size,
        is_one_class=options.one_class,
    )
    dataset = dataset.select(dataset.image_ids[: options.images])
    files, runners = {}, {}
    for path in options.files:
        for runtime, make in RUNTIMES.items():
            if runtime != "OpenVINO" or options.openvino:
                name = f"{path.name}, {runtime}"
                files[name], runners[name] = path, make(path)
    outputs = {
        name: list(map(runner, inputs(dataset, model.inference.test_size)))
        for name, runner in runners.items()
    }
    times = {side: times_at(side, dataset, runners, options) for side in options.sides}
    reference = next(iter(runners))
    results = []
    for name, path in files.items():
        box_ap, mask_ap = average_precision(model, dataset, outputs[name])
        results.append(
            {
                "name": name,
                "megabytes": path.stat().st_size / 1e6,
                "box_ap": box_ap,
                "mask_ap": mask_ap,
                **asdict(agreement(outputs[reference], outputs[name])),
                "ms": {side: statistics.median(each[name]) for side, each in times.items()},
                "time": {side: ratio(each[name], each[reference]) for side, each in times.items()},
            }
        )
    packages = ["onnxruntime", *(["openvino"] if options.openvino else [])]
    print(", ".join(f"{package} {version(package)}" for package in packages), end=", ")
    print(f"one thread, {options.clock} clock, {options.repeats} rounds, {processor()}")
    print(f"{len(dataset)} images; detections of score {LEAST_SCORE} or more have a partner if")
    print(f"the other file has the label there with IoU {LEAST_IOU} or more")
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return results


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="ONNX files, the reference first")
    parser.add_argument("--checkpoint", metavar="FILE", help="their model; default the shipped one")
    parser.add_argument(
        "--data", default=SHAPES, metavar="ROOT", help=f'COCO-layout folder, or "{SHAPES}"'
    )
    parser.add_argument("--split", metavar="NAME", help="by default the only one there is")
    parser.add_argument("--one-class", action="store_true", help="read all classes as one")
    parser.add_argument("--images", type=int, default=200, help="at most (default: 200)")
    parser.add_argument(
        *("--sides", "-s"),
        nargs="+",
        type=int,
        default=[128, 512],
        help="shorter sides of the images for times, pixels (default: 128 512)",
    )
    parser.add_argument("--repeats", "-r", type=int, default=15, help="rounds (default: 15)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="default: wall")
    parser.add_argument("--openvino", action="store_true", help="run the files by OpenVINO, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    return parser.parse_args(arguments)


def with_onnxruntime(path: Path) -> Runner:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings)
    return lambda image: tuple(session.run(None, {"image": image}))


def with_openvino(path: Path) -> Runner:
    import openvino

    # On CPUs that have bfloat16 it would compute in that by default.
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda image: tuple(values.copy() for values in compiled(image).values())


RUNTIMES = {"ONNX Runtime": with_onnxruntime, "OpenVINO": with_openvino}


def inputs(dataset: InstanceDataset, side: int) -> Iterator[Array]:
    """The images with a shorter side of so many pixels, as the files take them."""
    for index in range(len(dataset)):
        image = resize_for_test(dataset.load_image(index), side, round(side * 5 / 3))
        yield (image.float() / 255).numpy()


def average_precision(
    model: BlendMask, dataset: InstanceDataset, outputs: Sequence[Outputs]
) -> tuple[float, float]:
    """AP of boxes and masks, per cent."""
    evaluator = InstanceEvaluator(dataset)
    shapes = (image.shape[1:] for image in inputs(dataset, model.inference.test_size))
    for index, (found, shape) in enumerate(zip(outputs, shapes, strict=True)):
        boxes, scores, labels, masks = map(torch.from_numpy, found)
        nowhere = torch.zeros_like(labels)  # the locations are not in the file, AP needs none
        placed = place_detections(
            Proposals(boxes=boxes, scores=scores, labels=labels, location_index=nowhere),
            masks.logit(),
            (shape[0], shape[1]),
            tuple(dataset.load_image(index).shape[1:]),
            mask_threshold=model.inference.mask_threshold,
        )
        evaluator.add(dataset.image_ids[index], placed.pasted())
    results = evaluator.finish()
    return results.box["AP"], results.mask["AP"]


def agreement(one: Sequence[Outputs], other: Sequence[Outputs]) -> Agreement:
    """Of the detections of the same images by two files."""
    differences: dict[int, list[Array]] = {1: [], 0: [], 3: []}  # scores, boxes, masks
    num_partners = num_detections = 0
    for a, b in zip(one, other, strict=True):
        in_a, in_b = partners(a, b).T
        are_clear = np.maximum(a[1][in_a], b[1][in_b]) >= LEAST_SCORE
        for place, values in differences.items():
            apart = a[place][in_a[are_clear]] - b[place][in_b[are_clear]]
            values.append(np.abs(apart).ravel())
        for scores, matched in ((a[1], in_a), (b[1], in_b)):
            num_detections += int((scores >= LEAST_SCORE).sum())
            num_partners += int((scores[matched] >= LEAST_SCORE).sum())
    score, box, mask = (
        tuple(np.quantile(np.concatenate(values), QUANTILES).tolist())
        for values in differences.values()
    )
    return Agreement(share=num_partners / num_detections, score=score, box=box, mask=mask)


def partners(a: Outputs, b: Outputs) -> NDArray[np.int64]:
    """(P, 2) positions of detections that are the same: each the other's best of its label."""
    overlap = box_iou(torch.from_numpy(a[0]), torch.from_numpy(b[0])).numpy()
    overlap = np.where(a[2][:, None] == b[2], overlap, 0)
    best = overlap.max(axis=1, keepdims=True, initial=0), overlap.max(axis=0, initial=0)
    return np.argwhere((overlap >= LEAST_IOU) & (overlap == best[0]) & (overlap == best[1]))


def times_at(
    side: int,
    dataset: InstanceDataset,
    runners: dict[str, Runner],
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Milliseconds of every round: one image, another one in each round."""
    images = list(itertools.islice(inputs(dataset, side), options.repeats + 1))
    rounds = {name: itertools.cycle(images) for name in runners}
    jobs = {name: lambda n=name: runners[n](next(rounds[n])) for name in runners}
    return interleaved(jobs, options.repeats, CLOCKS[options.clock])


def table(results: Sequence[dict]) -> str:
    """The text that is printed."""
    lines = []
    for each in results:
        times = (
            "{} px {:.2f} [{:.2f}, {:.2f}] ({:.1f} ms)".format(side, *times, each["ms"][side])
            for side, times in each["time"].items()
        )
        apart = (
            "{} {:.2g}, {:.2g}, {:.2g}".format(what, *each[what])
            for what in ("score", "box", "mask")
        )
        lines += [
            f"{each['name']}: {each['megabytes']:.2f} MB, box AP {each['box_ap']:.1f}, "
            f"mask AP {each['mask_ap']:.1f}",
            f"    {each['share']:.1%} with a partner; median, 99 % and largest difference: "
            + "; ".join(apart),
            f"    time over the first's: {', '.join(times)}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
