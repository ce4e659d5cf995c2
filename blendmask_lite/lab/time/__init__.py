"""The time machine: step through a training and watch its masks form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.training import film_figure, moment_figure
from blendmask_lite.lab.blender.view import mask_overlay
from blendmask_lite.lab.canvas import Canvas, CanvasEvent, as_png
from blendmask_lite.lab.parts import (
    SHORT,
    LabWidget,
    button,
    check_index,
    control,
    offer,
    row,
    shows_errors,
    toggle,
)
from blendmask_lite.lab.time import view as view
from blendmask_lite.lab.time.moments import Moment, TimeReel
from blendmask_lite.training.snapshots import Snapshots

__all__ = ["TimeControls", "TimeMachine"]


LAYERS = {"mask of the object": "mask", "all detections": "found"}
SCALES = {"one for all moments": "shared", "one for each moment": "own"}
MILLISECONDS = 350  # time that each moment is shown while playing


class TimeControls:
    """All controls, and the rows that show them."""

    def __init__(self) -> None:
        self.picture = control(widgets.Dropdown, "image", 190)
        self.object = control(widgets.Dropdown, "object", 230)
        layout = widgets.Layout(width="auto", max_width="100%")
        self.layer = toggle("on the image", list(LAYERS.items()), layout=layout)
        self.scale = toggle("colours", list(SCALES.items()), layout=layout)
        tooltip = "play the moments"
        self.play = widgets.Play(interval=MILLISECONDS, show_repeat=True, tooltip=tooltip)
        layout = widgets.Layout(width="420px", max_width="100%", flex="1 1 200px")
        self.moment = widgets.IntSlider(
            description="moment", readout=False, layout=layout, style=SHORT
        )
        # Linked in the page: it keeps playing while the kernel is busy.
        self.link = widgets.jslink((self.play, "value"), (self.moment, "value"))
        self.words = widgets.Label()
        placeholder = "folder of a run; empty for the package's own"
        self.path = control(widgets.Text, "snapshots of", 430, placeholder=placeholder)
        self.open = button("folder-open", "Open", "show the snapshots of this run")
        self.again = button("refresh", "New moments", "read new moments of a running training")
        self.exports = {
            (what, kind): button("image", f"{label} {kind.upper()}", tooltip)
            for what, label, tooltip in (
                ("moment", "Moment", "the present moment as a figure"),
                ("film", "Film", "up to seven moments side by side"),
            )
            for kind in ("png", "svg")
        }
        first = [self.picture, self.object, self.layer, self.scale]
        self.above = [row(*first), row(self.play, self.moment, self.words)]  # rows above the canvas
        self.below = [row(*self.exports.values()), row(self.path, self.open, self.again)]

    def follow(self, reel: TimeReel, picture: int, object_index: int, index: int) -> None:
        """Show a state."""
        num = len(reel.snapshots.samples)
        offer(self.picture, [str(place + 1) for place in range(num)], picture)
        offer(self.object, view.object_names(reel, picture), object_index)
        # A slider needs two different ends.
        self.moment.max = self.play.max = max(1, len(reel) - 1)
        self.moment.disabled = self.play.disabled = len(reel) == 1
        self.moment.value = index  # the page moves the player with it
        self.words.value = view.words(reel, index)


class TimeMachine(LabWidget):
    """One object of one image at all moments of a training.

    Args:
        snapshots: the result of `read_snapshots`; or a run's folder, its `snapshots` subfolder, or
            a zip archive of that; None for the snapshots of the package.
        picture: index of the image.
        object_index: index of one of its true objects, largest first.

    Raises:
        FileNotFoundError: there are no snapshots.
        ValueError: the snapshots cannot be read, or there is no such image or object.
    """

    def __init__(
        self,
        *,
        snapshots: Snapshots | str | Path | None = None,
        picture: int = 0,
        object_index: int = 0,
    ) -> None:
        super().__init__(title="Time machine")
        self.reel = TimeReel(snapshots)
        self.picture, self.object_index, self.index = -1, -1, len(self.reel) - 1
        self.controls = TimeControls()
        self.canvas = Canvas(grows=True)
        self._layout: tuple[object, ...] = ()
        self._show(self.reel, picture, object_index, self.index)
        self._connect()
        self.arrange(*self.controls.above, self.canvas, *self.controls.below)

    @property
    def moment(self) -> Moment:
        """The moment that is shown."""
        return self.reel.moment(self.index, self.picture, self.object_index)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the colour scales for bases and attentions."""
        is_shared = self.controls.scale.value == "shared"
        return self.reel.limits(self.picture, None if is_shared else self.index)

    def go_to(self, index: int) -> None:
        """Show moment `index` (0-based); -1 is the last one.

        Raises:
            ValueError: there is no such moment, or its file is damaged; the old moment stays.
        """
        index = index + len(self.reel) if index < 0 else index
        self._show(self.reel, self.picture, self.object_index, index)

    def choose(self, picture: int, object_index: int = 0) -> None:
        """Follow another object of another image.

        Raises:
            ValueError: there is no such image or object.
        """
        self._show(self.reel, picture, object_index, self.index)

    def load(self, source: Snapshots | str | Path | None) -> None:
        """Continue with another training's snapshots; arguments and errors as for the class."""
        reel = TimeReel(source)
        self._show(reel, 0, 0, len(reel) - 1)

    def reload(self) -> bool:
        """Read new moments; if the last one is shown, go on to the newest.

        Returns:
            Whether there are new ones.

        Raises:
            FileNotFoundError: the snapshots are gone.
            ValueError: they cannot be read any more.
        """
        was_last = self.index == len(self.reel) - 1
        if not self.reel.reload():
            return False
        last = len(self.reel) - 1
        index = last if was_last else min(self.index, last)
        self._layout = ()
        self._show(self.reel, self.picture, self.object_index, index)
        return True

    def figure(self) -> DescribedFigure:
        """The current moment, as a figure for print."""
        moment = self.moment
        done, name = f"{moment.iteration:,} iterations", self._object_name
        return moment_figure(
            self._sample.image,
            box=self._sample.target.boxes[self.object_index],
            true_mask=self._true_mask,
            bases=moment.bases,
            attentions=moment.attentions,
            mask_probabilities=moment.mask_probabilities,
            stride=self.reel.snapshots.stride,
            found_masks=(moment.found if self._is_all else moment.mask)[None],
            limits=self.limits,
            title=f"object {name} after {done}, IoU {moment.mask_iou:.2f}",
        )

    def film(self, most: int = 7) -> DescribedFigure:
        """Up to `most` moments, including the first and the last, side by side, for print.

        Moments whose files are damaged are left out.
        """
        reel, place = self.reel, (self.picture, self.object_index)
        whole = [index for index, step in enumerate(reel.iterations) if step not in reel.damaged]
        num = min(most, len(whole))
        chosen = [whole[round(i * (len(whole) - 1) / max(num - 1, 1))] for i in range(num)]
        moments = [reel.moment(index, *place) for index in chosen]
        return film_figure(
            self._sample.image,
            box=self._sample.target.boxes[self.object_index],
            true_mask=self._true_mask,
            bases={reel.iterations[index]: reel.base_crops(index, *place) for index in chosen},
            mask_probabilities={moment.iteration: moment.mask_probabilities for moment in moments},
            mask_iou={moment.iteration: moment.mask_iou for moment in moments},
            title=f"object {self._object_name}",
        )

    def free(self) -> None:
        """Drop all moments."""
        self.controls.link.unlink()
        del self.reel, self._layout

    # -------------------------------------------------------------- drawing

    @property
    def _is_all(self) -> bool:
        return bool(self.controls.layer.value == "found")

    @property
    def _sample(self) -> Sample:
        return self.reel.snapshots.samples[self.picture]

    @property
    def _true_mask(self) -> Tensor:
        assert self._sample.target.masks is not None
        return self._sample.target.masks[self.object_index]

    @property
    def _object_name(self) -> str:
        return view.object_names(self.reel, self.picture)[self.object_index]

    def _show(self, reel: TimeReel, picture: int, object_index: int, index: int) -> None:
        """Show a moment of an object. Steps that can fail come first; then the old state stays."""
        samples = reel.snapshots.samples
        check_index("image", picture, len(samples))
        check_index("object", object_index, len(samples[picture].target))
        check_index("moment", index, len(reel))
        moment = reel.moment(index, picture, object_index)
        self.reel, self.picture, self.object_index, self.index = reel, picture, object_index, index
        self._draw(moment)
        with self.setting():
            self.controls.follow(reel, picture, object_index, index)
        if reel.damaged:
            total, reasons = f"{len(reel.damaged)} of {len(reel)}", " ".join(reel.damaged.values())
            self.say(f"{total} moments cannot be read: {reasons}", "warning")

    def _draw(self, moment: Moment) -> None:
        reel, canvas, sample = self.reel, self.canvas, self._sample
        cells = view.pixels(moment, self.limits)
        layout = (reel, self.picture, self.object_index)
        with canvas.hold_sync():
            if layout != self._layout:
                columns = view.columns(reel, self.picture, self.object_index, moment)
                canvas.arrange(columns, view.PALETTES)
                cells["picture"] = as_png(sample.image)
                cells["curve"] = view.curve_picture(reel, self.picture, self.object_index)
                self._layout = layout
            shown = moment.found if self._is_all else moment.mask
            canvas.draw(
                cells,
                overlays={"picture": mask_overlay(shown, self._true_mask)},
                marks={"curve": [view.moment_mark(reel, self.index)]},
                bars={"moment": view.bars(reel, self.picture, self.object_index, moment)},
                box=sample.target.boxes[self.object_index].tolist(),
            )
            if not self.controls.play.playing:
                canvas.announcement = view.spoken(moment)

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        picture, thing = controls.picture, controls.object
        for choice, move in (
            (controls.moment, lambda: self.go_to(controls.moment.value)),
            (picture, lambda: self.choose(picture.value)),
            (thing, lambda: self.choose(picture.value, thing.value)),
            (controls.layer, lambda: self._draw(self.moment)),
            (controls.scale, lambda: self._draw(self.moment)),
        ):
            self.when(choice, do=partial(self._or_stay, move))
        self.when(controls.open, do=self._open)
        self.when(controls.again, do=self._look_again)
        for (what, kind), export in controls.exports.items():
            self.when(export, do=partial(self._export, what, kind))

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "hover" and event.cells:
            self.go_to(view.moment_at(self.reel, event.cells[0][0]))

    def _or_stay(self, move: Callable[[], None]) -> None:
        """Call `move`; if that fails, set the controls back to the moment that is shown."""
        try:
            move()
        except ValueError:
            self.controls.play.playing = False
            with self.setting():
                self.controls.follow(self.reel, self.picture, self.object_index, self.index)
            raise

    def _open(self) -> None:
        path = self.controls.path.value.strip()
        self.load(Path(path).expanduser() if path else None)

    def _look_again(self) -> None:
        if not self.reload():
            self.say(f"No new moments: {len(self.reel)} so far.")

    def _export(self, what: str, kind: str) -> None:
        figure = self.film() if what == "film" else self.figure()
        self.canvas.save_figure(figure, f"time_{what}", kind)
