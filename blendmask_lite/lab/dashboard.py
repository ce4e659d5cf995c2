"""The lab as one page: Blender lab, explorer and time machine in tabs.

Chapter: the lab. `make dashboard` serves it as a page without code; in a notebook it is a widget.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from blendmask_lite.lab.blender import BlenderLab
from blendmask_lite.lab.explorer import Explorer
from blendmask_lite.lab.parts import LabWidget, button, note
from blendmask_lite.lab.time import TimeMachine

__all__ = ["Dashboard"]


ABOUT = {
    "Blender lab": "How BlendMask makes the mask of one object: its <b>bases</b>, maps of the "
    "whole image, are cut out along a box, weighted by the object's <b>attentions</b> and added. "
    "Drag the box or paint an attention, and watch the mask.",
    "Explorer": "What a network finds in an image, and what makes each mask: choose an image and "
    "an object, then turn the pages below.",
    "Time machine": "A training from its first step on: move the slider or point at the curve, "
    "and watch how bases, attentions and mask form.",
}


class Dashboard(LabWidget):
    """The parts of the lab as tabs; each is made when it is first opened.

    The explorer's button opens its model and image in the Blender lab.
    """

    def __init__(self) -> None:
        super().__init__(title="BlendMask, from the inside")
        self._makers: dict[str, Callable[[], list[widgets.Widget]]] = {
            "Blender lab": lambda: [BlenderLab()],
            "Explorer": self._make_explorer,
            "Time machine": lambda: [TimeMachine()],
        }
        self._places = {
            name: widgets.VBox([note(ABOUT[name]), note("Loading …")]) for name in self._makers
        }
        self._empty = set(self._makers)
        self.tabs = widgets.Tab(list(self._places.values()), titles=list(self._makers))
        self.when(self.tabs, do=self._fill)
        self._fill()
        self.arrange(self.tabs)

    @property
    def part(self) -> list[widgets.Widget]:
        """The contents of the open tab."""
        return list(self._place.children[1:])

    def turn_to(self, name: str) -> None:
        """Open the part of this name.

        Raises:
            ValueError: there is no such part.
        """
        if name not in self._places:
            raise ValueError(f"part {name!r}: there are {', '.join(self._places)}")
        self.tabs.selected_index = list(self._places).index(name)

    def free(self) -> None:
        """Close the parts, which drop what they hold."""
        for place in self._places.values():
            for part in place.children:
                if isinstance(part, LabWidget):
                    part.close()
        self._makers.clear()

    @property
    def _place(self) -> widgets.VBox:
        return list(self._places.values())[self.tabs.selected_index or 0]

    def _fill(self) -> None:
        place, name = self._place, list(self._places)[self.tabs.selected_index or 0]
        if name in self._empty:
            place.children = (place.children[0], *self._makers[name]())
            self._empty.discard(name)

    def _make_explorer(self) -> list[widgets.Widget]:
        explorer = Explorer()
        blend = button("sliders", "Open this image in the Blender lab", "with the explorer's model")
        blend.layout.align_self = "flex-start"
        self.when(blend, do=lambda: self._blend(explorer))
        return [blend, explorer]

    def _blend(self, explorer: Explorer) -> None:
        present, place = explorer.present, self._places["Blender lab"]
        # The lab has no names for classes that the model does not know.
        knows_all = present.picture.class_names == present.model.class_names
        target = explorer.target if knows_all else None
        lab = BlenderLab(model=present.model, image=present.look.image, target=target)
        about, old = place.children
        place.children = (about, lab)
        old.close()
        self.turn_to("Blender lab")
