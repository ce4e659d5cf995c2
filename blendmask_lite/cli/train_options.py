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
        help=f'COCO-layout folder, or "{SHAPES}" for generated images; not needed with --resume',
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in DIR, with its options"
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help=f"architecture; default: that of --weights, or {DEFAULT_PRESET} without them",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="backbone to use instead of the preset's: timm/NAME or torchvision/NAME, for any "
        "network of these libraries with maps at strides 4 to 32",
    )
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint to start from: a file, or photos, which comes with the package",
    )
    beginning.add_argument(
        "--backbone-weights",
        metavar="FILE",
        help='ImageNet weights to start the backbone from: a file, or "imagenet" to download those '
        "that the authors used, or those of the backbone's library",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--split", metavar="NAME", help="split to train on; default: the only one")
    data.add_argument(
        "--validation",
        metavar="NAME",
        help="split to evaluate on while training; the model with the best mask AP is kept as "
        "best.safetensors",
    )
    add_class_options(data)
    data.add_argument(
        "--images", type=integers, metavar="ID,ID,...", help="train on these images only"
    )
    data.add_argument(
        "--workers",
        type=int,
        help="number of processes that prepare images; default: 0, or on a GPU one for each core, "
        f"at most {MOST_WORKERS}",
    )
    data.add_argument(
        "--size",
        type=sizes,
        metavar="N,N-N,...",
        help="lengths of the shorter side to choose from at random, in pixels, such as 480,512 or "
        "640-800; tests use the last one",
    )
    data.add_argument("--max-size", type=int, help="largest length of the longer side, in pixels")
    data.add_argument(
        "--jitter",
        type=two_numbers,
        metavar="X,X",
        help="large-scale jitter: resize by a random factor from this range, such as 0.1,2, then "
        "crop or pad to a square with a side of --size",
    )
    data.add_argument(
        "--copy-paste",
        type=float,
        metavar="P",
        help="share of the images, such as 0.5, into which objects of another image are pasted",
    )
    data.add_argument(
        "--color-jitter",
        type=float,
        metavar="X",
        help="change brightness, contrast and saturation by factors from 1 - X to 1 + X",
    )
    data.add_argument("--no-flip", action="store_true", help="do not mirror images at random")
    schedule = parser.add_argument_group("schedule (default: the preset's own)")
    schedule.add_argument(
        "--schedule",
        choices=list(SCHEDULES),
        help="named length, warm-up, milestones and image sizes",
    )
    schedule.add_argument(
        "--iterations",
        type=int,
        help="length of the training in steps; the milestones move with it. A larger number "
        "continues a run on the longer schedule",
    )
    schedule.add_argument(
        "--batch-size",
        type=int,
        help="images per step, over all processes; scales the learning rate",
    )
    schedule.add_argument(
        "--accumulate",
        type=int,
        help="compute a step's images in N parts, one after the other: less memory, same weights",
    )
    schedule.add_argument("--optimizer", choices=("sgd", "adamw"), help="optimizer")
    schedule.add_argument("--learning-rate", type=float, help="learning rate after the warm-up")
    schedule.add_argument(
        "--warmup",
        choices=("constant", "linear"),
        help="course of the learning rate in the warm-up",
    )
    schedule.add_argument("--warmup-iterations", type=int, help="length of the warm-up in steps")
    schedule.add_argument(
        "--clip-norm", type=float, help="norm to which larger gradients are clipped"
    )
    schedule.add_argument(
        "--ema", type=float, help="decay of the exponential average of the weights"
    )
    schedule.add_argument(
        "--frozen-stages",
        type=int,
        help="number of frozen stages of the backbone: 0 trains all, 1 freezes the stem, 2 also "
        "the first stage, ...",
    )
    running = parser.add_argument_group("running")
    running.add_argument("--seed", type=int, help="seed of weights, data order and augmentation")
    running.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="precision of the network's forward and backward pass; losses have float32",
    )
    running.add_argument(
        "--compile",
        action="store_true",
        help="compile the network with torch.compile; needs a C++ compiler",
    )
    running.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: give the same weights in every run, as far as torch can; slower",
    )
    running.add_argument(
        "--evaluate-every",
        type=int,
        help="steps between evaluations; default: a tenth of the run with --validation or "
        "--patience. Otherwise generated images are evaluated once, at the end",
    )
    running.add_argument(
        "--patience", type=int, help="stop after N evaluations without a better mask AP"
    )
    running.add_argument(
        "--checkpoint-every",
        type=int,
        help=f"steps between checkpoints; default: {TrainConfig.checkpoint_every}, or a tenth of "
        "the run if that is less",
    )
    parser.add_argument("--half", action="store_true", help="write the model in half precision")
    watching = parser.add_argument_group(
        "watching",
        "What these show is of the first images with objects, of the validation data if given.",
    )
    watching.add_argument(
        "--tensorboard",
        nargs="?",
        type=int,
        const=PICTURES_EVERY,
        metavar="N",
        help="write a log for TensorBoard, with masks and bases as pictures every N steps "
        f"({PICTURES_EVERY} if N is not given)",
    )
    watching.add_argument(
        "--snapshots",
        type=int,
        help="keep bases, attentions and masks at N moments of the training, more of them early",
    )
    watching.add_argument(
        "--watched-pictures", type=int, help="number of images that both show; default: 4"
    )
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
