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
from blendmask_lite.lab.explorer.page import MeasuredPage, Page
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
        model: in evaluation mode; the shipped one without.
        dataset: the shapes of seed 7 without; numbers are measured on it.
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
        controls.load_model.on_click(self._on_load_model)
        controls.source.observe(self._on_source, "value")
        controls.seed.observe(self._on_seed, "value")
        controls.open_folder.on_click(self._on_folder)
        controls.upload.on_upload(self._on_upload)
        controls.number.observe(self._on_number, "value")
        controls.previous.on_click(partial(self._on_step, -1))
        controls.next.on_click(partial(self._on_step, 1))
        controls.object.observe(self._on_object, "value")
        controls.least_score.observe(self._on_score, "value")
        self.tabs.observe(self._on_tab, "selected_index")
        for page in self.pages.values():
            for control in page.changes:
                control.observe(partial(self._on_change, page), "value")
            page.on_save = self._on_save
            if isinstance(page, MeasuredPage):
                page.button.on_click(partial(self._on_measure, page))
            if isinstance(page, RivalPage):
                page.button.on_click(partial(self._on_match, page))

    @shows_errors
    def _on_load_model(self, _button: Any) -> None:
        source = str(self.controls.model.value)
        model = self._during(f"Loading {source} …", lambda: open_model(source))
        self._take(model, self.present.dataset, self.present.picture, number=self._number)

    @shows_errors
    def _on_source(self, change: Any) -> None:
        self.controls.show_source()
        if change["new"] == "own":
            return
        wants_shapes = change["new"] == "shapes"
        if isinstance(self.present.dataset, ShapesDataset) == wants_shapes:
            self._open(self.present.dataset)
        elif wants_shapes:
            self._open(open_shapes(int(self.controls.seed.value)))

    @shows_errors
    def _on_seed(self, change: Any) -> None:
        if not self.controls.is_following:
            self._open(open_shapes(int(change["new"])))

    @shows_errors
    def _on_folder(self, _button: Any) -> None:
        controls = self.controls
        self._open(open_folder(controls.folder.value, controls.split.value))

    def _open(self, dataset: InstanceDataset) -> None:
        self._take(self.present.model, dataset, open_picture(dataset, 0))

    @shows_errors
    def _on_upload(self, name: str, content: bytes | int) -> None:
        picture = read_upload(name, content)
        self._take(self.present.model, self.present.dataset, picture, number=self._number)

    @shows_errors
    def _on_number(self, change: Any) -> None:
        if not self.controls.is_following:
            self._show(int(change["new"]))

    @shows_errors
    def _on_step(self, step: int, _button: Any) -> None:
        self._show(self._number + step)

    def _show(self, number: int) -> None:
        try:
            self.show(number)
        finally:  # a number whose picture cannot be read must not stay in the control
            self._follow()

    @shows_errors
    def _on_object(self, change: Any) -> None:
        if not self.controls.is_following and change["new"] is not None:
            self.choose(change["new"])

    @shows_errors
    def _on_score(self, _change: Any) -> None:
        if not self.controls.is_following:
            present = self.present
            self._take(present.model, present.dataset, present.picture, number=self._number)

    @shows_errors
    def _on_tab(self, _change: Any) -> None:
        self._draw()

    @shows_errors
    def _on_change(self, page: Page, _change: Any) -> None:
        if not page.is_following:
            page.draw(self.present)

    @shows_errors
    def _on_save(self, view: FigureView, kind: str) -> None:
        view.save(kind, width=self.controls.chosen_width)

    @shows_errors
    def _on_measure(self, page: MeasuredPage, _button: Any) -> None:
        self._during("Measuring …", lambda: page.run(self.present))

    @shows_errors
    def _on_match(self, page: RivalPage, _button: Any) -> None:
        self._during(f"Loading {page.source.value} …", lambda: page.match(self.present))
        page.draw(self.present)

    def _during(self, words: str, work: Callable[[], Any]) -> Any:
        """Do something that takes its time, and say so meanwhile."""
        self.say(words)
        result = work()
        self.message.clear()
        return result
