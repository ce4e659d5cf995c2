"""The explorer's measurements: what bases detect, their effect on AP, and where IoU is lost.

Chapter: the lab.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import torch

from blendmask_lite.figures.bases import changed_base_figure
from blendmask_lite.figures.research import basis_scores_figure, dots_figure, knock_out_figure
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer.page import MeasuredPage, Present, Rows
from blendmask_lite.lab.explorer.views import Look, change_masks, whole_bases
from blendmask_lite.lab.parts import checkbox, control, offer, slider
from blendmask_lite.research.basis_scores import BasisScores, score_bases, untrained_scores
from blendmask_lite.research.knockout import change_base, knock_out_bases
from blendmask_lite.research.oracles import OracleResults, oracle_swaps, score_oracles, swap_name
from blendmask_lite.terminal import counted

__all__ = ["ChangePage", "OraclePage", "ScoresPage"]


NUM_UNTRAINED = 3  # number of untrained networks that trained bases are compared with
NO_TRUTH = (
    "The true objects of this image are unknown, so nothing can be replaced by them. Take an image "
    "of a data set."
)
Made = tuple[Callable[[], DescribedFigure], Rows]
Tell = Callable[[int, int], None]


class ScoresPage(MeasuredPage):
    """Scores of each base, in comparison with untrained networks."""

    title = "What bases are for"
    about = (
        "What every base responds to: objects or background, their border or inside, left or "
        "right, up or down."
    )

    def __init__(self) -> None:
        super().__init__(
            what="object or background, border or inside, left or right, up or down, for every "
            f"base; and the same of {NUM_UNTRAINED} untrained networks as a comparison"
        )

    def parts(self) -> list[widgets.Widget]:
        """Only the measured parts."""
        return self.measured_parts()

    def draw(self, present: Present) -> None:
        """Build the page; nothing on it depends on the image."""
        self.build()

    def wait(self) -> None:
        """Do nothing: what is drawn does not depend on the image."""

    def measure(self, present: Present, progress: Tell) -> Made:
        """Scores of trained and untrained bases."""
        most, model, data = self.num_images.value, present.model, present.dataset
        scores = score_bases(model, data, max_images=most, progress=progress)
        null = untrained_scores(model, data, seeds=range(NUM_UNTRAINED), max_images=most)
        objects = counted(scores.num_objects, "object")
        title = f"{objects} in {counted(scores.num_images, 'image')}"
        make = partial(basis_scores_figure, scores, untrained=null, title=title)
        return make, score_rows(scores, null)


class ChangePage(MeasuredPage):
    """Knock out or boost a base, and see the image's masks and the data set's AP."""

    title = "Change a base"
    about = "Multiply one base by a number, 0 to remove it, and see which masks suffer."
    needs = "detection"

    def __init__(self) -> None:
        self.base = control(widgets.Dropdown, "base", 170)
        self.factor = slider("times", 300, 0, -1, 3, 0.1, readout_format=".1f")
        self.is_flat = checkbox("replaced by its mean")
        what = "mask AP with each base changed like this, one at a time"
        super().__init__(self.base, self.factor, self.is_flat, what=what)

    @property
    def wanted(self) -> float | None:
        """The factor for the base; None replaces the base by its mean."""
        return None if self.is_flat.value else float(self.factor.value)

    def follow(self, present: Present) -> None:
        """Offer as many bases as the model has."""
        self.factor.disabled = bool(self.is_flat.value)
        num_bases = present.model.config.num_bases
        if len(self.base.options) != num_bases:
            offer(self.base, [f"base {k + 1}" for k in range(num_bases)], 0)

    def figure(self, present: Present) -> DescribedFigure:
        """The base and the masks, before and after."""
        model, look = present.model, present.look
        base, factor, bases = self.base.value, self.wanted, whole_bases(model, look)
        what = "is its mean" if factor is None else f"times {factor:g}"
        return changed_base_figure(
            look.image,
            look.found.masks,
            change_masks(model, look, base, factor).after,
            base=base,
            base_before=bases[base],
            base_after=change_base(bases, base, factor=factor)[base],
            stride=model.bottom.stride,
            title=f"{look.name}: base {base + 1} {what}",
        )

    def rows(self, present: Present) -> Rows:
        """The change of every mask."""
        look = present.look
        changed = change_masks(present.model, look, self.base.value, self.wanted)
        has_truth = changed.true_before is not None
        head = ["object", "pixels", "with the base changed", "IoU of both"]
        rows = [head + ["IoU with the truth", "changed"] * has_truth]
        for n in range(len(look.found)):
            pixels = [str(int(masks[n].sum())) for masks in (look.found.masks, changed.after)]
            shares = (changed.kept, changed.true_before, changed.true_after)
            ious = [f"{float(share[n]):.2f}" for share in shares if share is not None]
            rows.append([look.objects[n].name, *pixels, *ious])
        return rows

    def measure(self, present: Present, progress: Tell) -> Made:
        """AP of the unchanged model, and with each base changed."""
        factor, most = self.wanted, self.num_images.value
        options: Any = {"factor": factor, "max_images": most, "progress": progress}
        results = knock_out_bases(present.model, present.dataset, **options)
        what = "base replaced by its mean" if factor is None else f"base times {factor:g}"
        changes, baseline = results.ap_changes, results.baseline.mask["AP"]
        rows = [["base", "mask AP", "change, points"], ["none changed", f"{baseline:.1f}", ""]]
        for k, change in enumerate(changes.tolist()):
            rows.append([f"{k + 1}, {what}", f"{baseline + change:.1f}", f"{change:+.1f}"])
        return partial(knock_out_figure, {what: changes}, baseline=baseline), rows


class OraclePage(MeasuredPage):
    """Loss of IoU by part: parts are replaced by the best possible ones, in every combination."""

    title = "Where IoU is lost"
    about = (
        "IoU is the overlap of a mask with the true one, 0 to 1. Here box, attention and "
        "bases are replaced by the best possible ones, in all combinations: the part whose "
        "replacement gains most is where IoU is lost. "
        "Its share is the mean gain over all orders of replacing."
    )

    def __init__(self) -> None:
        what = "all combinations for the true objects of several images, as above for one"
        super().__init__(what=what, num_images=10)
        self._swaps: tuple[Look, OracleResults] | None = None

    def missing(self, present: Present) -> str:
        """The reason, if there are no true objects to compare with."""
        truth = present.look.truth
        return NO_TRUTH if truth is None or len(truth) == 0 else ""

    def figure(self, present: Present) -> DescribedFigure:
        """All swaps and gains in this image."""
        return dots_figure(self.swaps(present).summary(), title=present.look.name)

    def swaps(self, present: Present) -> OracleResults:
        """The swaps in this image, computed once."""
        look = present.look
        assert look.truth is not None
        if self._swaps is None or self._swaps[0] is not look:
            self._swaps = look, oracle_swaps(present.model, look.truth)
        return self._swaps[1]

    def forget(self) -> None:
        """Drop the numbers of the image and of the data set."""
        super().forget()
        self._swaps = None

    def rows(self, present: Present) -> Rows:
        """IoU of every true object, for every combination of replaced parts."""
        results = self.swaps(present)
        rows = [["true object", *map(swap_name, results.iou), "true mask, R × R"]]
        columns = (*results.iou.values(), results.resolution)
        for n, seen in enumerate(present.look.objects[len(present.look.found) :]):
            rows.append([seen.name, *(f"{float(iou[n]):.2f}" for iou in columns)])
        return rows

    def measure(self, present: Present, progress: Tell) -> Made:
        """All swaps and gains in the data set."""
        most = self.num_images.value
        results = score_oracles(present.model, present.dataset, max_images=most, progress=progress)
        if len(results) == 0:
            raise ValueError("these images have no true objects, so nothing can be measured")
        rows = [["replaced", "mean IoU"]]
        rows += [[swap_name(p), f"{float(iou.mean()):.3f}"] for p, iou in results.iou.items()]
        return partial(dots_figure, results.summary(), title=counted(most, "image")), rows


def score_rows(scores: BasisScores, null: Sequence[BasisScores]) -> Rows:
    """All four scores of every base, marking those that no untrained base reaches."""
    kinds = (  # score, heading, format, and what low and high values mean
        ("object_auc", "object AUC", ".2f", "background", "objects"),
        ("depth", "depth r", "+.2f", "border", "inside"),
        ("x", "x r", "+.2f", "left", "right"),
        ("y", "y r", "+.2f", "up", "down"),
    )
    rows = [["base", *(heading for _, heading, *_ in kinds), "beyond every untrained base"]]
    for k in range(len(scores.object_auc)):
        cells, findings = [], []
        for name, _, form, low, high in kinds:
            value = float(getattr(scores, name)[k])
            others = torch.cat([getattr(untrained, name) for untrained in null])
            cells.append(f"{value:{form}}")
            findings += [low] if value < others.min() else []
            findings += [high] if value > others.max() else []
        rows.append([str(k + 1), *cells, ", ".join(findings) or "nothing"])
    return rows
