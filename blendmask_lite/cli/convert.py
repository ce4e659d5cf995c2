"""Convert weights of the authors' released code to a checkpoint that the other commands take."""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from blendmask_lite.config import PRESETS, ModelConfig
from blendmask_lite.files import require_apart, require_writable
from blendmask_lite.terminal import counted
from blendmask_lite.weights.adelaidet import DEAD_WEIGHTS, load_adelaidet
from blendmask_lite.weights.checkpoint import save_model

__all__ = ["EPILOG", "add_options", "run"]

EPILOG = """examples:
  blendmask-lite convert R_50_3x -o r50.safetensors
      a published checkpoint by its name, see `blendmask-lite models`
  blendmask-lite convert model_final.pth -o mine.safetensors --classes cat,dog
      your own training with the released code
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "source", metavar="FILE", help="file, URL, or name of a published checkpoint"
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="checkpoint to write")
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="architecture; default: recognised by the weights"
    )
    parser.add_argument(
        "--classes",
        metavar="NAME,NAME,...",
        help="names of the classes, in the order of the labels",
    )
    parser.add_argument("--half", action="store_true", help="write the weights in half precision")


def run(options: argparse.Namespace) -> int:
    """Convert the weights, and print a summary."""
    names = None if options.classes is None else options.classes.split(",")
    require_apart([options.out], [options.source], "the file to convert")
    require_writable(options.out)
    model = load_adelaidet(options.source, options.preset, class_names=names)
    dtype = torch.float16 if options.half else None
    save_model(model, options.out, metadata={"source": options.source}, dtype=dtype)
    config = model.config
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(
        f"{options.out}: preset {_preset_of(config)}, "
        f"{counted(config.num_classes, 'class', 'classes')}, "
        f"{millions:.2f} million parameters in {len(model.state_dict())} tensors"
    )
    if config.backbone == "dla34":
        print("without influence on any output, though DLA-34 has them:")
        print(*(f"  {name}" for name in DEAD_WEIGHTS), sep="\n")
    return 0


def _preset_of(config: ModelConfig) -> str:
    """The preset that equals a config except for the numbers of classes."""

    def without_counts(each: ModelConfig) -> ModelConfig:
        num_stuff = min(each.num_stuff_classes, 1)
        return replace(each, num_classes=1, num_stuff_classes=num_stuff, semantic_weight=0.0)

    exact = [name for name, preset in PRESETS.items() if preset == config]
    alike = [n for n, preset in PRESETS.items() if without_counts(preset) == without_counts(config)]
    return (exact + alike)[0]
