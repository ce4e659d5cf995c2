"""The options of `blendmask-lite train`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blendmask_lite.cli.options import (
    SHAPES,
    add_class_options,
    add_device_options,
    integers,
    sizes,
    two_numbers,
)
from blendmask_lite.config import PRESETS
from blendmask_lite.training.schedule import SCHEDULES, TrainConfig

if TYPE_CHECKING:
    from blendmask_lite.training.observers import Watching

__all__ = ["DEFAULT_PRESET", "EPILOG", "MOST_WORKERS", "add_options", "make_watching"]

DEFAULT_PRESET = "nano"
MOST_WORKERS = 8  # largest default of --workers
PICTURES_EVERY = 500  # iterations
LIMITS = {"tensorboard": (1, 10**9), "snapshots": (2, 10**6), "watched_pictures": (1, 10**4)}
EPILOG = """examples:
  blendmask-lite train shapes -o runs/shapes
      generated pictures, about 20 minutes on a laptop
  blendmask-lite train data/mine --split train --validation val \\
      --weights photos --iterations 400 -o runs/mine
      your own photographs in COCO's format, about 10 minutes on a laptop
  blendmask-lite train -o runs/mine --resume
      continue after a stop or a crash, with the options that it began with
  torchrun --nproc-per-node 4 -m blendmask_lite train data/coco --preset r50 -o runs/r50
      on four GPUs
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "root",
        nargs="?",
        metavar="ROOT",
        help=f'COCO-layout folder, or "{SHAPES}"; with --resume by default that of the run',
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in DIR, with its options"
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help=f"default that of --weights, or else {DEFAULT_PRESET}",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="in place of the preset's: timm/NAME or torchvision/NAME takes any network of these "
        "libraries that gives maps at strides 4 to 32",
    )
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument(
        "--weights",
        metavar="FILE",
        help="start from this checkpoint, or from photos, which comes with the package",
    )
    beginning.add_argument(
        "--backbone-weights",
        metavar="FILE",
        help='start from a backbone trained on ImageNet: a file, or "imagenet" to download the '
        "one that the authors used, or the one of the backbone's library",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--split", metavar="NAME", help="to train on; by default the only one")
    data.add_argument(
        "--validation",
        metavar="NAME",
        help="split to evaluate on while training; best.safetensors is the model with the best "
        "mask AP",
    )
    add_class_options(data)
    data.add_argument("--images", type=integers, metavar="ID,ID,...", help="only these image ids")
    data.add_argument(
        "--workers",
        type=int,
        help="processes that prepare images; by default none, and on a GPU one for each core, up "
        f"to {MOST_WORKERS}",
    )
    data.add_argument(
        "--size",
        type=sizes,
        metavar="N,N-N,...",
        help="shorter sides to draw from, pixels, such as 480,512 or 640-800; tests use the last",
    )
    data.add_argument("--max-size", type=int, help="longest side, pixels")
    data.add_argument(
        "--jitter",
        type=two_numbers,
        metavar="X,X",
        help="large-scale jitter, such as 0.1,2: enlarge by a factor from this range, then cut or "
        "pad to a square with a side of --size",
    )
    data.add_argument(
        "--copy-paste",
        type=float,
        metavar="P",
        help="paste some objects of another image into this share of the images, such as 0.5",
    )
    data.add_argument(
        "--color-jitter",
        type=float,
        metavar="X",
        help="change brightness, contrast and saturation by factors from 1 - X to 1 + X",
    )
    data.add_argument("--no-flip", action="store_true", help="no mirrored images")
    schedule = parser.add_argument_group("schedule, by default the preset's own")
    schedule.add_argument(
        "--schedule", choices=list(SCHEDULES), help="length, warm-up, milestones and image sizes"
    )
    schedule.add_argument(
        "--iterations",
        type=int,
        help="moves the milestones, too; a larger number continues a run on the longer schedule",
    )
    schedule.add_argument(
        "--batch-size", type=int, help="images a step, over all processes; scales the learning rate"
    )
    schedule.add_argument(
        "--accumulate",
        type=int,
        help="take a step's images in N parts, one after the other: less memory, same weights",
    )
    schedule.add_argument("--optimizer", choices=("sgd", "adamw"))
    schedule.add_argument("--learning-rate", type=float)
    schedule.add_argument("--warmup", choices=("constant", "linear"))
    schedule.add_argument("--warmup-iterations", type=int)
    schedule.add_argument("--clip-norm", type=float, help="largest gradient norm")
    schedule.add_argument("--ema", type=float, help="decay of averaged weights")
    schedule.add_argument(
        "--frozen-stages",
        type=int,
        help="of the backbone: 0 trains all, 1 freezes the stem, 2 also the first stage, ...",
    )
    running = parser.add_argument_group("running")
    running.add_argument("--seed", type=int)
    running.add_argument("--precision", choices=("float32", "bfloat16"))
    running.add_argument(
        "--compile", action="store_true", help="torch.compile the network; needs a C++ compiler"
    )
    running.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: the same weights from the same run, as far as torch can; slower",
    )
    running.add_argument(
        "--evaluate-every",
        type=int,
        help="iterations; by default a tenth of the run with --validation or --patience; generated "
        "pictures are otherwise evaluated at the end",
    )
    running.add_argument(
        "--patience", type=int, help="finish after N evaluations without a better mask AP"
    )
    running.add_argument(
        "--checkpoint-every",
        type=int,
        help=f"iterations; by default {TrainConfig.checkpoint_every}, or a tenth of the run if "
        "that is less",
    )
    parser.add_argument("--half", action="store_true", help="write the model in half precision")
    watching = parser.add_argument_group(
        "watching", "on the first images with objects, of the validation data if there is any"
    )
    watching.add_argument(
        "--tensorboard",
        nargs="?",
        type=int,
        const=PICTURES_EVERY,
        metavar="N",
        help="log for TensorBoard; masks and bases as pictures every N iterations, "
        f"{PICTURES_EVERY} without a number",
    )
    watching.add_argument(
        "--snapshots",
        type=int,
        help="keep bases, attentions and masks at N moments, more of them early",
    )
    watching.add_argument("--watched-pictures", type=int, help="how many both show; default 4")
    add_device_options(parser)
    parser.set_defaults(device=None)  # lets a continued run tell "not given" from "auto"


def make_watching(options: argparse.Namespace) -> Watching:
    """The settings from --tensorboard, --snapshots and --watched-pictures."""
    from blendmask_lite.training.observers import Watching

    for name, (least, most) in LIMITS.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            limit = f"at least {least}" if value < least else f"at most {most:,}"
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be {limit}")
    return Watching(
        num_snapshots=options.snapshots or 0,
        tensorboard_every=options.tensorboard or 0,
        num_pictures=options.watched_pictures or Watching.num_pictures,
    )
