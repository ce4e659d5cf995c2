"""Draws the pictures of docs/gallery.md from the shipped checkpoints: `make gallery`.

Usage: python tools/make_gallery.py [FOLDER]
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image

from blendmask_lite import BlendMask, load_model, shipped_checkpoint
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import ShapesDataset, draw_shapes
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.figures import (
    attentions_figure,
    base_overlays_figure,
    bases_figure,
    basis_scores_figure,
    compare_attentions_figure,
    dots_figure,
    figure_1,
    figure_4,
    hard_cases_figure,
    knock_out_figure,
    matched_bases_figure,
)
from blendmask_lite.figures.evaluation import evaluation_figures
from blendmask_lite.files import photos_folder, write_atomically
from blendmask_lite.images import resize_for_test
from blendmask_lite.research import (
    find_hard_cases,
    knock_out_bases,
    look_at_objects,
    score_bases,
    score_oracles,
    untrained_model,
    untrained_scores,
)
from blendmask_lite.research.matching import bases_of, compare_checkpoints

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images" / "gallery"
SCENE = 20  # of seed 7: touching objects of several classes
NUM_SCORED = 60  # images that bases are scored on
NUM_EVALUATED = 12  # images of the knock-outs and oracles
NUM_MATCHED = 20  # images that bases are matched on
NUM_SEARCHED = 24  # images that hard objects are chosen from
PHOTOGRAPH = "opera"  # of data/photos
MOST_BYTES = 2_000_000  # of all pictures together


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(shipped_checkpoint("small"))
    total = 0
    contents = chain(
        ((f"{name}.png", small_png(figure)) for name, figure in gallery(model)),
        ((f"{name}.jpg", small_jpeg(figure)) for name, figure in photographs()),
    )
    for name, content in contents:
        write_atomically(folder / name, content)
        total += len(content)
        print(f"{name}: {len(content) / 1e3:.0f} kB", flush=True)
    if total > MOST_BYTES:
        raise SystemExit(f"{folder}: {total} bytes, at most {MOST_BYTES} allowed")


@torch.no_grad()
def gallery(model: BlendMask) -> Iterator[tuple[str, Figure]]:
    dataset = draw_shapes(NUM_SCORED, seed=7, size=model.inference.test_size)
    sample = dataset.load(SCENE)
    objects = look_at_objects(model, sample)
    K, M = model.config.num_bases, model.config.attention_size
    stride, bases = model.bottom.stride, objects.output.bases[0]
    yield "figure_1", figure_1(model, sample.image)
    yield "figure_4", figure_4(model, sample.image)
    yield "bases", bases_figure(bases, stride=stride, image=objects.image)
    yield "base_overlays", base_overlays_figure(objects.image, bases, stride=stride)
    is_other = objects.labels != objects.labels[0]
    pair = [0, int(is_other.int().argmax())]  # the first object and the first of another class
    raw = model.attentions_at(objects.output, objects.index[pair])
    names = [model.class_names[label] for label in objects.labels[pair].tolist()]
    shown = {"names": names, "image": objects.image, "boxes": objects.boxes[pair]}
    yield "attentions", attentions_figure(raw.unflatten(1, (K, M, M)), **shown)
    scores = model.merger.scores(raw, model.config.mask_size)
    yield "two_objects", compare_attentions_figure(scores, **shown)
    scored = score_bases(model, dataset, max_images=NUM_SCORED)
    print(scored.table())
    null = untrained_scores(model, dataset, max_images=NUM_SCORED)
    for seed, each in enumerate(null):
        print(
            f"untrained, seed {seed}: strongest |r| with x or y {each.strongest_position:.2f}, "
            f"mean {each.typical_position:.2f}; object AUC {each.object_auc.min():.2f} "
            f"to {each.object_auc.max():.2f}"
        )
    yield "basis_scores", basis_scores_figure(scored, untrained=null)
    kinds = {"base times 0": 0.0, "base replaced by its mean": None, "base times 2": 2.0}
    results = {
        name: knock_out_bases(model, dataset, factor=factor, max_images=NUM_EVALUATED)
        for name, factor in kinds.items()
    }
    changes = {name: each.ap_changes for name, each in results.items()}
    baseline = results["base times 0"].baseline.mask["AP"]
    yield "knock_outs", knock_out_figure(changes, baseline=baseline)
    oracles = score_oracles(model, dataset, max_images=NUM_EVALUATED)
    yield "oracles", dots_figure(oracles.summary())
    yield "two_checkpoints", two_checkpoints(model, dataset)
    yield (
        "hard_cases",
        hard_cases_figure(find_hard_cases(model, dataset, number=4, max_images=NUM_SEARCHED)),
    )


def photographs() -> Iterator[tuple[str, Figure]]:
    """What `photos` finds in the best half of the clone's photographs, and figure 4 of one."""
    model = load_model(shipped_checkpoint("photos"))
    dataset = CocoDataset(photos_folder(), is_one_class=True)
    results = evaluate_model(model, dataset)
    figures = evaluation_figures(results, dataset, num_images=len(dataset))
    yield "photographs", figures["best_images"]
    names = [dataset.image_path(image_id).stem for image_id in dataset.image_ids]
    image = dataset.load(names.index(PHOTOGRAPH)).image
    settings = model.inference
    image = resize_for_test(image, settings.test_size, settings.max_size)
    yield "photograph_figure_4", figure_4(model, image)


def two_checkpoints(model: BlendMask, dataset: ShapesDataset) -> Figure:
    """The bases of shapes, and below them those of the model that learned from photographs."""
    other = load_model(shipped_checkpoint("photos"))
    images = [dataset.load(index).image for index in range(NUM_MATCHED)]
    matching = compare_checkpoints(model, other, images)
    null = [compare_checkpoints(model, untrained_model(other, seed), images) for seed in range(5)]
    print(
        f"mean r of the partners: {matching.correlations.mean():.2f}; "
        f"of random networks at most {max(each.correlations.mean() for each in null):.2f}"
    )
    image = dataset.load(SCENE).image
    return matched_bases_figure(
        image,
        bases_of(model, image),
        bases_of(other, image),
        order=matching.order,
        correlations=matching.correlations,
        names=("shapes", "photographs"),
    )


def small_png(figure: Figure) -> bytes:
    return encoded(figure, format="png", optimize=True)


def small_jpeg(figure: Figure) -> bytes:
    return encoded(figure, format="jpeg", quality=85)


def encoded(figure: Figure, **how: Any) -> bytes:
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", facecolor="white", dpi=110)
    Image.open(drawn).convert("RGB").save(small, **how)
    return small.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
