"""The room's results: students save small files, an instructor reads a folder of them.

Chapter 12. In a notebook: `share_result("Ada", seed=3, ap=45.2)`. Then, for all files in a folder:
`python -m blendmask_lite.course.results FOLDER` draws one figure and names unreadable files.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blendmask_lite.figures.room import room_figure
from blendmask_lite.figures.style import DescribedFigure, save_figure
from blendmask_lite.files import read_text, write_atomically

__all__ = ["Collected", "Result", "collect", "draw", "main", "read_result", "share_result"]

PATTERN = "result_*.json"
LONGEST_NAME = 60  # characters
LARGEST_FILE = 100_000  # bytes
FIELDS = {"name", "seed", "ap", "guesses", "truths"}


@dataclass(frozen=True)
class Result:
    """The measurements and guesses of one student."""

    name: str
    seed: int | None = None  # seed of the training
    ap: float | None = None  # mask AP of the training, percent
    guesses: Mapping[str, float] = field(default_factory=dict)  # question -> number
    truths: Mapping[str, float] = field(default_factory=dict)  # question -> what was measured

    def __post_init__(self) -> None:
        """Refuse values that no figure could show."""
        if not isinstance(self.name, str) or not 0 < len(self.name.strip()) <= LONGEST_NAME:
            raise ValueError(f"name {self.name!r}: expected 1 to {LONGEST_NAME} characters")
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise ValueError(f"seed {self.seed!r}: expected a whole number from 0 up")
        if self.ap is not None and not (_is_number(self.ap) and 0 <= self.ap <= 100):
            raise ValueError(f"ap {self.ap!r}: expected a number from 0 to 100, percent")
        for name in ("guesses", "truths"):
            numbers = getattr(self, name)
            if not isinstance(numbers, Mapping):
                raise ValueError(f"{name} {numbers!r}: expected a question and a number each")
            for question, number in numbers.items():
                if not _is_number(number):
                    raise ValueError(f"{name}, {question!r}: {number!r} is no finite number")


def share_result(
    name: str,
    *,
    seed: int | None = None,
    ap: float | None = None,
    guesses: Mapping[str, float] | None = None,
    truths: Mapping[str, float] | None = None,
    folder: Path | str = ".",
) -> Path:
    """Write the file that an instructor collects, result_NAME.json, and return its path.

    Args:
        name: name of the student or table, as the figure shows it.
        seed: seed of the training, if there was one.
        ap: mask AP of the training, percent.
        guesses: question -> number, such as {"12: mask AP, percent": 30}.
        truths: what was measured, for the same questions.
        folder: folder of the file; by default the working directory.

    Raises:
        ValueError: the name is empty or too long, or a number is not finite or out of its range.
    """
    result = Result(name, seed, ap, dict(guesses or {}), dict(truths or {}))
    plain = re.sub(r"[^\w-]+", "_", name.strip())
    path = Path(folder) / f"result_{plain}.json"
    write_atomically(path, json.dumps(asdict(result), indent=2, ensure_ascii=False).encode())
    return path


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has other contents; the message says which.
    """
    if path.is_file() and path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"has {path.stat().st_size} bytes, more than {LARGEST_FILE}")
    try:
        content: Any = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(content, dict) or not FIELDS >= content.keys() >= {"name"}:
        raise ValueError(f"is no result: expected name and some of {', '.join(sorted(FIELDS))}")
    return Result(**content)


@dataclass(frozen=True)
class Collected:
    """The results of a room, and the reasons why files were left out."""

    results: tuple[Result, ...]
    skipped: Mapping[Path, str]

    def shared_seeds(self) -> dict[int, list[str]]:
        """Seeds of several students, who then measured the same training: seed -> names."""
        names: dict[int, list[str]] = defaultdict(list)
        for each in self.results:
            if each.seed is not None and each.ap is not None:
                names[each.seed].append(each.name)
        return {seed: own for seed, own in sorted(names.items()) if len(own) > 1}


def collect(folder: Path) -> Collected:
    """Read every result_*.json of a folder and of folders inside it.

    Raises:
        NotADirectoryError: the path is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is no folder")
    results, skipped = [], {}
    for path in sorted(folder.rglob(PATTERN)):
        try:
            result = read_result(path)
        except (OSError, ValueError) as error:
            skipped[path] = str(error)
            continue
        if result in results:
            skipped[path] = f"says the same as another file of {result.name}"
        else:
            results.append(result)
    return Collected(tuple(results), skipped)


def draw(collected: Collected) -> DescribedFigure:
    """One figure of all results; for each question, the median of the measured values counts.

    Raises:
        ValueError: there is neither an AP nor a guess.
    """
    scores: dict[str, float] = {}
    guesses: dict[str, list[float]] = {}
    measured: dict[str, list[float]] = {}
    for result in collected.results:
        if result.ap is not None:
            label = result.name if result.seed is None else f"{result.name}, seed {result.seed}"
            while label in scores:
                label += "'"  # two files of one name and seed with different numbers
            scores[label] = result.ap
        for question, number in result.guesses.items():
            guesses.setdefault(question, []).append(number)
        for question, number in result.truths.items():
            measured.setdefault(question, []).append(number)
    truths = {question: sorted(each)[len(each) // 2] for question, each in measured.items()}
    return room_figure(scores, guesses, truths)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, print what was found, and draw; returns 0 if there was something to draw."""
    parser = argparse.ArgumentParser(prog="python -m blendmask_lite.course.results")
    parser.add_argument("folder", type=Path, help="with the files result_*.json of the room")
    parser.add_argument("-o", "--output", type=Path, default=Path("room.png"), help="the figure")
    options = parser.parse_args(arguments)
    try:
        collected = collect(options.folder)
        for path, reason in collected.skipped.items():
            print(f"left out: {path}: {reason}", file=sys.stderr)
        for seed, names in collected.shared_seeds().items():
            print(f"seed {seed} was trained more than once: {', '.join(names)}", file=sys.stderr)
        path = save_figure(draw(collected), options.output, dpi=150)
    except (OSError, ValueError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    print(f"{len(collected.results)} results: {path}")
    return 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
