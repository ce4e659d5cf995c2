"""The possible problems of a COCO folder, their severity, and what to do about them.

`data check` reports these kinds. An error makes training or evaluation fail or give wrong results
silently; a warning is probably a mistake; a note is good to know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from blendmask_lite.terminal import printable

__all__ = ["KINDS", "SEVERITIES", "Finding", "Findings", "Kind"]

SEVERITIES = ("error", "warning", "note")
NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Kind:
    """A kind of problem."""

    severity: str  # one of `SEVERITIES`
    meaning: str  # the consequences for training or evaluation, and what to do


_error, _warning, _note = (partial(Kind, severity) for severity in SEVERITIES)

KINDS: dict[str, Kind] = {
    # The annotation file
    "unreadable file": _error("Nothing in the file could be checked. Write it again."),
    "no images": _error("There is nothing to train on. Fill the list of images."),
    "no objects": _error(
        "There is nothing to learn and nothing to measure; crowds are no objects. Annotate some."
    ),
    "no categories": _error("There is no class to learn. Fill the list of categories."),
    "malformed entry": _error(
        "Training stops at an entry whose field is missing or of a wrong type. Ids and sizes are "
        "whole numbers, not text."
    ),
    "duplicate id": _error(
        "Entries are told apart by their ids, so one would replace the other. Number them again."
    ),
    "unknown image_id": _error("The annotation belongs to no image of the file. Remove it."),
    "unknown category_id": _error("The object has no class. Add the category, or remove it."),
    "image too large": _error(
        "Its pixels, or those of all its masks, would fill the memory; such sizes are refused as "
        "decompression bombs. Cut the image into parts, or make it smaller."
    ),
    # Pictures
    "missing image": _error(
        "Training stops there; other splits' folders are never searched. Add the file, or remove "
        "its entry."
    ),
    "damaged image": _error("Training stops there. Get the file again."),
    "size mismatch": _error(
        "Masks would lie in the wrong place. Correct height and width, or use the stored images "
        "that were annotated: an EXIF rotation is not applied."
    ),
    "rotated image": _warning(
        "The file asks viewers to turn it, but training sees the stored pixels. Annotations drawn "
        "on the turned image are wrong: store the images turned."
    ),
    "deep image": _warning(
        "Grey of 16 bits is read by its high byte: 65535 becomes 255. If the values have a smaller "
        "range, the image is dark: convert it to 8 bits."
    ),
    "file listed twice": _warning("Two images use one file. Join their annotations."),
    "same image twice": _warning("Two files of the split have equal content. Keep one."),
    "unlisted image": _note("A file of the split's folder has no entry and is not used."),
    "image without objects": _note(
        "Training leaves such images out; evaluation counts detections there as wrong."
    ),
    "crowded image": _note("Evaluation counts only the 100 best detections of an image."),
    # Masks and boxes
    "damaged mask": _error("Training stops there. Annotate the object again, or remove it."),
    "mask of another size": _error(
        "The run lengths are for an image of another size. Make them again from the mask."
    ),
    "empty mask": _warning(
        "Training leaves the object out, but evaluation counts it as missed. Remove it."
    ),
    "self-crossing polygon": _warning(
        "Where an outline crosses itself, the mask may get a hole. Draw it again, or use one "
        "polygon for each part."
    ),
    "polygon outside": _warning(
        "Corners outside the image are cut off. Check that the annotation belongs to it."
    ),
    "long polygon": _note(
        "Its outline has more than 1,000 corners: slow to read, and not searched for crossings."
    ),
    "box outside": _warning(
        "The box leaves the image, but predictions cannot; it counts for box AP. Cut it at the "
        "border."
    ),
    "degenerate box": _warning(
        "The box has no area, so nothing found can match it in box AP. Boxes are x, y, width and "
        "height."
    ),
    "box beside its mask": _warning(
        "Training takes the box of the mask, box AP this one. Often it is in another format (x0, "
        "y0, x1, y1), or of another object: correct it."
    ),
    "area beside its mask": _warning(
        "AP of small, medium and large objects goes by this field. Leave it out: then the mask's "
        "pixels count."
    ),
    "same object twice": _warning(
        "Evaluation expects two detections of one object, so one counts as missed. Remove one."
    ),
    "rectangular masks": _warning(
        "Most masks are filled boxes, so masks of boxes will be learned. Annotate outlines."
    ),
    "crowd with polygons": _note(
        "Polygons work, but COCO marks crowds by run lengths: check that iscrowd = 1 is meant. "
        "Crowds are not learned, and detections there are not counted."
    ),
    "mostly crowds": _warning(
        "More than half of the annotations are crowds, which are not learned. Check iscrowd."
    ),
    # Categories
    "unused category": _warning(
        "No object of the split shows this class: it is not learned from this split, and has no AP "
        "on it. Add objects, or divide the images otherwise; if no split has any, remove the class."
    ),
    "category of one object": _warning(
        "A class is hardly learned from one object, and AP on one is all or nothing. Label more, "
        "or correct its name if it is a slip."
    ),
    "category name twice": _warning("Two classes of one name cannot be told apart in results."),
    "category names alike": _warning(
        "They differ in capitals or spaces only and are learned as two classes. Use one spelling."
    ),
    "gaps between category ids": _note(
        "Nothing to do: labels are the places of the ids in ascending order, results use the ids."
    ),
    # Several files
    "other classes than another split": _warning(
        "A model trained on one split is refused by an evaluation on the other. Use one list."
    ),
    "image in two splits": _warning(
        "Evaluation on an image that was trained on says nothing. Keep it in one split."
    ),
    "LVIS fields": _note(
        "The file has LVIS' fields: not every object is annotated in every image, so COCO's AP "
        "counts right detections as wrong. Use the LVIS evaluation."
    ),
    # Panoptic files
    "panoptic without instances": _warning(
        "Objects come from instances_SPLIT.json, which this split lacks. Add it."
    ),
    "no stuff": _error(
        "A panoptic data set needs 1 to 254 categories with isthing = 0. Correct the categories."
    ),
    "unknown segment": _error(
        "The image holds a segment that the JSON does not describe. Write both again."
    ),
    "unseen segment": _warning(
        "The JSON describes a segment without any pixel in the image. Write both again."
    ),
    "segment of another area": _warning(
        "The area in the JSON is not the number of its pixels. Write both again."
    ),
    "image without segments": _note("The panoptic file lacks the image, which is left out there."),
    "segments without image": _note("The instances file lacks the image, which is left out."),
}


@dataclass
class Finding:
    """All problems of one kind."""

    kind: str  # a key of `KINDS`
    count: int = 0
    examples: list[str] = field(default_factory=list)  # the first problems of this kind

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`."""
        return KINDS[self.kind].severity


class Findings:
    """Collects problems by kind; `add` is a `Report`."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, kind: str, entry: str, text: str) -> None:
        """Count a problem, and keep it if it is among the first of its kind."""
        finding = self._found.setdefault(kind, Finding(kind))
        finding.count += 1
        if len(finding.examples) < NUM_EXAMPLES:
            finding.examples.append(printable(f"{entry}: {text}"))

    def sorted(self) -> list[Finding]:
        """The findings, errors first; within a severity in the order of `KINDS`."""
        order = list(KINDS)
        return sorted(
            self._found.values(),
            key=lambda each: (SEVERITIES.index(each.severity), order.index(each.kind)),
        )
