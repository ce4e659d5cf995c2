"""The explorer: choose a model, an image and an object, and see what makes the mask.

Chapter: the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab.explorer.controls import ExplorerControls
from blendmask_lite.lab.explorer.image_pages import (
    AttentionsPage,
    BasesPage,
    Figure1Page,
    Figure4Page,
    PicturePage,
    RivalPage,
)
from blendmask_lite.lab.explorer.measured_pages import ChangePage, OraclePage, ScoresPage
from blendmask_lite.lab.explorer.page import NO_OBJECTS, MeasuredPage, Page, Present
from blendmask_lite.lab.explorer.sources import (
    Picture,
    advice_about,
    check_picture,
    is_of_photos,
    open_folder,
    open_model,
    open_photos,
    open_picture,
    open_shapes,
    read_upload,
    redraw_shapes,
)
from blendmask_lite.lab.explorer.views import look_at_picture
from blendmask_lite.lab.parts import FigureView, LabWidget, check_index, shows_errors
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target

__all__ = ["Explorer"]


PAGES = (
    PicturePage,
    BasesPage,
    AttentionsPage,
    Figure1Page,
    Figure4Page,
    ScoresPage,
    ChangePage,
    OraclePage,
    RivalPage,
)


class Explorer(LabWidget):
    """A choice of models, images and objects, with a page for every view.

    A page is drawn when it is opened. If an action fails, the old state stays, and a message says
    why.

    Args:
        model: the model, in evaluation mode; None for the shipped `small`.
        dataset: images to show and to measure on; None for the shapes of seed 7. Generated shapes
            are drawn again, at the model's size, for every model that is loaded.
        image: (3, H, W), RGB, float in [0, 1] or uint8: an image of your own to start with.

    Raises:
        ValueError: the image cannot be shown, or the data set has no images.
    """

    present: Present

    def __init__(
        self,
        *,
        model: BlendMask | None = None,
        dataset: InstanceDataset | None = None,
        image: Tensor | None = None,
    ) -> None:
        super().__init__(title="Explorer")
        self.controls = ExplorerControls()
        self.pages: dict[str, Page] = {kind.title: kind() for kind in PAGES}
        for page in self.pages.values():
            page.on_save = self.save_view
        self.tabs = widgets.Tab(list(self.pages.values()), titles=list(self.pages))
        self._stale: set[Page] = set()
        self.controls.model.value = "small" if model is None else ""
        model = open_model("small") if model is None else model
        dataset = open_shapes(7, model) if dataset is None else dataset
        self._number = 0
        if not isinstance(dataset, ShapesDataset):
            self.controls.source.value = "photos" if is_of_photos(dataset) else "folder"
        if image is None:
            picture = open_picture(dataset, 0)
        else:
            check_picture(image, "image")
            picture = Picture("your image", image)
            self.controls.source.value = "own"
        self.controls.show_source()
        self._take(model, dataset, picture)
        self._connect()
        self.arrange(*self.controls.rows, self.tabs)
        # Pages are long: below them, nobody would see a message.
        self.children = (*self.children[:-2], self.message, self.tabs)

    @property
    def page(self) -> Page:
        """The page that is open."""
        return list(self.pages.values())[self.tabs.selected_index or 0]

    @property
    def target(self) -> Target | None:
        """The true objects at the size of `present.look.image`; None if they are unknown."""
        truth = self.present.look.truth
        if truth is None:
            return None
        return Target(boxes=truth.boxes.cpu(), labels=truth.labels.cpu(), masks=truth.masks.cpu())

    def show(self, number: int) -> None:
        """Show image `number` (0-based) of the data set.

        Raises:
            ValueError: there is no such image, or it is damaged.
        """
        picture = open_picture(self.present.dataset, number)
        self._take(self.present.model, self.present.dataset, picture, number=number)

    def choose(self, number: int) -> None:
        """Choose object `number` (0-based) of the image.

        Raises:
            ValueError: there is no such object.
        """
        check_index("object", number, len(self.present.look.objects))
        self._refresh(replace(self.present, chosen=number))

    def turn_to(self, title: str) -> None:
        """Open the page with this title.

        Raises:
            ValueError: there is no such page.
        """
        if title not in self.pages:
            raise ValueError(f"page {title!r}: there are {', '.join(self.pages)}")
        self.tabs.selected_index = list(self.pages).index(title)

    def free(self) -> None:
        """Drop models, images and all measurements."""
        for page in self.pages.values():
            page.forget()
        self._stale.clear()
        del self.present

    # -------------------------------------------------------------- the state

    def _take(
        self, model: BlendMask, dataset: InstanceDataset, picture: Picture, *, number: int = 0
    ) -> None:
        """Run a model on an image, and make both the current ones."""
        look = look_at_picture(model, picture, least_score=self.controls.least_score.value)
        before = getattr(self, "present", None)
        if before is not None and (before.model is not model or before.dataset is not dataset):
            for page in self.pages.values():
                page.forget()
        self._number = number
        self._refresh(Present(model, dataset, picture, look))
        if len(look.found) == 0:
            self.say(NO_OBJECTS, "warning")

    def _refresh(self, present: Present) -> None:
        """Make `present` the state and draw the open page; other pages are drawn when opened."""
        self.present = present
        self._follow()
        self._stale = set(self.pages.values())
        self._draw()
        for page in self._stale:
            page.wait()

    def _draw(self) -> None:
        if self.page in self._stale:
            self._redraw(self.page)
            self._stale.discard(self.page)

    def _redraw(self, page: Page) -> None:
        with self.setting():
            page.draw(self.present)

    def _follow(self) -> None:
        advice = advice_about(self.present.model, self.present.picture)
        with self.setting():
            self.controls.follow(self.present, number=self._number, advice=advice)

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.when(controls.load_model, do=self._load_model)
        self.when(controls.source, do=self._turn_to_source)
        self.when(controls.seed, do=self._open_shapes)
        self.when(controls.open_folder, do=self._open_folder)
        controls.upload.on_upload(self._on_upload)
        self.when(controls.number, do=lambda: self._show(int(controls.number.value)))
        self.when(controls.previous, do=lambda: self._show(self._number - 1))
        self.when(controls.next, do=lambda: self._show(self._number + 1))
        self.when(controls.object, do=self._choose)
        self.when(controls.least_score, do=self._look_again)
        self.when(self.tabs, do=self._draw)
        for page in self.pages.values():
            self.when(*page.changes, do=partial(self._redraw, page))
            if isinstance(page, MeasuredPage):
                self.when(page.button, do=partial(self._measure, page))
            if isinstance(page, RivalPage):
                self.when(page.button, do=partial(self._match, page))

    def _load_model(self) -> None:
        source = str(self.controls.model.value)
        model = self._during(f"Loading {source} …", lambda: open_model(source))
        before, picture = self.present.dataset, self.present.picture
        dataset = before
        if isinstance(before, ShapesDataset):
            dataset = redraw_shapes(before, model)
        elif self.controls.source.value == "photos":
            dataset = open_photos(model)
        if dataset is not before and picture.sample is not None:  # the picture is from `before`
            picture = open_picture(dataset, self._number)
        self._take(model, dataset, picture, number=self._number)

    def _turn_to_source(self) -> None:
        self.controls.show_source()
        source, dataset = self.controls.source.value, self.present.dataset
        if source == "photos":
            self._open(open_photos(self.present.model))
        elif source != "own" and isinstance(dataset, ShapesDataset) == (source == "shapes"):
            self._open(dataset)
        elif source == "shapes":
            self._open_shapes()

    def _open_shapes(self) -> None:
        self._open(open_shapes(int(self.controls.seed.value), self.present.model))

    def _open_folder(self) -> None:
        self._open(open_folder(self.controls.folder.value, self.controls.split.value))

    def _open(self, dataset: InstanceDataset) -> None:
        self._take(self.present.model, dataset, open_picture(dataset, 0))

    @shows_errors
    def _on_upload(self, name: str, content: bytes | int) -> None:
        self.message.clear()
        picture = read_upload(name, content)
        self._take(self.present.model, self.present.dataset, picture, number=self._number)

    def _show(self, number: int) -> None:
        try:
            self.show(number)
        finally:  # if the image cannot be read, the control must not keep its number
            self._follow()

    def _choose(self) -> None:
        if self.controls.object.value is not None:
            self.choose(self.controls.object.value)

    def _look_again(self) -> None:
        present = self.present
        self._take(present.model, present.dataset, present.picture, number=self._number)

    @shows_errors
    def save_view(self, view: FigureView, kind: str) -> None:
        """Make the browser save a figure with the chosen width."""
        view.save(kind, width=self.controls.chosen_width)

    def _measure(self, page: MeasuredPage) -> None:
        self._during("Measuring …", lambda: page.run(self.present))

    def _match(self, page: RivalPage) -> None:
        self._during(f"Loading {page.source.value} …", lambda: page.match(self.present))
        self._redraw(page)

    def _during(self, words: str, work: Callable[[], Any]) -> Any:
        """Do something slow while showing a message."""
        self.say(words)
        result = work()
        self.message.clear()
        return result
