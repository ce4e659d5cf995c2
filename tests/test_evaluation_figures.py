"""Which detections are right, worked out by hand, and the figures that show it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from pycocotools import mask as coco_mask

from blendmask_lite import PRESETS, BlendMask, save_model
from blendmask_lite.cli import main
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_format import encode_masks
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.evaluation.mistakes import best_and_worst, compare_images, count_outcomes
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.evaluation.results import image_results
from blendmask_lite.figures import (
    ap_bars_figure,
    class_precision_recall_figure,
    evaluation_figures,
    gallery_figure,
    mistakes_figure,
    paint_masks,
    panoptic_quality_figure,
    precision_recall_figure,
    write_evaluation_figures,
)
from blendmask_lite.figures.gallery import Captions
from blendmask_lite.figures.style import PALETTE, figure_pixels
from blendmask_lite.files import photos_folder

SIZE = (20, 40)
CAT, DOG = 17, 18
NAMES = {CAT: "cat", DOG: "dog"}


def mask(x0: int, x1: int, y0: int = 0, y1: int = 20) -> torch.Tensor:
    """(20, 40) with one filled box."""
    filled = torch.zeros(SIZE, dtype=torch.bool)
    filled[y0:y1, x0:x1] = True
    return filled


def truth_of(*objects, image_id=5, **image):
    """One image; each object is (category, mask) or (category, mask, "crowd")."""
    annotations = [
        {
            "id": place,
            "image_id": image_id,
            "category_id": category,
            "segmentation": encode_masks(each[None])[0],
            "iscrowd": int(bool(crowd)),
        }
        for place, (category, each, *crowd) in enumerate(objects, start=1)
    ]
    entry = {"id": image_id, "height": SIZE[0], "width": SIZE[1], **image}
    categories = [{"id": key, "name": name} for key, name in NAMES.items()]
    return {"images": [entry], "annotations": annotations, "categories": categories}


def found_of(*objects, image_id=5):
    """Each object is (category, mask, score)."""
    labels = torch.tensor([list(NAMES).index(each[0]) for each in objects], dtype=torch.int64)
    masks = torch.stack([each[1] for each in objects]) if objects else torch.zeros(0, *SIZE).bool()
    scores = torch.tensor([each[2] for each in objects], dtype=torch.float32)
    found = SimpleNamespace(
        labels=labels, masks=masks, scores=scores, boxes=torch.zeros(len(objects), 4)
    )
    return image_results(image_id, found, tuple(NAMES))


def compared(truth, found, **options):
    [comparison] = compare_images(truth, [found], **options)
    return comparison


def outcomes(truth, found, **options):
    comparison = compared(truth, found, **options)
    return [each.outcome for each in comparison.found], [each.outcome for each in comparison.true]


# Outcomes, by hand


def test_every_kind_of_mistake_has_its_name():
    truth = truth_of((CAT, mask(0, 10)), (CAT, mask(20, 30)), (DOG, mask(32, 40)))
    found = found_of(
        (CAT, mask(0, 9), 0.9),  # IoU 9 / 10 with the first cat
        (CAT, mask(1, 10), 0.8),  # the same cat again
        (CAT, mask(20, 25), 0.7),  # IoU exactly 1/2 with the second cat
        (CAT, mask(32, 40), 0.6),  # the dog
        (DOG, mask(11, 19), 0.5),  # nothing is there
        (CAT, mask(20, 30), 0.39),  # too unsure to count
    )
    kinds, true = outcomes(truth, found)
    assert kinds == ["right", "twice", "inaccurate", "wrong class", "no such object"]
    assert true == ["found", "missed", "missed"]
    comparison = compared(truth, found)
    assert comparison.found[0].iou == pytest.approx(0.9)
    counts = comparison.counts
    assert (counts.matched, counts.unmatched, counts.missed) == (1, 4, 2)
    # 0.9 x 1 / (1 + (4 + 2) / 2)
    assert comparison.score == pytest.approx(100 * 0.9 / 4)
    assert outcomes(truth, found, score_threshold=0.3)[1] == ["found", "found", "missed"]


def test_a_faint_overlap_is_inaccurate_above_a_tenth_only():
    truth = truth_of((CAT, mask(0, 20)))
    # 4 of 36 columns: 0.11; 3 of 37: 0.08.
    assert outcomes(truth, found_of((CAT, mask(16, 36), 0.9)))[0] == ["inaccurate"]
    assert outcomes(truth, found_of((CAT, mask(17, 37), 0.9)))[0] == ["no such object"]


def test_the_surer_detection_chooses_first_whatever_the_order():
    truth = truth_of((CAT, mask(0, 10)))
    found = found_of((CAT, mask(0, 10), 0.5), (CAT, mask(0, 8), 0.9))
    comparison = compared(truth, found)
    assert [(each.score, each.outcome) for each in comparison.found] == [
        (pytest.approx(0.9), "right"),
        (pytest.approx(0.5), "twice"),
    ]
    assert comparison.counts.iou_sum == pytest.approx(0.8)


def test_a_detection_takes_the_object_that_it_fits_best():
    truth = truth_of((CAT, mask(0, 10)), (CAT, mask(2, 12)))
    comparison = compared(truth, found_of((CAT, mask(2, 12), 0.9), (CAT, mask(0, 10), 0.8)))
    assert comparison.counts.iou_sum == pytest.approx(2)


def test_crowds_and_what_lies_on_them_do_not_count():
    truth = truth_of((CAT, mask(0, 30), "crowd"), (DOG, mask(32, 40)))
    found = found_of(
        (CAT, mask(2, 6), 0.9),
        (CAT, mask(27, 33), 0.8),  # half of it on the crowd: not more than half
        (DOG, mask(2, 6), 0.7),
    )
    kinds, true = outcomes(truth, found)
    assert kinds == ["ignored", "no such object", "no such object"]
    assert true == ["ignored", "missed"]
    assert count_outcomes([compared(truth, found)]) == {
        "found": {"right": 0, "inaccurate": 0, "wrong class": 0, "twice": 0, "no such object": 2},
        "true": {"found": 0, "missed": 1},
    }


def test_classes_that_lvis_did_not_check_in_an_image_are_no_mistakes():
    found = found_of((DOG, mask(0, 10), 0.9), (CAT, mask(20, 30), 0.8))
    cats = (CAT, mask(0, 10))
    unknown = truth_of(cats, neg_category_ids=[], not_exhaustive_category_ids=[])
    assert outcomes(unknown, found)[0] == ["ignored", "no such object"]
    absent = truth_of(cats, neg_category_ids=[DOG], not_exhaustive_category_ids=[CAT])
    assert outcomes(absent, found)[0] == ["wrong class", "ignored"]


def test_an_image_with_nothing_in_it_has_no_score_and_is_in_no_gallery():
    empty = compared(truth_of(), found_of())
    assert math.isnan(empty.score)
    assert best_and_worst([empty], 3) == ([], [])
    assert compared(truth_of(), found_of((CAT, mask(0, 3), 0.9))).score == 0
    assert compared(truth_of((CAT, mask(0, 3))), found_of()).score == 0


def test_best_and_worst_come_by_score_then_by_number_of_objects_and_share_no_image():
    def image(image_id, width, *more):
        truth = truth_of((CAT, mask(0, 10)), *more, image_id=image_id)
        return compared(truth, found_of((CAT, mask(0, width), 0.9), image_id=image_id))

    images = [image(1, 8), image(2, 10), image(3, 6), image(4, 2), image(5, 2, (DOG, mask(30, 40)))]
    best, worst = best_and_worst(images, 9)
    assert [each.image_id for each in best] == [2, 1, 3]
    assert [each.image_id for each in worst] == [5, 4]
    best, worst = best_and_worst(images, 1)
    assert ([each.image_id for each in best], [each.image_id for each in worst]) == ([2], [5])


# The figures


def curves(num_classes: int = 3) -> np.ndarray:
    """Precisions that fall with the threshold: 1 - place / 10 at every recall."""
    rows = np.linspace(1, 0.1, 10)[:, None, None]
    return np.broadcast_to(rows, (10, 101, num_classes)).copy()


def test_curves_are_means_over_the_classes_that_have_objects():
    precision = curves()
    precision[:, :, 1] = np.nan
    precision[:, 51:, 2] = 0
    figure = precision_recall_figure({"mask": precision, "box": curves()})
    axes = [ax for ax in figure.axes if ax.get_xlabel() == "recall"]
    assert len(axes) == 2
    first = axes[0].lines[0]
    assert first.get_xdata().tolist() == pytest.approx(np.linspace(0, 1, 101).tolist())
    assert first.get_ydata()[50] == 1
    assert first.get_ydata()[51] == 0.5
    assert len(axes[0].lines) == 10
    # The mean of 1, 0.9 to 0.1 is 0.55; one of two classes lacks the recalls above 0.5.
    wanted = 55 * (1 + 51 / 101) / 2
    assert axes[0].get_title().startswith(f"mask: AP {wanted:.1f}")
    assert "at IoU 0.5 100.0, at 0.75 50.0" in axes[1].get_title()
    assert f"mask AP {wanted:.1f}, box AP 55.0" in figure.get_label()


def test_curves_of_data_without_objects_are_empty_and_no_crash():
    nothing = np.full((10, 101, 2), np.nan)
    assert "AP -" in precision_recall_figure({"mask": nothing}).axes[0].get_title()
    figure = class_precision_recall_figure(nothing, ["cat", "dog"])
    assert "no class" in figure.get_label()


def test_class_panels_come_by_falling_ap_and_of_many_the_middle_is_left_out():
    precision = curves(7) * np.array([0.5, 0.9, np.nan, 0.1, 0.7, 0.3, 0.2])
    names = list("abcdefg")
    figure = class_precision_recall_figure(precision, names, max_classes=8)
    titles = [ax.get_title().split(":")[0] for ax in figure.axes if ax.get_title()]
    assert titles == ["b", "e", "a", "f", "g", "d"]
    assert "left out" not in figure.get_suptitle()
    few = class_precision_recall_figure(precision, names, max_classes=3)
    titles = [ax.get_title() for ax in few.axes if ax.get_title()]
    assert titles == ["b: AP 49.5", "e: AP 38.5", "d: AP 5.5"]
    assert "best 2 and worst 1 classes; 3 between them are left out" in few.get_suptitle()


def test_precisions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected \(10, 101, C\)"):
        precision_recall_figure({"mask": np.zeros((10, 3))})
    with pytest.raises(ValueError, match="2 class names for precisions of 3"):
        class_precision_recall_figure(curves(), ["a", "b"])


def test_bars_are_as_high_as_the_numbers_and_missing_ones_say_so():
    numbers = {"AP": 40.0, "AP50": 60.0, "APS": math.nan, "AR100": 99.0}
    figure = ap_bars_figure({"mask": numbers, "box": numbers | {"AP": 45.0}})
    [ax] = figure.axes
    assert [bar.get_height() for bar in ax.patches] == [40, 60, 45, 60]
    assert [each.get_text() for each in ax.get_xticklabels()] == ["all", "IoU 0.5", "small\n< 32²"]
    assert sum(text.get_text() == "no\nobject" for text in ax.texts) == 2
    assert "mask AP 40.0" in figure.get_label()
    everything = ap_bars_figure({"mask": {"AP": math.nan}})
    assert not everything.axes[0].patches


def test_shares_of_mistakes_add_up_and_are_named_with_their_numbers():
    counts = {
        "found": {"right": 6, "inaccurate": 2, "wrong class": 1, "twice": 1, "no such object": 0},
        "true": {"found": 6, "missed": 18},
    }
    figure = mistakes_figure(counts, score_threshold=0.4)
    [ax] = figure.axes
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([60, 20, 10, 10, 0, 25, 75])
    words = [text.get_text() for text in ax.texts]
    assert {"right 6", "no such object 0", "missed 18", "75 %"} <= set(words)
    empty = {kind: dict.fromkeys(part, 0) for kind, part in counts.items()}
    assert all(
        bar.get_width() == 0 for bar in mistakes_figure(empty, score_threshold=0.4).axes[0].patches
    )


def test_panoptic_bars_come_by_falling_quality_with_both_factors():
    quality = PanopticQuality(
        {"cat": SegmentCounts(0.9, 1, 0, 0), "dog": SegmentCounts()},
        {"sky": SegmentCounts(1.6, 2, 2, 2), "mud": SegmentCounts(0.0, 0, 1, 0)},
        num_images=1,
    )
    figure = panoptic_quality_figure(quality)
    [ax] = figure.axes
    assert [each.get_text() for each in ax.get_yticklabels()] == ["cat", "sky", "mud"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([90, 40, 0])
    assert [line.get_xdata().tolist() for line in ax.lines] == [
        pytest.approx([90, 80, 0]),
        pytest.approx([100, 50, 0]),
    ]
    assert ax.get_title() == f"PQ: all {130 / 3:.1f}, things 90.0, stuff 20.0"
    few = panoptic_quality_figure(quality, max_classes=2)
    assert [each.get_text() for each in few.axes[0].get_yticklabels()] == ["cat", "mud"]
    assert "left out: 1 class between the best and the worst" in few.axes[0].get_title()
    nothing = PanopticQuality({}, {}, num_images=1)
    assert "no class" in panoptic_quality_figure(nothing).get_label()


def test_gallery_shows_both_sides_of_each_image_in_the_colours_of_the_outcomes():
    truth = truth_of((CAT, mask(0, 10)), (DOG, mask(30, 40)))
    comparison = compared(truth, found_of((CAT, mask(0, 10), 0.9), (DOG, mask(12, 20), 0.8)))
    black = torch.zeros(3, *SIZE, dtype=torch.uint8)
    figure = gallery_figure([comparison], lambda image_id: black, NAMES, score_threshold=0.4)
    left, right = (np.asarray(ax.images[0].get_array()) / 255 for ax in figure.axes)
    blue, red, yellow = (np.array(to_rgb(PALETTE[place])) for place in (1, 0, 2))
    assert left[10, 0] == pytest.approx(blue * 0.45, abs=0.01)
    assert left[10, 16] == pytest.approx(red * 0.45, abs=0.01)
    assert left[10, 35].tolist() == [0, 0, 0]
    assert right[10, 35] == pytest.approx(yellow * 0.45, abs=0.01)
    words = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert sorted(words[0]) == ["cat 90 %, IoU 1.00", "dog 80 %: no such object"]
    assert sorted(words[1]) == ["cat", "dog: missed"]
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == ["image 5: score 50", "1 right, 1 mistake, 1 missed"]
    assert "at least 0.4" in figure.get_suptitle()


def test_gallery_names_images_by_their_files_and_shortens_long_names():
    comparisons = [
        compared(truth_of(image_id=number), found_of(image_id=number)) for number in (1, 2, 3)
    ]
    names = {1: r"cost $\x$", 2: "0123456789abcdefghijklmnopqrstuvwxyz"}
    figure = gallery_figure(
        comparisons,
        lambda image_id: torch.zeros(3, *SIZE),
        NAMES,
        score_threshold=0.4,
        image_names=names,
    )
    titles = [ax.get_title().split(":")[0] for ax in figure.axes[::2]]
    assert titles[:3] == [r"cost $\x$", "0123456789abcd…mnopqrstuvwxyz", "image 3"]
    assert f"{names[2]}: 0 right" in figure.get_label()
    figure_pixels(figure)  # dollar signs begin no formula


def test_gallery_of_large_and_of_upright_pictures_and_of_none():
    comparisons = [
        replace(compared(truth_of(image_id=3), found_of(image_id=3)), size=(900, 300)),
        compared(truth_of((CAT, mask(0, 9))), found_of((CAT, mask(0, 9), 0.9))),
        compared(truth_of((CAT, mask(0, 9)), image_id=6), found_of(image_id=6)),
    ]
    sizes = {3: (900, 300), 5: SIZE, 6: SIZE}
    figure = gallery_figure(
        comparisons, lambda image_id: torch.rand(3, *sizes[image_id]), NAMES, score_threshold=0.4
    )
    pictures = [ax.images[0].get_array().shape for ax in figure.axes if ax.images]
    assert pictures == [(480, 160, 3)] * 2 + [(20, 40, 3)] * 4
    figure_pixels(figure)
    assert gallery_figure([], lambda image_id: None, NAMES, score_threshold=0.4).axes


def test_names_in_a_picture_do_not_cover_each_other():
    captions = Captions((100, 200))
    spots = [captions.find("critter 70 %", (50, 20, 120, 90)) for _ in range(20)]
    placed = [spot for spot in spots if spot is not None]
    assert 3 <= len(placed) < 20
    assert spots[: len(placed)] == placed  # once it is full it stays full
    for first, (_, y) in enumerate(placed):
        assert 0 <= y <= 100
        assert all(abs(y - other) >= captions.line - 1e-9 for _, other in placed[:first])
    assert captions.find("a", (150, 20, 160, 40)) is not None  # beside them


def test_masks_are_painted_in_the_colours_that_are_given():
    painted = paint_masks(torch.zeros(3, *SIZE), mask(0, 10)[None], ["#ffffff"])
    assert painted[:, 10, 5].tolist() == pytest.approx([0.45] * 3)


# Whole evaluations


def detections(target, generator):
    """The truth with masks moved, some lost and one doubled."""
    num = len(target)
    kept = [i for i in range(num) if generator.random() > 0.2]
    order = torch.tensor([*kept, *kept[:1]], dtype=torch.int64)
    moved = [target.masks[i].roll(int(generator.integers(-3, 4)), dims=1) for i in order.tolist()]
    return SimpleNamespace(
        boxes=target.boxes[order],
        labels=target.labels[order],
        scores=torch.from_numpy(generator.uniform(0.3, 1, len(order)).astype(np.float32)),
        masks=torch.stack(moved) if moved else target.masks[:0],
    )


def evaluated(dataset):
    generator = np.random.default_rng(0)
    evaluator = InstanceEvaluator(dataset)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        evaluator.add(sample.image_id, detections(sample.target, generator))
    return evaluator.finish()


def test_matches_are_those_of_a_plain_loop():
    dataset = ShapesDataset(6, seed=5)
    results = evaluated(dataset)
    truth = dataset.ground_truth()
    total = 0
    for comparison, found in zip(compare_images(truth, results.found), results.found, strict=True):
        true = [a for a in truth["annotations"] if a["image_id"] == found.image_id]
        taken, ious = set(), []
        for place in np.argsort(-found.scores):
            if found.scores[place] < 0.4:
                continue
            candidates = [
                (
                    coco_mask.iou(
                        found.segmentations()[place : place + 1], [a["segmentation"]], [0]
                    )[0, 0],
                    n,
                )
                for n, a in enumerate(true)
                if a["category_id"] == found.category_ids[place] and n not in taken
            ]
            iou, number = max(candidates, default=(0, -1))
            if iou > 0.5:
                taken.add(number)
                ious.append(iou)
        assert comparison.counts.matched == len(ious)
        assert comparison.counts.iou_sum == pytest.approx(sum(ious))
        assert comparison.counts.missed == len(true) - len(taken)
        total += len(ious)
    assert total > 5


@pytest.mark.slow
def test_all_figures_of_an_evaluation_are_written(tmp_path):
    dataset = ShapesDataset(5, seed=5)
    results = evaluated(dataset.select([1, 2, 4]))
    figures = evaluation_figures(results, dataset, num_images=1)
    written = write_evaluation_figures(figures, tmp_path / "figures")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == sorted(path.name for path in written)
    drawn = ("average_precision", "mistakes", "precision_recall", "precision_recall_classes")
    assert names == sorted(
        [f"{each}.{kind}" for each in drawn for kind in ("pdf", "png")]
        + ["best_images.png", "worst_images.png"]
    )
    for path in written:
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix])
    assert all(figure.get_label() for figure in figures.values())
    assert "of 3 images" in figures["best_images"].get_suptitle()


def test_galleries_name_photographs_by_their_files():
    dataset = CocoDataset(photos_folder())
    dataset = dataset.select(dataset.image_ids[:2])
    evaluator = InstanceEvaluator(dataset)
    for sample in dataset:
        generator = np.random.default_rng(0)
        evaluator.add(sample.image_id, detections(sample.target, generator))
    figures = evaluation_figures(evaluator.finish(), dataset)
    galleries = [figures[f"{kind}_images"] for kind in ("best", "worst")]
    titles = {each.axes[0].get_title().split(":")[0] for each in galleries}
    assert titles == {"coffee", "cat"}


def test_command_draws_an_evaluation(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    config = replace(PRESETS["nano"], stem_channels=8, stage_width=8, pyramid_channels=16)
    save_model(
        BlendMask(config, class_names=ShapesDataset(1).class_names), tmp_path / "model.safetensors"
    )
    drawn = []

    def one_figure(results, dataset):
        drawn.append((results.num_images, len(dataset) >= 2))
        return {"average_precision": ap_bars_figure({"mask": results.mask})}

    monkeypatch.setattr("blendmask_lite.cli.evaluate.evaluation_figures", one_figure)
    command = [
        "evaluate",
        str(tmp_path / "model.safetensors"),
        "shapes",
        "--images",
        "1",
        "--size",
        "64",
    ]
    assert main([*command, "--plot", str(tmp_path / "plots")]) == 0
    assert drawn == [(1, True)]
    assert (tmp_path / "plots" / "average_precision.png").is_file()
    assert capsys.readouterr().out.splitlines()[3] == "1 image"
    assert main(command) == 0
    assert len(drawn) == 1


def test_truth_of_photographs_has_no_mistakes():
    root = os.environ.get("BLENDMASK_COCO")
    if not root:
        pytest.skip("BLENDMASK_COCO is not set: no photographs at hand")
    dataset = CocoDataset(root, "val2017")
    dataset = dataset.select(dataset.image_ids[:12])
    evaluator = InstanceEvaluator(dataset)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        target = sample.target
        found = SimpleNamespace(
            boxes=target.boxes,
            labels=target.labels,
            scores=torch.ones(len(target)),
            masks=target.masks,
        )
        evaluator.add(sample.image_id, found)
    results = evaluator.finish()
    counts = count_outcomes(compare_images(dataset.ground_truth(), results.found))
    assert counts["found"]["right"] == counts["true"]["found"] > 50
    assert sum(counts["found"].values()) == counts["found"]["right"]
    assert counts["true"]["missed"] == 0
