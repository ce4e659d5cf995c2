"""List the presets, with their parameters and test size, and the checkpoints that the authors
published, with their AP on COCO val2017 and whether they are in the cache.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import torch

from blendmask_lite.config import PRESET_INFERENCE, PRESETS
from blendmask_lite.files import cache_dir
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import table
from blendmask_lite.weights.zoo import PUBLISHED, find_cached

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    """Print both lists."""
    presets = [_describe_preset(name) for name in PRESETS]
    checkpoints = [
        asdict(known) | {"cached": find_cached(known) is not None} for known in PUBLISHED.values()
    ]
    if options.json:
        content = {"presets": presets, "checkpoints": checkpoints, "cache": str(cache_dir())}
        print(json.dumps(content, indent=2))
        return 0
    rows = [["preset", "million parameters", "test size"]]
    for preset in presets:
        size = f"{preset['test_size']}/{preset['max_size']}"
        rows.append([preset["name"], f"{preset['parameters'] / 1e6:.2f}", size])
    print(*table(rows), "", sep="\n")
    rows = [["published checkpoint", "preset", "box AP", "mask AP", "PQ", "FPS", "here"]]
    for checkpoint in checkpoints:
        numbers = [checkpoint[key] for key in ("box_ap", "mask_ap", "pq", "fps")]
        cells = ["-" if number is None else str(number) for number in numbers]
        cells.append("yes" if checkpoint["cached"] else "no")
        rows.append([checkpoint["name"], checkpoint["preset"], *cells])
    print(*table(rows), f"\nthe cache: {cache_dir()}", sep="\n")
    return 0


def _describe_preset(name: str) -> dict[str, Any]:
    """Name, size and settings of a preset; nothing is allocated."""
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    inference = PRESET_INFERENCE[name]
    return {
        "name": name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "test_size": inference.test_size,
        "max_size": inference.max_size,
        "published": [known.name for known in PUBLISHED.values() if known.preset == name],
    }
