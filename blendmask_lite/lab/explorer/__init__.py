"""The explorer: pick a model, a picture and an object, and look at what makes the mask.

Chapter: the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab.explorer.page import MeasuredPage
from blendmask_lite.lab.explorer.pages import RivalPage
from blendmask_lite.lab.explorer.screen import ExplorerScreen
from blendmask_lite.lab.explorer.sources import (
    open_folder,
    open_model,
    open_picture,
    open_shapes,
    read_upload,
)
from blendmask_lite.lab.parts import FigureView, shows_errors
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["Explorer"]


class Explorer(ExplorerScreen):
    """Models, pictures and objects to choose; a page for every view.

    A page is drawn when it is looked at. Whatever fails leaves the old state, and a message.

    Args:
        model: in evaluation mode; None: the shipped one.
        dataset: None: the shapes of seed 7; numbers are measured on it.
        image: (3, H, W), RGB, float in [0, 1] or uint8: an own picture to begin with.

    Raises:
        ValueError: an image that cannot be shown, or a data set without pictures.
    """

    def __init__(
        self,
        *,
        model: BlendMask | None = None,
        dataset: InstanceDataset | None = None,
        image: Tensor | None = None,
    ) -> None:
        super().__init__(model=model, dataset=dataset, image=image)
        self._connect()

    def _connect(self) -> None:
        controls = self.controls
        self.when(controls.load_model, do=self._load_model)
        self.when(controls.source, do=self._turn_to_source)
        self.when(controls.seed, do=lambda: self._open(open_shapes(int(controls.seed.value))))
        self.when(controls.open_folder, do=self._open_folder)
        controls.upload.on_upload(self._on_upload)
        self.when(controls.number, do=lambda: self._show(int(controls.number.value)))
        self.when(controls.previous, do=lambda: self._show(self._number - 1))
        self.when(controls.next, do=lambda: self._show(self._number + 1))
        self.when(controls.object, do=self._choose)
        self.when(controls.least_score, do=self._look_again)
        self.when(self.tabs, do=self._draw)
        for page in self.pages.values():
            page.on_save = self.save_view
            self.when(*page.changes, do=partial(self._redraw, page))
            if isinstance(page, MeasuredPage):
                self.when(page.button, do=partial(self._measure, page))
            if isinstance(page, RivalPage):
                self.when(page.button, do=partial(self._match, page))

    def _load_model(self) -> None:
        source = str(self.controls.model.value)
        model = self._during(f"Loading {source} …", lambda: open_model(source))
        self._take(model, self.present.dataset, self.present.picture, number=self._number)

    def _turn_to_source(self) -> None:
        self.controls.show_source()
        source, dataset = self.controls.source.value, self.present.dataset
        if source != "own" and isinstance(dataset, ShapesDataset) == (source == "shapes"):
            self._open(dataset)
        elif source == "shapes":
            self._open(open_shapes(int(self.controls.seed.value)))

    def _open_folder(self) -> None:
        self._open(open_folder(self.controls.folder.value, self.controls.split.value))

    def _open(self, dataset: InstanceDataset) -> None:
        self._take(self.present.model, dataset, open_picture(dataset, 0))

    @shows_errors
    def _on_upload(self, name: str, content: bytes | int) -> None:
        picture = read_upload(name, content)
        self._take(self.present.model, self.present.dataset, picture, number=self._number)

    def _show(self, number: int) -> None:
        try:
            self.show(number)
        finally:  # a number whose picture cannot be read must not stay in the control
            self._follow()

    def _choose(self) -> None:
        if self.controls.object.value is not None:
            self.choose(self.controls.object.value)

    def _look_again(self) -> None:
        present = self.present
        self._take(present.model, present.dataset, present.picture, number=self._number)

    @shows_errors
    def save_view(self, view: FigureView, kind: str) -> None:
        """Let the browser save a figure in the chosen width."""
        view.save(kind, width=self.controls.chosen_width)

    def _measure(self, page: MeasuredPage) -> None:
        self._during("Measuring …", lambda: page.run(self.present))

    def _match(self, page: RivalPage) -> None:
        self._during(f"Loading {page.source.value} …", lambda: page.match(self.present))
        self._redraw(page)

    def _during(self, words: str, work: Callable[[], Any]) -> Any:
        """Do something that takes its time, and say so meanwhile."""
        self.say(words)
        result = work()
        self.message.clear()
        return result
