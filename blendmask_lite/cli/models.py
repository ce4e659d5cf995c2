"""`blendmask-lite models`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from blendmask_lite.config import PRESET_INFERENCE, PRESETS
from blendmask_lite.files import cache_dir
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.zoo import PUBLISHED, find_cached

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "models",
        description="List the presets, with their parameters and test size, and the checkpoints "
        "that the authors published, with their AP on COCO val2017 and whether they are in the "
        "cache.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print both lists."""
    presets = [describe_preset(name) for name in PRESETS]
    checkpoints = [
        asdict(each) | {"cached": find_cached(each) is not None} for each in PUBLISHED.values()
    ]
    if options.json:
        content = {"presets": presets, "checkpoints": checkpoints, "cache": str(cache_dir())}
        print(json.dumps(content, indent=2))
        return 0
    rows = [
        [each["name"], f"{each['parameters'] / 1e6:.2f}", f"{each['test_size']}/{each['max_size']}"]
        for each in presets
    ]
    print_table(["preset", "million parameters", "test size"], rows)
    print()
    rows = [
        [
            each["name"],
            each["preset"],
            *(_number(each[key]) for key in ("box_ap", "mask_ap", "pq", "fps")),
            "yes" if each["cached"] else "no",
        ]
        for each in checkpoints
    ]
    print_table(["published checkpoint", "preset", "box AP", "mask AP", "PQ", "FPS", "here"], rows)
    print(f"\nthe cache: {cache_dir()}")
    return 0


def describe_preset(name: str) -> dict[str, Any]:
    """Name, size and settings of a preset; nothing is allocated."""
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    inference = PRESET_INFERENCE[name]
    return {
        "name": name,
        "parameters": sum(each.numel() for each in model.parameters()),
        "test_size": inference.test_size,
        "max_size": inference.max_size,
        "published": [each.name for each in PUBLISHED.values() if each.preset == name],
    }


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry; numbers stand to the right."""
    columns = []
    for title, *cells in zip(header, *rows, strict=True):
        width = max(len(cell) for cell in [title, *cells])
        is_numeric = all(set(cell) <= set("0123456789./-") for cell in cells)
        columns.append(
            [cell.rjust(width) if is_numeric else cell.ljust(width) for cell in [title, *cells]]
        )
    for row in zip(*columns, strict=True):
        print("  ".join(row).rstrip())


def _number(value: float | None) -> str:
    return "-" if value is None else str(value)
