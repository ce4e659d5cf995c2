"""Slides: the cells of a chapter that carry a tag, cut at their headings.

Made from the notebook that students open, so there is nothing to keep in step.
"""

from __future__ import annotations

import copy
import re

import nbformat

from blendmask_lite.course.display import NOTE

__all__ = ["SLIDE_TAGS", "num_slides", "slides_notebook"]

# Tag of a cell -> reveal.js' type of slide: a new one, below the last, shown with the next key.
SLIDE_TAGS = {"slide": "slide", "subslide": "subslide", "fragment": "fragment", "same": "-"}
# Text is cut in front of headings (but the title) and of exercises.
CUT = re.compile(r"^(?=#{2,3} |\*\*Exercise \d\d\.\d\*\*)", re.MULTILINE)
HEADING = re.compile(r"#{2,3} [^\n]*\s*")  # and nothing below it
DOCUMENT = re.compile(r"\[([^\]]+)\]\(\.\./docs/[^)]*\)")
CHAPTER = re.compile(r"\]\((\w+)\.ipynb\)")


def slides_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the slides of a chapter; cells without a tag are left out.

    A text begins a slide with each of its headings, and one below with each exercise. What stands
    above the first of them belongs to the slide before: it tells what to see in a figure. A text
    that joins a slide ends at its first heading. Of code that shows something only the outputs are
    kept, without the course's notes to the student.

    Args:
        notebook: a chapter, usually executed; its cells carry the tags of `SLIDE_TAGS`.

    Raises:
        ValueError: no cell begins a slide.
    """
    slides = nbformat.v4.new_notebook(metadata=copy.deepcopy(notebook.metadata))
    is_shown = False  # the cell before
    for cell in notebook.cells:
        kinds = [SLIDE_TAGS[tag] for tag in cell.metadata.get("tags", []) if tag in SLIDE_TAGS]
        if kinds and cell.cell_type == "markdown":
            slides.cells += _text_slides(cell, kinds[0], joins=is_shown)
        elif kinds:
            slides.cells.append(_slide(cell, kinds[0]))
        is_shown = bool(kinds)
    if not any(cell.metadata["slideshow"]["slide_type"] == "slide" for cell in slides.cells):
        raise ValueError('no cell is tagged "slide"')
    return slides


def num_slides(slides: nbformat.NotebookNode) -> int:
    """How many slides `slides_notebook` has made, those below others included."""
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in slides.cells]
    return sum(kind in ("slide", "subslide") for kind in kinds)


def _text_slides(
    cell: nbformat.NotebookNode, kind: str, *, joins: bool
) -> list[nbformat.NotebookNode]:
    pieces = [piece for piece in CUT.split(cell.source) if piece.strip()]
    for place in reversed(range(1, len(pieces))):
        if HEADING.fullmatch(pieces[place - 1]):  # alone it would be an empty slide
            pieces[place - 1 : place + 1] = [pieces[place - 1] + pieces[place]]
    if kind in ("-", "fragment"):
        kinds, pieces = [kind], pieces[:1]
    elif len(pieces) > 1 and not CUT.match(pieces[0]):
        kinds = ["-"] + [kind] * (len(pieces) - 1)
        kinds, pieces = (kinds, pieces) if joins else (kinds[1:], pieces[1:])
    else:
        kinds = [kind] * len(pieces)
    kinds = [_below(each, piece) for each, piece in zip(kinds, pieces, strict=True)]
    slides = [_slide(cell, each) for each in kinds]
    for place, (slide, piece) in enumerate(zip(slides, pieces, strict=True)):
        slide.id = f"{cell.id}-{place}"
        slide.source = CHAPTER.sub(r"](\1.html)", DOCUMENT.sub(r"\1", piece.strip()))
    return slides


def _below(kind: str, piece: str) -> str:
    """Exercises go below the slide that they belong to."""
    return "subslide" if kind == "slide" and piece.startswith("**Exercise") else kind


def _slide(cell: nbformat.NotebookNode, kind: str) -> nbformat.NotebookNode:
    slide = copy.deepcopy(cell)
    if cell.cell_type == "code":
        slide.outputs = [each for each in cell.outputs if not _is_note(each)]
    slide.metadata["slideshow"] = {"slide_type": kind}
    slide.metadata["transient"] = {"remove_source": bool(slide.get("outputs"))}
    return slide


def _is_note(output: nbformat.NotebookNode) -> bool:
    """Whether the course tells the student something here, such as that a piece is missing."""
    return str(output.get("data", {}).get("text/html", "")).startswith(NOTE)
