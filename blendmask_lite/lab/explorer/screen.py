"""The explorer's state, controls and pages: code works on it as a reader does."""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import WIDTHS
from blendmask_lite.lab.explorer.look import look_at_picture
from blendmask_lite.lab.explorer.measures import ChangePage, OraclePage, ScoresPage
from blendmask_lite.lab.explorer.page import NO_OBJECTS, Page, Present, whole_number
from blendmask_lite.lab.explorer.pages import (
    AttentionsPage,
    BasesPage,
    Figure1Page,
    Figure4Page,
    PicturePage,
    RivalPage,
)
from blendmask_lite.lab.explorer.sources import (
    SHIPPED,
    Picture,
    UploadButton,
    advice_about,
    check_picture,
    model_field,
    open_model,
    open_picture,
    open_shapes,
)
from blendmask_lite.lab.parts import LabWidget, MessageLine, button, control, offer, row, toggle
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target

__all__ = ["ExplorerControls", "ExplorerScreen"]


AS_SHOWN = "as shown"
SOURCES = {"shapes": "shapes", "COCO folder": "folder", "own picture": "own"}


class ExplorerControls:
    """All controls above the pages, and rows to show them in."""

    def __init__(self) -> None:
        self.model = model_field("model", 400, "shipped, a published name, or a file")
        self.load_model = widgets.Button(description="Load model", icon="download")
        self.source = toggle("pictures", SOURCES)
        self.seed = whole_number("seed", 170, 7, 0, 2**31 - 1)
        text = widgets.Text
        self.folder = control(text, "folder", 340, placeholder="a folder in COCO's layout")
        self.split = control(text, "split", 200, placeholder="the only one")
        self.open_folder = widgets.Button(description="Open folder", icon="folder-open")
        self.upload = UploadButton(label="Choose a picture, or drop one here")
        self.number = whole_number("number", 170, 0, 0, 0)
        self.previous = button("arrow-left", "", "previous picture")
        self.next = button("arrow-right", "", "next picture")
        self.object = control(widgets.Dropdown, "object", 270)
        self.least_score = control(
            widgets.FloatSlider,
            "least score",
            300,
            value=0.5,
            min=0.05,
            max=0.95,
            step=0.05,
            continuous_update=False,
        )
        self.width = control(widgets.Dropdown, "save for", 190, options=[AS_SHOWN, *WIDTHS])
        self.advice = MessageLine()  # stays as long as it holds

    @property
    def rows(self) -> list[widgets.Widget]:
        """From top to bottom."""
        own = [self.seed, self.folder, self.split, self.open_folder, self.upload]
        chosen = [self.number, self.previous, self.next, self.object, self.least_score]
        return [
            row(self.model, self.load_model),
            row(self.source, *own),
            row(*chosen, self.width),
            self.advice,
        ]

    @property
    def chosen_width(self) -> str | None:
        """Of saved figures; None is as shown."""
        return None if self.width.value == AS_SHOWN else str(self.width.value)

    def show_source(self) -> None:
        """Show the controls of the chosen kind of pictures, hide the others'."""
        kind = self.source.value
        shown = {
            "shapes": (self.seed,),
            "folder": (self.folder, self.split, self.open_folder),
            "own": (self.upload,),
        }
        for name, group in shown.items():
            for widget in group:
                widget.layout.display = None if name == kind else "none"
        is_own = kind == "own"
        for widget in (self.number, self.previous, self.next):
            widget.layout.display = "none" if is_own else None

    def follow(self, present: Present, *, number: int, advice: str) -> None:
        """Show a state.

        Args:
            present: the state.
            number: of the picture in its data set.
            advice: where model and picture do not belong together.
        """
        total = len(present.dataset)
        self.number.max = max(total - 1, 0)
        self.number.value = number
        self.previous.disabled, self.next.disabled = number == 0, number + 1 >= total
        if isinstance(present.dataset, ShapesDataset):
            self.seed.value = present.dataset.seed
        names = [thing.name for thing in present.look.objects]
        offer(self.object, names, present.chosen if names else None)
        self.object.disabled = not names
        self.least_score.value = present.look.least_score
        if advice:
            self.advice.show(advice, "warning")
        else:
            self.advice.clear()


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


class ExplorerScreen(LabWidget):
    """State, controls and pages, nothing connected; a page is drawn when it is looked at.

    Args:
        model: in evaluation mode; None: the shipped one.
        dataset: None: the shapes of seed 7; numbers are measured on it.
        image: (3, H, W), RGB, float in [0, 1] or uint8: an own picture to begin with.

    Raises:
        ValueError: an image that cannot be shown, or a data set without pictures.
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
        self.tabs = widgets.Tab(list(self.pages.values()), titles=list(self.pages))
        self._stale: set[Page] = set()
        self.controls.model.value = SHIPPED if model is None else ""
        model = open_model(SHIPPED) if model is None else model
        dataset = open_shapes(7) if dataset is None else dataset
        self._number = 0
        if not isinstance(dataset, ShapesDataset):
            self.controls.source.value = "folder"
        if image is None:
            picture = open_picture(dataset, 0)
        else:
            check_picture(image, "image")
            picture = Picture("own picture", image)
            self.controls.source.value = "own"
        self.controls.show_source()
        self._take(model, dataset, picture)
        self.arrange(*self.controls.rows, self.tabs)
        # Pages are long: below them nobody would see a message.
        self.children = (*self.children[:-2], self.message, self.tabs)

    @property
    def page(self) -> Page:
        """The page that is looked at."""
        return list(self.pages.values())[self.tabs.selected_index or 0]

    @property
    def target(self) -> Target | None:
        """The true objects at the size of `present.look.image`; None where nobody knows them."""
        truth = self.present.look.truth
        if truth is None:
            return None
        return Target(boxes=truth.boxes.cpu(), labels=truth.labels.cpu(), masks=truth.masks.cpu())

    def show(self, number: int) -> None:
        """Go to a picture of the data set, counted from 0.

        Raises:
            ValueError: no such picture, or a damaged one.
        """
        picture = open_picture(self.present.dataset, number)
        self._take(self.present.model, self.present.dataset, picture, number=number)

    def choose(self, number: int) -> None:
        """Choose another object of the picture, counted from 0.

        Raises:
            ValueError: there is no such object.
        """
        total = len(self.present.look.objects)
        if not 0 <= number < total:
            raise ValueError(f"object {number}: the picture has {total}, from 0")
        self._refresh(replace(self.present, chosen=number))

    def turn_to(self, title: str) -> None:
        """Look at another page.

        Raises:
            ValueError: there is no such page.
        """
        if title not in self.pages:
            raise ValueError(f"page {title!r}: there are {', '.join(self.pages)}")
        self.tabs.selected_index = list(self.pages).index(title)

    def free(self) -> None:
        """Drop models, pictures and all that was measured."""
        for page in self.pages.values():
            page.forget()
        self._stale.clear()
        del self.present

    # -------------------------------------------------------------- the state

    def _take(
        self, model: BlendMask, dataset: InstanceDataset, picture: Picture, *, number: int = 0
    ) -> None:
        """Look at a picture with a model, and make both the present ones."""
        least_score = float(self.controls.least_score.value)
        look = look_at_picture(model, picture, least_score=least_score)
        before = getattr(self, "present", None)
        if before is not None and (before.model is not model or before.dataset is not dataset):
            for page in self.pages.values():
                page.forget()
        self._number = number
        self._refresh(Present(model, dataset, picture, look))
        if len(look.found) == 0:
            self.say(NO_OBJECTS, "warning")

    def _refresh(self, present: Present) -> None:
        """Make `present` the state, draw the page in front, the others when they are looked at."""
        self.present = present
        self._follow()
        self._stale = set(self.pages.values())
        self._draw()

    def _draw(self) -> None:
        page = self.page
        if page in self._stale:
            self._redraw(page)
            self._stale.discard(page)

    def _redraw(self, page: Page) -> None:
        with self.setting():
            page.draw(self.present)

    def _follow(self) -> None:
        advice = advice_about(self.present.model, self.present.picture)
        with self.setting():
            self.controls.follow(self.present, number=self._number, advice=advice)
