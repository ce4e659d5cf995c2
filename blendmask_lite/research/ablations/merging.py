"""Ways of merging, compared step by step: table 1 at two lengths, and the ladder that explains it.

Chapters 10 and 13. All rows have R = 28 and read the same features; they differ in how bases
become a mask. Rows are trained one after the other in the order of `PLAN`; a report may be
written at any time, and marks what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.config import ModelConfig
from blendmask_lite.model.merge import Blender
from blendmask_lite.research.ablations.report import (
    Estimate,
    bootstrap_interval,
    estimate,
    signed,
    table_lines,
)
from blendmask_lite.research.ablations.run import (
    REGIMES,
    MakeMerger,
    ObjectScores,
    Regime,
    model_folder,
    run_model,
)
from blendmask_lite.research.ablations.tables import TABLES

__all__ = [
    "METHODS",
    "PLAN",
    "MergingReport",
    "Method",
    "SharedTemplate",
    "Step",
    "image_interval",
    "run_plan",
]


class SharedTemplate(Blender):
    """A blender whose attentions are one learned template, the same for all objects.

    Our choice, as a control: what is left of the blender when objects have no attentions of their
    own. The template starts at zero, and so, nearly, do the attentions of a new blender.
    """

    def __init__(self, *, num_bases: int, attention_size: int, mode: str = "bilinear") -> None:
        super().__init__(num_bases=num_bases, attention_size=attention_size, mode=mode)
        self.template = nn.Parameter(torch.zeros(self.attention_channels))
        self.attention_channels = 0

    def enlarge(self, attentions: Tensor, size: int) -> Tensor:
        """(N, 0) -> (N, K, size, size), N times the template."""
        return super().enlarge(self.template.expand(len(attentions), -1), size)


def shared_template(model: ModelConfig) -> SharedTemplate:
    """The merger for a config's K and M, with a template instead of attentions."""
    return SharedTemplate(
        num_bases=model.num_bases,
        attention_size=model.attention_size,
        mode=model.attention_interpolation,
    )


@dataclass(frozen=True)
class Method:
    """A row of the ladder.

    Attributes:
        model: architecture.
        make_merger: replaces the config's merger.
        paper: mask AP of table 1, percent; None if the paper has no such row.
    """

    model: ModelConfig
    make_merger: MakeMerger | None = None
    paper: float | None = None


_SUM, _TILES, _BLENDER = (row.model for row in TABLES[1])
REFERENCE = "attentions 4 x 4"
METHODS: dict[str, Method] = {
    "tiles 2 x 2": Method(replace(_TILES, num_bases=4)),
    "tiles 4 x 4": Method(_TILES, paper=30.3),
    "tiles 7 x 7": Method(replace(_TILES, num_bases=49)),
    "attentions 1 x 1": Method(_SUM, paper=29.7),
    "attentions 2 x 2": Method(replace(_BLENDER, attention_size=2)),
    "attentions 4 x 4": Method(_BLENDER, paper=31.6),
    "attentions 7 x 7": Method(replace(_BLENDER, attention_size=7)),
    "attentions 14 x 14": Method(replace(_BLENDER, attention_size=14)),
    "YOLACT, 32 bases": Method(replace(_SUM, merger="weighted_sum", num_bases=32)),
    "one template 4 x 4": Method(_BLENDER, make_merger=shared_template),
}


@dataclass(frozen=True)
class Step:
    """Methods that are trained alike and compared.

    Attributes:
        title: of the report's section.
        iterations: of 8 images.
        methods: names in `METHODS`.
        seeds: every method is trained with each.
    """

    title: str
    iterations: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]


_TABLE_1 = ("attentions 1 x 1", "tiles 4 x 4", "attentions 4 x 4")
# Most valuable first: what a sentence of the course relies on comes before the rest.
PLAN: tuple[Step, ...] = (
    Step("Table 1", 3200, _TABLE_1, (0, 1, 2)),
    Step("Table 1, a short training", 800, _TABLE_1, (0, 1, 2)),
    Step("The ladder", 3200, tuple(METHODS), (0,)),
    Step("A long training", 12_800, ("tiles 4 x 4", "attentions 4 x 4", "attentions 7 x 7"), (0,)),
)

Result = Mapping[str, Any]
GROUPS = ("all", "isolated", "overlapping", "one center")
COLUMNS: dict[str, Callable[[Result], float | None]] = {
    "box AP": lambda run: run["box"]["AP"],
    "mask AP": lambda run: run["mask"]["AP"],
    "AP75": lambda run: run["mask"]["AP75"],
    "IoU": lambda run: run["true_boxes"]["all"],
    "isolated": lambda run: run["true_boxes"]["isolated"],
    "overlapping": lambda run: run["true_boxes"]["overlapping"],
    "one center": lambda run: run["true_boxes"]["one center"],
    "crowds: mask AP": lambda run: run["crowds"]["mask"]["AP"],
    "crowds: IoU": lambda run: run["crowds"]["true_boxes"]["all"],
    "crowds: one center": lambda run: run["crowds"]["true_boxes"]["one center"],
}


def run_plan(
    folder: Path,
    plan: Sequence[Step] = PLAN,
    *,
    regime: Regime = REGIMES["default"],
    is_training: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> MergingReport | None:
    """Train and score what the plan names, or read what already exists.

    Args:
        folder: that holds one folder per run.
        plan: in this order.
        regime: for the data; the iterations are the plan's.
        is_training: False only reads the runs that are finished.
        note: called with a line on what begins.

    Returns:
        None if it was stopped on request.
    """
    results = {}
    for step, name, seed in _runs(plan):
        method = METHODS[name]
        own = replace(regime, iterations=step.iterations)
        run = model_folder(method.model, own, seed, folder, make_merger=method.make_merger)
        if not is_training and not (run / "scores.json").exists():
            continue
        note(f"{name}, {step.iterations} iterations, seed {seed}: {run}")
        result = run_model(method.model, own, seed, folder, make_merger=method.make_merger)
        if result is None:
            return None
        results[step.iterations, name, seed] = result
    return MergingReport(tuple(plan), regime, results)


def _columns(runs: Collection[Result]) -> dict[str, list[float]]:
    """Column -> one value per run, for the columns that all runs have; none without runs."""
    found = {}
    for column, value in COLUMNS.items():
        values = [number for run in runs if (number := value(run)) is not None]
        if values and len(values) == len(runs):
            found[column] = values
    return found


def _runs(plan: Sequence[Step]) -> Iterator[tuple[Step, str, int]]:
    seen = set()
    for step in plan:
        for seed in step.seeds:
            for name in step.methods:
                if (step.iterations, name, seed) not in seen:
                    seen.add((step.iterations, name, seed))
                    yield step, name, seed


def image_interval(ours: Sequence[Result], theirs: Sequence[Result], group: str) -> Tensor:
    """How much better the masks of some models are, image by image.

    Images are drawn with replacement; a drawn image counts with its objects under all models. Seeds
    are averaged, so the interval is about these trained models on other images.

    Args:
        ours: results of `run_model`, seed by seed.
        theirs: of as many other runs, with the same seeds.
        group: one of `ObjectScores.groups`.

    Returns:
        (3,) mean difference of the IoU and the ends of its 95 % interval, percent; NaN if no image
        has such an object.
    """
    differences = []
    for own, other in zip(ours, theirs, strict=True):
        first, second = (ObjectScores.from_plain(each["objects"]) for each in (own, other))
        members = first.groups()[group]
        differences.append((first.iou - second.iou)[members])
    if len(differences[0]) == 0:
        return torch.full((3,), torch.nan, dtype=torch.float64)
    image = first.image[members]
    _, place = image.unique(return_inverse=True)
    total = torch.zeros(int(place.max()) + 1, dtype=torch.float64)
    difference = 100 * torch.stack(differences).mean(dim=0)
    values = total.index_add(0, place, difference) / torch.bincount(place)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(len(values), (2000, len(values)), generator=generator)
    return torch.cat([values.mean()[None], bootstrap_interval(values, draws)])


@dataclass(frozen=True)
class MergingReport:
    """The runs of a plan.

    Attributes:
        plan: its steps.
        regime: for the data; the iterations are the steps'.
        results: by (iterations, method, seed), of the finished runs.
    """

    plan: tuple[Step, ...]
    regime: Regime
    results: Mapping[tuple[int, str, int], Result]

    def runs(self, step: Step, name: str) -> dict[int, Result]:
        """Seed -> result, for the finished runs of a row."""
        keys = {seed: (step.iterations, name, seed) for seed in step.seeds}
        return {seed: self.results[key] for seed, key in keys.items() if key in self.results}

    def estimates(self, step: Step, name: str) -> dict[str, Estimate]:
        """Column -> mean over seeds, for the columns that the row has."""
        columns = _columns(self.runs(step, name).values())
        return {column: estimate(values) for column, values in columns.items()}

    def differences(self, step: Step, name: str) -> dict[str, Estimate]:
        """Column -> the reference minus this row, seed by seed, for the seeds that both have."""
        reference, own = (_columns(runs) for runs in self.pairs(step, name))
        return {
            column: estimate([a - b for a, b in zip(reference[column], own[column], strict=True)])
            for column in reference.keys() & own.keys()
        }

    def pairs(self, step: Step, name: str) -> tuple[list[Result], list[Result]]:
        """Results of the reference and of a row, for the seeds that both have."""
        reference, own = self.runs(step, REFERENCE), self.runs(step, name)
        seeds = [seed for seed in own if seed in reference]
        return [reference[seed] for seed in seeds], [own[seed] for seed in seeds]

    def by_image(self, step: Step) -> dict[str, dict[str, Tensor]]:
        """Row -> group of objects -> the reference minus this row; see `image_interval`."""
        found: dict[str, dict[str, Tensor]] = {}
        for name in step.methods:
            reference, own = self.pairs(step, name)
            if name != REFERENCE and own:
                found[name] = {g: image_interval(reference, own, g) for g in GROUPS}
                ours, theirs = ([run["crowds"] for run in runs] for runs in (reference, own))
                found[name]["crowds"] = image_interval(ours, theirs, "all")
        return found

    def to_json(self) -> str:
        """All numbers except those of single objects."""
        content = {
            "regime": asdict(self.regime),
            "steps": [
                {
                    **asdict(step),
                    "rows": {
                        name: {c: e.values for c, e in self.estimates(step, name).items()}
                        for name in step.methods
                    },
                    "differences": {
                        name: {c: e.values for c, e in self.differences(step, name).items()}
                        for name in step.methods
                        if name != REFERENCE
                    },
                    "images": {
                        name: {group: values.tolist() for group, values in found.items()}
                        for name, found in self.by_image(step).items()
                    },
                }
                for step in self.plan
            ],
            "versions": next((run["versions"] for run in self.results.values()), {}),
        }
        return json.dumps(content, indent=1) + "\n"

    def markdown(self) -> str:
        """One table per step, and what separates its rows from the reference."""
        shapes = self.regime.shapes
        lines = [
            "# Ways of merging",
            "",
            f"Generated shapes ({self.regime.name}) of {shapes.size} px, batches of 8, R = 28, "
            f"features C2 and C5, {self.regime.num_test} held-out images and as many crowds. "
            "Several seeds: mean ± 95 % interval (Student's t). IoU is of the masks over true "
            "boxes: of all objects, of those whose box touches no other, of those whose box "
            "overlaps another's by an IoU of 0.2 or more, and of those that share their center "
            "with another.",
        ]
        for step in self.plan:
            lines += ["", f"## {step.title}: {step.iterations:,} iterations", "", *self._rows(step)]
            lines += self._verdicts(step)
        return "\n".join(lines) + "\n"

    def _rows(self, step: Step) -> list[str]:
        rows = []
        for name in step.methods:
            paper, found = METHODS[name].paper, self.estimates(step, name)
            seeds = len(self.runs(step, name))
            missing = len(step.seeds) - seeds
            about = f"{seeds}" + (f", {missing} not run" if missing else "")
            numbers = [str(found[column]) if column in found else "" for column in COLUMNS]
            rows.append([name, "" if paper is None else f"{paper:.1f}", about, *numbers])
        return table_lines(["row", "paper AP", "seeds", *COLUMNS], rows)

    def _verdicts(self, step: Step) -> list[str]:
        images = self.by_image(step)
        if not images:
            return []
        lines = ["", f"{REFERENCE} minus the row, seed by seed; in brackets image by image:", ""]
        for name, by_image in images.items():
            found = self.differences(step, name)
            parts = [
                f"{column} {signed(found[column])}"
                for column in ("mask AP", "crowds: mask AP")
                if column in found
            ]
            for group, (mean, low, high) in ((g, v.tolist()) for g, v in by_image.items()):
                parts.append(f"IoU {group} {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
            lines.append(f"- {name}: {'; '.join(parts)}")
        return lines
