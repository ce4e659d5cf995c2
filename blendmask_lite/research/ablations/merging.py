"""Ways of merging, compared step by step: table 1 at two lengths, and the ladder that explains it;
then, trained as long, the pairs of other tables that the course relies on.

Chapters 10 and 13. Rows are trained one after the other in the order of `PLAN`; a report may be
written at any time, and marks what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

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
from blendmask_lite.research.ablations.tables import PAPER_COLUMNS, PAPER_ROWS, find_table

__all__ = [
    "METHODS",
    "PAIRS",
    "PLAN",
    "MergingReport",
    "Method",
    "SharedTemplate",
    "Step",
    "StepReport",
    "image_interval",
    "run_plan",
]


class SharedTemplate(Blender):
    """A blender whose attentions are one learned template, the same for all objects.

    Our choice, as a control: a blender without attentions per object. The template starts at zero;
    the attentions of a new blender start near zero, too.
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
    """The model that a row trains.

    Attributes:
        model: architecture.
        make_merger: function that makes the merger; None for the config's merger.
        paper: mask AP of the paper's row, percent; None if the paper has no such row.
    """

    model: ModelConfig
    make_merger: MakeMerger | None = None
    paper: float | None = None


def _row_of(table: int, name: str) -> Method:
    model = next(row.model for row in find_table(table) if row.name == name)
    return Method(model, paper=PAPER_ROWS[table][name][PAPER_COLUMNS[table].index("AP")])


_SUM, _TILES, _BLENDER = (row.model for row in find_table(1))
_BLENDER_NAME = "attentions 4 x 4"
# The ways of merging: all have R = 28 and read the same features.
METHODS: dict[str, Method] = {
    "tiles 2 x 2": Method(replace(_TILES, num_bases=4)),
    "tiles 4 x 4": _row_of(1, "assembler"),
    "tiles 7 x 7": Method(replace(_TILES, num_bases=49)),
    "attentions 1 x 1": _row_of(1, "weighted sum"),
    "attentions 2 x 2": Method(replace(_BLENDER, attention_size=2)),
    "attentions 4 x 4": _row_of(1, "blender"),
    "attentions 7 x 7": Method(replace(_BLENDER, attention_size=7)),
    "attentions 14 x 14": Method(replace(_BLENDER, attention_size=14)),
    "YOLACT, 32 bases": Method(replace(_SUM, merger="weighted_sum", num_bases=32)),
    "one template 4 x 4": Method(_BLENDER, make_merger=shared_template),
}


# Rows of tables 3, 5 and 6, named by the R_K_M that is trained here: half the paper's R and M.
PAIRS: dict[str, Method] = {
    "28_1_4": _row_of(3, "K 1"),
    "28_4_4": _row_of(3, "K 4"),
    "nearest, 28_4_4": _row_of(5, "nearest, M 7"),
    "bilinear, 28_4_4": _row_of(5, "bilinear, M 7"),
    "pooled, 14_4_4": _row_of(6, "nearest, R 28"),
    "aligned, 14_4_4": _row_of(6, "bilinear, R 28"),
    "pooled, 28_4_7": _row_of(6, "nearest, R 56"),
    "aligned, 28_4_7": _row_of(6, "bilinear, R 56"),
}
_ROWS = METHODS | PAIRS


@dataclass(frozen=True)
class Step:
    """Rows that are trained with the same settings and compared.

    Attributes:
        title: title of the report's section.
        iterations: number of iterations, with 8 images each.
        methods: names in `METHODS` or `PAIRS`.
        seeds: every row is trained with each seed.
        reference: the row that all others are compared with.
    """

    title: str
    iterations: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str = _BLENDER_NAME


_TABLE_1 = ("attentions 1 x 1", "tiles 4 x 4", "attentions 4 x 4")
_TEMPLATE = "one template 4 x 4"
_LADDER = tuple(name for name in METHODS if name != _TEMPLATE)
# Most valuable first: rows that the course relies on come before the others.
PLAN: tuple[Step, ...] = (
    Step("Table 1", 3200, _TABLE_1, (0, 1, 2)),
    Step("Table 1, a short training", 800, _TABLE_1, (0, 1, 2)),
    Step("The ladder", 3200, _LADDER, (0,)),
    Step("One template for all objects", 3200, (_TEMPLATE, _BLENDER_NAME), (0, 1, 2)),
    Step("A long training", 12_800, ("tiles 4 x 4", _BLENDER_NAME), (0, 1)),
    Step("A long training, finer attentions", 12_800, (_BLENDER_NAME, "attentions 7 x 7"), (0,)),
    *(
        Step(f"Table {table}, {what}", 3200, (first, second), (0,), reference=second)
        for table, what, first, second in (
            (3, "number of bases", "28_1_4", "28_4_4"),
            (5, "interpolation of the attentions", "nearest, 28_4_4", "bilinear, 28_4_4"),
            (6, "sampling of small bases", "pooled, 14_4_4", "aligned, 14_4_4"),
            (6, "sampling of large bases", "pooled, 28_4_7", "aligned, 28_4_7"),
        )
    ),
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
    """Train and score the rows of a plan; finished runs are read.

    Args:
        folder: folder with one folder per run.
        plan: the steps, in order.
        regime: gives the data; the iterations come from the plan.
        is_training: if False, finished runs are read and no model is trained.
        note: called with a line of text when a run begins.

    Returns:
        The report; None if it was stopped on request.
    """
    steps = []
    for step in plan:
        own = replace(regime, iterations=step.iterations)
        runs: dict[str, dict[int, Result]] = {name: {} for name in step.methods}
        for seed in step.seeds:
            for name in step.methods:
                model, make_merger = _ROWS[name].model, _ROWS[name].make_merger
                run = model_folder(model, own, seed, folder, make_merger=make_merger)
                if not is_training and not (run / "scores.json").exists():
                    continue
                note(f"{name}, {step.iterations} iterations, seed {seed}: {run}")
                result = run_model(model, own, seed, folder, make_merger=make_merger)
                if result is None:
                    return None
                runs[name][seed] = result
        steps.append(StepReport.of(step, runs))
    return MergingReport(regime, tuple(steps))


def _columns(runs: Collection[Result]) -> dict[str, list[float]]:
    """Column -> one value per run, for columns that all runs have; empty without runs."""
    found = {}
    for column, value in COLUMNS.items():
        values = [number for run in runs if (number := value(run)) is not None]
        if values and len(values) == len(runs):
            found[column] = values
    return found


def image_interval(ours: Sequence[Result], theirs: Sequence[Result], group: str) -> Tensor:
    """Difference of mask IoU between two kinds of models, with an interval over images.

    Images are drawn with replacement; a drawn image counts with its objects for all models. Seeds
    are averaged, so the interval is about these trained models on other images.

    Args:
        ours: results of `run_model`, one per seed.
        theirs: results of the other models, with the same seeds.
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
class StepReport:
    """The finished runs of a step.

    Attributes:
        step: the step of the plan.
        rows: row -> column of `COLUMNS` -> one value per seed, percent; empty if not run.
        differences: row -> column -> the reference minus the row, for the seeds that both have.
        images: row -> group of objects, or "crowds" -> the reference minus the row, and the ends of
            the interval over images, for groups that have objects; see `image_interval`.
        versions: versions of the software that trained the rows.
    """

    step: Step
    rows: Mapping[str, Mapping[str, Sequence[float]]]
    differences: Mapping[str, Mapping[str, Sequence[float]]]
    images: Mapping[str, Mapping[str, Sequence[float]]]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, step: Step, runs: Mapping[str, Mapping[int, Result]]) -> Self:
        """The report of a step, from row -> seed -> result of `run_model`."""
        differences, images = {}, {}
        for name, own in runs.items():
            seeds = [seed for seed in own if seed in runs[step.reference]]
            if name == step.reference or not seeds:
                continue
            ours, theirs = ([one[seed] for seed in seeds] for one in (runs[step.reference], own))
            first, second = _columns(ours), _columns(theirs)
            differences[name] = {
                column: [a - b for a, b in zip(first[column], second[column], strict=True)]
                for column in COLUMNS
                if column in first and column in second
            }
            intervals = {group: image_interval(ours, theirs, group) for group in GROUPS}
            our_crowds, their_crowds = ([run["crowds"] for run in each] for each in (ours, theirs))
            intervals["crowds"] = image_interval(our_crowds, their_crowds, "all")
            images[name] = {
                group: values.tolist()
                for group, values in intervals.items()
                if not values.isnan().any()
            }
        found = [result for own in runs.values() for result in own.values()]
        return cls(
            step=step,
            rows={name: _columns(own.values()) for name, own in runs.items()},
            differences=differences,
            images=images,
            versions=found[0]["versions"] if found else {},
        )

    @classmethod
    def from_plain(cls, step: Step, content: Mapping[str, Any]) -> Self:
        """The report from the result of `plain`, for the rows that `step` has."""
        rows = {name: content["rows"].get(name, {}) for name in step.methods}
        differences, images = (
            {name: values for name, values in content[part].items() if name in step.methods}
            for part in ("differences", "images")
        )
        return cls(step, rows, differences, images, content["versions"])

    def plain(self) -> dict[str, Any]:
        """All numbers except the values of single objects."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return asdict(content.pop("step")) | content

    def num_seeds(self, name: str) -> int:
        """Number of finished runs of a row."""
        return len(next(iter(self.rows[name].values()), ()))

    @property
    def num_runs(self) -> int:
        """Number of finished runs."""
        return sum(map(self.num_seeds, self.rows))

    def estimates(self, name: str) -> dict[str, Estimate]:
        """Column -> mean over seeds, for the columns that the row has."""
        return {column: estimate(values) for column, values in self.rows[name].items()}

    def table(self) -> list[str]:
        """Lines of Markdown: a row for each method."""
        rows = []
        for name in self.step.methods:
            paper, found, seeds = _ROWS[name].paper, self.estimates(name), self.num_seeds(name)
            missing = len(self.step.seeds) - seeds
            about = f"{seeds}" + (f", {missing} not run" if missing else "")
            numbers = [str(found[column]) if column in found else "" for column in COLUMNS]
            rows.append([name, "" if paper is None else f"{paper:.1f}", about, *numbers])
        return table_lines(["row", "paper AP", "seeds", *COLUMNS], rows)

    def verdicts(self) -> list[str]:
        """Lines of Markdown: the rows' differences from the reference; empty if there are none."""
        if not self.images:
            return []
        about = f"{self.step.reference} minus the row, seed by seed; in brackets image by image:"
        lines = ["", about, ""]
        for name, by_image in self.images.items():
            parts = [
                f"{column} {signed(estimate(self.differences[name][column]))}"
                for column in ("mask AP", "crowds: mask AP")
                if column in self.differences[name]
            ]
            for group, (mean, low, high) in by_image.items():
                parts.append(f"IoU {group} {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
            lines.append(f"- {name}: {'; '.join(parts)}")
        torch_version = self.versions["torch"].partition("+")[0]
        return [*lines, "", f"Trained with torch {torch_version}."]


@dataclass(frozen=True)
class MergingReport:
    """The finished runs of a plan.

    Attributes:
        regime: gives the data; the iterations come from the steps.
        steps: reports of the steps, in the order of the plan.
    """

    regime: Regime
    steps: tuple[StepReport, ...]

    def with_earlier(self, path: Path) -> Self:
        """This report, but with the steps of an earlier report that has more runs of them.

        Runs are large and stay where they were made; their numbers are kept. A step is taken as a
        whole, because its rows are compared object by object.

        Args:
            path: JSON file of an earlier report; it may be missing.

        Raises:
            ValueError: the file is not such a report, or is a report of another regime.
        """
        if not path.exists():
            return self
        try:
            content = json.loads(path.read_text("utf-8"))
            regime = content["regime"]["name"]
            earlier = {(step["title"], step["iterations"]): step for step in content["steps"]}
            steps = tuple(
                max(new, StepReport.from_plain(new.step, found), key=lambda each: each.num_runs)
                if (found := earlier.get((new.step.title, new.step.iterations)))
                else new
                for new in self.steps
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: no report on ways of merging ({error!r})") from error
        if regime != self.regime.name:
            raise ValueError(
                f"{path}: regime {regime!r}, and this report is of {self.regime.name!r}"
            )
        return replace(self, steps=steps)

    def to_json(self) -> str:
        """All numbers except the values of single objects."""
        content = {
            "regime": asdict(self.regime),
            "steps": [step.plain() for step in self.steps],
        }
        return json.dumps(content, indent=1) + "\n"

    def markdown(self) -> str:
        """One table per step, and its rows' differences from the reference."""
        shapes = self.regime.shapes
        lines = [
            "# Ways of merging",
            "",
            f"Generated shapes ({self.regime.name}) of {shapes.size} px, batches of 8, "
            f"{self.regime.num_test} held-out images and as many crowds. Up to the long training "
            "R = 28, features C2 and C5; then as the tables have it. "
            "Several seeds: mean ± 95 % interval (Student's t). IoU is of the masks over true "
            "boxes: of all objects, of those whose box touches no other, of those whose box "
            "overlaps another's by an IoU of 0.2 or more, and of those that share their center "
            "with another.",
        ]
        for each in self.steps:
            title = f"## {each.step.title}: {each.step.iterations:,} iterations"
            lines += ["", title, "", *each.table(), *each.verdicts()]
        return "\n".join(lines) + "\n"
