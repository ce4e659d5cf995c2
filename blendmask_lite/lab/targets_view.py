"""The display of the targets explorer: one panel per level, counts, and reasons."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from blendmask_lite.figures.style import object_color
from blendmask_lite.figures.targets import paint_locations
from blendmask_lite.lab.canvas import Bar, Bars, Group, Mark, as_png, png_panel
from blendmask_lite.research.detector import REASONS, ExplainedAssignment
from blendmask_lite.terminal import counted

__all__ = [
    "by_level",
    "columns",
    "level_bars",
    "location_bars",
    "marks",
    "object_bars",
    "pictures",
    "spoken",
]

WIDE, NARROW = 440, 230  # of a level's panel, CSS pixels: alone, or one of several
SCREEN = 440  # size to which a small image is enlarged, pixels
MOST_LINES = 6  # number of objects whose reasons are listed
MOST_BARS = 14


def by_level(values: Tensor, found: ExplainedAssignment) -> list[Tensor]:
    """(L,) values -> the (h, w) map of every level."""
    parts = values.split(found.level_sizes)
    return [part.unflatten(0, shape) for part, shape in zip(parts, found.shapes, strict=True)]


def columns(
    found: ExplainedAssignment, level_names: Sequence[str], shown: Sequence[int]
) -> list[list[Group]]:
    """A panel for every level shown, with the numbers beside them."""
    size = WIDE if len(shown) == 1 else NARROW
    panels = []
    for level in shown:
        height, width = found.shapes[level]
        name, title = level_names[level], f"{level_names[level]} · stride {found.strides[level]}"
        label = (
            f"Level {name}: {width} by {height} locations as dots in the colour of the object that "
            "they learn, with a dark rim if several objects claim them"
        )
        shape = (height, width)
        panels.append(png_panel(name, label, shape, size, title=title, acts=("hover",)))
    note = "dot: location; dark rim: several objects claim it"
    return [
        [Group("Which location learns which object", tuple(panels), note)],
        [Group("This location", bars="location")],
        [Group("Locations that learn an object", bars="levels"), Group("", bars="objects")],
    ]


def pictures(
    found: ExplainedAssignment, image: Tensor, level_names: Sequence[str], shown: Sequence[int]
) -> dict[str, bytes]:
    """The content of the panels as PNG."""
    owners = by_level(found.owner, found)
    ambiguous = by_level(found.is_ambiguous, found)
    scale = max(1, SCREEN // max(image.shape[-2:]))
    return {
        level_names[level]: as_png(
            paint_locations(
                image,
                boxes=found.boxes,
                owner=owners[level],
                ambiguous=ambiguous[level],
                stride=found.strides[level],
                scale=scale,
            )
        )
        for level in shown
    }


def marks(
    found: ExplainedAssignment,
    level_names: Sequence[str],
    shown: Sequence[int],
    location: int | None,
) -> dict[str, list[Mark]]:
    """A location, the box that it learns (on all levels), and the square of central locations."""
    if location is None:
        return {}
    level = found.level_of(location)
    x, y = found.locations[location].tolist()
    stride = found.strides[level]
    here = [Mark(x // stride, y // stride)]
    owner = int(found.owner[location])
    made: dict[str, list[Mark]] = {level_names[place]: [] for place in shown}
    if owner >= 0:
        x0, y0, x1, y1 = found.boxes[owner].tolist()
        for place in shown:
            step = found.strides[place]
            box = Mark(x0 / step, y0 / step, (x1 - x0) / step, (y1 - y0) / step)
            made[level_names[place]].append(box)
        radius = found.center_radius
        if radius < max(found.shapes[level]):
            middle_x, middle_y = (x0 + x1) / 2 / stride, (y0 + y1) / 2 / stride
            here.append(Mark(middle_x - radius, middle_y - radius, 2 * radius, 2 * radius))
    if level in shown:
        made[level_names[level]] += here
    return made


def location_bars(
    found: ExplainedAssignment,
    names: Sequence[str],
    level_names: Sequence[str],
    location: int | None,
) -> Bars:
    """The object that a location learns and its distances, or why it is background."""
    if location is None:
        return Bars("Point at a location to see what it learns, or why it learns nothing.")
    level = found.level_of(location)
    x, y = found.locations[location].tolist()
    least, most = found.size_ranges[level]
    lines = [
        f"{level_names[level]} at ({x:.0f}, {y:.0f}) px; the level takes objects whose farthest "
        f"side is {max(least, 0):g} to {most:g} px away."
    ]
    owner = int(found.owner[location])
    if owner >= 0:
        center = found.centerness(location, owner)
        lines.append(f"Learns object {names[owner]}; centerness {center:.2f}. Distances, px:")
    else:
        lines.append("Background: this location learns no object.")
    others = [index for index in range(len(names)) if index != owner]
    claims = [index for index in others if int(found.reasons[location, index]) > 0]
    lines += [_why(found, names, location, index) for index in claims[:MOST_LINES]]
    rest = len(others) - len(claims[:MOST_LINES])
    if rest == len(others) and others:
        lines.append("Outside all other boxes." if owner >= 0 else "Outside all boxes.")
    elif rest:
        lines.append(f"The other {counted(rest, 'object')}: outside the box, or not listed.")
    if owner < 0:
        return Bars("\n".join(lines))
    distances = found.ltrb[location, owner].tolist()
    bars = [
        Bar(side, value, f"{value:.0f} px", object_color(owner))
        for side, value in zip(("left", "top", "right", "bottom"), distances, strict=True)
    ]
    return Bars("\n".join(lines), tuple(bars), high=max(distances))


def _why(found: ExplainedAssignment, names: Sequence[str], location: int, index: int) -> str:
    reason = int(found.reasons[location, index])
    left, top, right, bottom = found.ltrb[location, index].tolist()
    more = ""
    if reason == 1:
        stride = found.strides[found.level_of(location)]
        away = max(abs(left - right), abs(top - bottom)) / 2
        most = found.center_radius * stride
        more = f": {away:.0f} px from its center, must be less than {most:g}"
    elif reason == 2:
        more = f": farthest side {max(left, top, right, bottom):.0f} px"
    return f"Not {names[index]}: {REASONS[reason]}{more}."


def level_bars(found: ExplainedAssignment, level_names: Sequence[str]) -> Bars:
    """Number of locations that learn an object, for each level."""
    counts = found.counts.sum(dim=1).tolist()
    several = int(found.is_ambiguous.sum())
    sizes = found.level_sizes
    bars = [
        Bar(name, count, f"{count} of {size}", "#7f7f7f")
        for name, count, size in zip(level_names, counts, sizes, strict=True)
    ]
    title = (
        f"{sum(counts)} of {sum(sizes)} locations learn an object; several objects claim {several} "
        "of them, and the smallest object gets those."
    )
    return Bars(title, tuple(bars), high=max(1, *counts))


def object_bars(found: ExplainedAssignment, names: Sequence[str]) -> Bars:
    """Number of locations that learn each object; the title names the objects without any."""
    counts = found.counts.sum(dim=0).tolist()
    lost = [name for name, count in zip(names, counts, strict=True) if count == 0]
    title = "By object:" if names else "The image has no objects: everything is background."
    if lost:
        title = f"By object. No location learns {', '.join(lost)}, so training ignores it here."
    bars = [
        Bar(name, count, str(count) if count else "none!", object_color(index))
        for index, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    return Bars(title, tuple(bars[:MOST_BARS]), high=max(1, *counts, 1))


def spoken(found: ExplainedAssignment) -> str:
    """The words of a screen reader after a change."""
    return f"{int((found.owner >= 0).sum())} of {len(found.owner)} locations learn an object"
