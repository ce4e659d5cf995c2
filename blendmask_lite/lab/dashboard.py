"""The lab as one page: explorer, Blender lab and time machine in tabs.

Chapter: the lab. `make dashboard` serves it as a page without code; in a notebook it is a widget.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from blendmask_lite.lab.blender import BlenderLab
from blendmask_lite.lab.explorer import Explorer
from blendmask_lite.lab.parts import LabWidget, button
from blendmask_lite.lab.time import TimeMachine

__all__ = ["Dashboard"]


class Dashboard(LabWidget):
    """The parts of the lab as tabs; each is made when it is first opened.

    The Blender lab starts with the explorer's model and image; its button takes over new ones.
    """

    def __init__(self) -> None:
        super().__init__(title="BlendMask, from the inside")
        self.explorer = Explorer()
        self._makers: dict[str, Callable[[], list[widgets.Widget]]] = {
            "Explorer": lambda: [self.explorer],
            "Blender lab": self._make_blender_lab,
            "Time machine": lambda: [TimeMachine()],
        }
        self._places = {name: widgets.VBox() for name in self._makers}
        self.tabs = widgets.Tab(list(self._places.values()), titles=list(self._makers))
        self.when(self.tabs, do=self._fill)
        self._fill()
        self.arrange(self.tabs)

    @property
    def part(self) -> list[widgets.Widget]:
        """The contents of the open tab."""
        return list(self._place.children)

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
        if not place.children:
            place.children = tuple(self._makers[name]())

    def _make_blender_lab(self) -> list[widgets.Widget]:
        take = button("refresh", "Take the explorer's image and model", "")
        self.when(take, do=self._take)
        return [take, self._blender_lab()]

    def _blender_lab(self) -> BlenderLab:
        present = self.explorer.present
        # The lab has no names for classes that the model does not know.
        knows_all = present.picture.class_names == present.model.class_names
        target = self.explorer.target if knows_all else None
        return BlenderLab(model=present.model, image=present.look.image, target=target)

    def _take(self) -> None:
        place = self._places["Blender lab"]
        take, old = place.children
        place.children = (take, self._blender_lab())
        old.close()
