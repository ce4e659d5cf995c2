"""The explorer's page about two checkpoints.

Chapter: the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
import torch

from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab import explorer_figures as figures
from blendmask_lite.lab.explorer_page import Page, Present, Rows
from blendmask_lite.lab.explorer_sources import MODEL_CHOICES, open_model
from blendmask_lite.research.matching import compare_checkpoints

__all__ = ["RivalPage"]


class RivalPage(Page):
    """Another checkpoint beside the present one, its bases matched."""

    title = "Two checkpoints"

    def __init__(self) -> None:
        self.source = widgets.Combobox(
            placeholder="a file, or a published name",
            options=MODEL_CHOICES,
            ensure_option=False,
            description="other",
            layout={"width": "360px"},
        )
        self.num_images = widgets.BoundedIntText(
            5, 1, 50, description="over pictures", layout={"width": "170px"}
        )
        self.button = widgets.Button(description="Load and match", icon="exchange")
        self.rival: figures.Rival | None = None
        super().__init__(others=[self.source, self.num_images, self.button])

    def missing(self, present: Present) -> str:
        """No other checkpoint yet."""
        return "" if self.rival else "Name another checkpoint, and press “Load and match”."

    def match(self, present: Present) -> None:
        """Load the other checkpoint and match its bases; the old one stays where that fails.

        Raises:
            OSError, ValueError: no such file, or another number of bases.
        """
        other = open_model(self.source.value)
        ours, theirs = present.model.config.num_bases, other.config.num_bases
        if ours != theirs:
            raise ValueError(
                f"{self.source.value}: {theirs} bases, but the present model has {ours}; only "
                "equal numbers can be matched"
            )
        total = min(self.num_images.value, len(present.dataset))
        images = [present.dataset.load(index).image for index in range(total)]
        with torch.no_grad():
            matching = compare_checkpoints(present.model, other, images)
        name = self.source.value.strip().replace("\\", "/").rpartition("/")[2]
        self.rival = figures.Rival(name, other, matching, total)

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """Partners below each other."""
        assert self.rival is not None
        return partial(figures.rival_view, present.model, present.look, self.rival)

    def rows(self, present: Present) -> Rows:
        """Pairs and their correlations."""
        assert self.rival is not None
        matching = self.rival.matching
        rows = [["base", f"of {self.rival.name}", f"r over {self.rival.num_images} pictures"]]
        pairs = zip(matching.order.tolist(), matching.correlations.tolist(), strict=True)
        return rows + [[str(k), str(o + 1), f"{r:+.2f}"] for k, (o, r) in enumerate(pairs, 1)]

    def forget(self) -> None:
        """Drop the other checkpoint: its pairs hold for another model."""
        self.rival = None
