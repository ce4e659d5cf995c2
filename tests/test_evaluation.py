"""Box and mask AP; cases worked out by hand, and a direct run of pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu, to_gpu
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_lite import (
    PRESETS,
    BlendMask,
    Detections,
    InferenceConfig,
    load_model,
    shipped_checkpoint,
)
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset, write_shapes
from blendmask_lite.evaluation import instances
from blendmask_lite.evaluation.instances import InstanceEvaluator, detect_all, evaluate_model
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.evaluation.pictures import in_batches, require_same_names
from blendmask_lite.evaluation.results import ClassResult, InstanceResults, image_results
from blendmask_lite.structures import Target, UnpastedDetections


@pytest.fixture(scope="module")
def dataset():
    return ShapesDataset(4, seed=2)


def detections_of(target, *, scores=None, masks=None):
    """The true objects as if they had been found."""
    num = len(target)
    return Detections(
        boxes=target.boxes,
        scores=torch.linspace(0.9, 0.5, num) if scores is None else scores,
        labels=target.labels,
        masks=target.masks if masks is None else masks,
        mask_logits=torch.zeros(num, 28, 28),
        location_index=torch.arange(num),
        proposal_boxes=target.boxes,
        image_size=tuple(target.masks.shape[1:]),
    )


def test_results_are_the_same_before_and_after_pasting():
    corners = torch.tensor([[0.0, 0, 60, 40], [3.3, 4.4, 30.5, 39.9], [58.0, 1.0, 60.0, 40.0]])
    found = UnpastedDetections(
        boxes=corners,
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 0]),
        mask_logits=torch.randn(3, 14, 14, generator=torch.Generator().manual_seed(0)),
        location_index=torch.arange(3),
        proposal_boxes=corners,
        image_size=(40, 60),
        mask_threshold=0.5,
    )
    entries = image_results(7, found, (3, 9)).entries()
    assert entries == image_results(7, found.pasted(), (3, 9)).entries()
    assert [each["category_id"] for each in entries] == [3, 9, 3]
    assert image_results(7, found[:0]).entries() == []


def test_control_characters_of_class_names_are_printed_as_codes(dataset):
    evaluator = InstanceEvaluator(dataset)
    sample = dataset.load(0)
    evaluator.add(sample.image_id, detections_of(sample.target))
    results = evaluator.finish()
    results = replace(
        results, classes=[replace(results.classes[0], name="\x1b[2J"), *results.classes[1:]]
    )
    assert "\x1b" not in results.class_table() and "\\x1b[2J" in results.class_table()
    totals = PanopticQuality({"\x1b[2J": SegmentCounts(0.9, 1, 0, 0)}, {}, num_images=1)
    assert "\x1b" not in totals.class_table() and "\\x1b[2J" in totals.class_table()
    with pytest.raises(ValueError, match=r"1 classes \(\\x1b\[2J\)"):
        require_same_names("classes", ["\x1b[2J"], ["cat"])


def test_the_table_of_no_class_is_its_head():
    results = InstanceResults(mask={"AP": math.nan}, box={"AP": math.nan}, num_images=1)
    assert results.class_table().split()[:3] == ["class", "mask", "AP"]
    assert len(results.class_table().splitlines()) == 1
    assert results.table().splitlines()[1].split() == ["mask", "-"]


def test_a_class_name_cannot_write_to_the_terminal(dataset):
    numbers = dict.fromkeys(("AP", "AP50", "AP75"), 50.0)
    classes = [ClassResult(name, numbers, numbers, 1, 2) for name in ("\x1b[2Jcat\n", "dog")]
    lines = InstanceResults(numbers, numbers, 1, classes).class_table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == [r"\x1b[2Jcat\n", "dog"]
    assert lines[0].endswith("objects detections")
    assert len({len(line) for line in lines}) == 1
    with pytest.raises(ValueError, match=r"2 classes \(\\x1b\[2Jcat, dog\)") as caught:
        require_same_names("classes", ["\x1b[2Jcat", "dog"], ["dog"])
    assert str(caught.value).isprintable()


def test_the_truth_itself_scores_100(dataset):
    evaluator = InstanceEvaluator(dataset)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        evaluator.add(sample.image_id, detections_of(sample.target))
    results = evaluator.finish()
    for numbers in (results.mask, results.box):
        assert numbers["AP"] == numbers["AP50"] == numbers["AR100"] == 100
    assert results.num_images == 4


def test_right_boxes_with_empty_masks_score_on_boxes_only(dataset):
    evaluator = InstanceEvaluator(dataset)
    sample = dataset.load(0)
    evaluator.add(
        sample.image_id, detections_of(sample.target, masks=torch.zeros_like(sample.target.masks))
    )
    results = evaluator.finish()
    assert results.box["AP"] == 100
    assert results.mask["AP"] == 0


def test_half_of_the_objects_of_one_class_found_is_half_the_ap():
    # One class, two objects, one found: precision 1 up to recall 1/2. COCO reads precision at 101
    # recalls, 51 of them up to 0.5.
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 2:12, 2:12] = True
    masks[1, 20:30, 20:30] = True

    class Two(ShapesDataset):
        def load(self, index):
            sample = super().load(index)
            target = type(sample.target)(
                torch.tensor([[2.0, 2, 12, 12], [20, 20, 30, 30]]), torch.tensor([3, 3]), masks
            )
            return type(sample)(sample.image[:, :40, :40], target, sample.image_id, (40, 40))

    dataset = Two(1)
    evaluator = InstanceEvaluator(dataset)
    sample = dataset.load(0)
    evaluator.add(sample.image_id, detections_of(sample.target)[[0]])
    results = evaluator.finish()
    assert results.mask["AP"] == pytest.approx(100 * 51 / 101, abs=1e-3)
    assert math.isnan(results.mask["APL"])
    assert json.loads(results.to_json())["mask"]["APL"] is None
    assert "50.5" in results.table()


def test_the_numbers_are_those_of_pycocotools_fed_by_hand(dataset, tmp_path):
    # Boxes moved, masks eroded, a wrong class, a doubled object and one left out; the direct run
    # reads annotation and results files as any user of pycocotools would.
    evaluator = InstanceEvaluator(dataset)
    entries = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        found = detections_of(sample.target)
        masks = found.masks.clone()
        masks[0, : masks.shape[1] // 2] = False
        masks[-1] &= masks[-1].roll(3, dims=1)
        labels = found.labels.clone()
        labels[0] = (labels[0] + index // 3) % len(dataset.class_names)
        found = replace(found, masks=masks, labels=labels, boxes=found.boxes + 2.0 * index)
        found = found[[0, *range(len(found) - index % 2)]]
        evaluator.add(sample.image_id, found)
        for mask, box, label, score in zip(
            found.masks.numpy(), found.boxes.tolist(), found.labels, found.scores, strict=True
        ):
            run = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            entries.append(
                {
                    "image_id": sample.image_id,
                    "category_id": int(label) + 1,
                    "segmentation": {"size": run["size"], "counts": run["counts"].decode()},
                    "score": float(score),
                    "box": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                }
            )
    results = evaluator.finish()

    truth = write_shapes(tmp_path, num_images=len(dataset), seed=2)
    for kind, numbers in (("segm", results.mask), ("bbox", results.box)):
        file = tmp_path / f"{kind}.json"
        key = "segmentation" if kind == "segm" else "bbox"
        kept = [
            {name: entry[name] for name in ("image_id", "category_id", "score")}
            | {key: entry["segmentation" if kind == "segm" else "box"]}
            for entry in entries
        ]
        file.write_text(json.dumps(kept))
        with contextlib.redirect_stdout(io.StringIO()):
            true = COCO(str(truth))
            direct = COCOeval(true, true.loadRes(str(file)), kind)
            direct.evaluate()
            direct.accumulate()
            direct.summarize()
        wanted = dict(
            zip(
                ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR100"),
                100 * direct.stats[[0, 1, 2, 3, 4, 5, 8]],
                strict=True,
            )
        )
        assert 5 < wanted["AP"] < 95
        for name, value in wanted.items():
            if value < 0:
                assert math.isnan(numbers[name])
            else:
                assert numbers[name] == pytest.approx(value, abs=1e-3), (kind, name)


def test_the_size_of_a_mask_is_its_own_and_not_that_of_its_box():
    # A false alarm comes first: a frame of 40 x 40 pixels, one pixel wide. Its mask of 156 pixels
    # is small and does not count among medium objects; its box of 1600 does.
    frame = torch.zeros(2, 128, 128, dtype=torch.bool)
    frame[0, 4:44, 4:44] = True
    frame[0, 5:43, 5:43] = False
    frame[1, 60:100, 60:100] = True  # the only true object

    class Frames(ShapesDataset):
        def load(self, index):
            sample = super().load(index)
            boxes, labels = torch.tensor([[60.0, 60, 100, 100]]), torch.tensor([0])
            return replace(sample, target=Target(boxes, labels, frame[1:]))

    dataset = Frames(1)
    both = Target(torch.tensor([[4.0, 4, 44, 44], [60, 60, 100, 100]]), torch.tensor([0, 0]), frame)
    evaluator = InstanceEvaluator(dataset)
    evaluator.add(0, detections_of(both))
    results = evaluator.finish()
    assert results.mask["AP"] == pytest.approx(50, abs=1e-3)  # precision 1 / 2 at every recall
    assert results.mask["APM"] == 100
    assert results.box["APM"] == pytest.approx(50, abs=1e-3)


def test_nothing_found_is_zero_and_no_crash(dataset):
    evaluator = InstanceEvaluator(dataset)
    sample = dataset.load(0)
    evaluator.add(sample.image_id, detections_of(sample.target)[:0])
    assert evaluator.finish().mask["AP"] == 0


def test_results_are_cocos_own_format(dataset):
    sample = dataset.load(0)
    entries = image_results(7, detections_of(sample.target), dataset.category_ids).entries()
    first = entries[0]
    assert first["image_id"] == 7
    assert first["category_id"] == dataset.category_ids[int(sample.target.labels[0])]
    x0, y0, x1, y1 = sample.target.boxes[0].tolist()
    assert first["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert first["segmentation"]["size"] == [128, 128]
    json.dumps(entries)


def test_an_image_counts_once_and_has_to_belong(dataset):
    evaluator = InstanceEvaluator(dataset)
    sample = dataset.load(0)
    evaluator.add(sample.image_id, detections_of(sample.target))
    with pytest.raises(ValueError, match="added twice"):
        evaluator.add(sample.image_id, detections_of(sample.target))
    with pytest.raises(ValueError, match="image 999: not in the data set"):
        evaluator.add(999, detections_of(sample.target))


def test_a_model_is_evaluated_in_evaluation_mode_and_returned_as_it_was(dataset):
    torch.manual_seed(0)
    model = BlendMask(PRESETS["nano"], class_names=dataset.class_names).train()
    before = model.state_dict()["bottom.tower.0.1.running_mean"].clone()
    seen = []
    results = evaluate_model(
        model, dataset, progress=lambda i, n: seen.append((i, n)), max_images=2
    )
    assert seen == [(1, 2), (2, 2)]
    assert results.num_images == 2
    assert model.training
    assert model.state_dict()["bottom.tower.0.1.running_mean"].equal(before)


def all_gather(num, barrier_timeout=60):
    """What torch.distributed's all_gather_object does, for threads; with a function a rank."""
    sent = [None] * num
    barrier = threading.Barrier(num, timeout=barrier_timeout)

    def gather_of(rank):
        def gather(values):
            sent[rank] = pickle.dumps(values)
            barrier.wait()
            received = [pickle.loads(each) for each in sent]
            barrier.wait()
            return received

        return gather

    return [gather_of(rank) for rank in range(num)]


@pytest.mark.parametrize("num", [2, 4])  # with four, one process has no image at all
def test_processes_that_share_the_images_all_return_the_numbers_of_one(dataset, num):
    models = [
        small_model(dataset, test_size=128, max_size=128, max_detections=20) for _ in range(num)
    ]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    alone = evaluate_model(models[0], dataset, max_images=3)
    gathers = all_gather(num)

    def part(rank):
        return evaluate_model(
            models[rank], dataset, max_images=3, share=(rank, num), gather=gathers[rank]
        )

    with ThreadPoolExecutor(num) as pool:
        together = list(pool.map(part, range(num)))
    assert sum(map(len, alone.found)) > 40
    for results in together:
        assert results.to_json() == alone.to_json()
        assert [each.entries() for each in results.found] == [
            each.entries() for each in alone.found
        ]


def test_of_several_processes_the_first_one_alone_scores(dataset, monkeypatch):
    scored = []
    whole = instances.evaluate_detections
    monkeypatch.setattr(
        instances, "evaluate_detections", lambda *each: scored.append(0) or whole(*each)
    )
    gathers = all_gather(2)
    models = [small_model(dataset) for _ in range(2)]

    def part(rank):
        return evaluate_model(models[rank], dataset, share=(rank, 2), gather=gathers[rank])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(part, range(2))
    assert len(scored) == 1
    assert first.table() == second.table()


def test_an_error_of_the_process_that_scores_ends_all_of_them(dataset, monkeypatch):
    def fail(*each):
        raise ValueError("annotation 7: damaged")

    monkeypatch.setattr(instances, "evaluate_detections", fail)
    gathers = all_gather(2)
    models = [small_model(dataset) for _ in range(2)]

    def part(rank):
        with pytest.raises(ValueError, match="annotation 7: damaged"):
            evaluate_model(models[rank], dataset, share=(rank, 2), gather=gathers[rank])
        return True

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(part, range(2))) == [True, True]


def test_a_share_that_cannot_be_is_refused(dataset):
    model = BlendMask(PRESETS["nano"], class_names=dataset.class_names)
    with pytest.raises(ValueError, match=r"share = \(2, 2\)"):
        evaluate_model(model, dataset, share=(2, 2), gather=lambda values: [values])
    with pytest.raises(ValueError, match=r"share = \(0, 2\): needs gather"):
        evaluate_model(model, dataset, share=(0, 2))


def test_results_of_two_evaluators_merge_but_no_image_counts_twice(dataset):
    parts = [InstanceEvaluator(dataset), InstanceEvaluator(dataset)]
    for index in (3, 1, 0):
        sample = dataset.load(index)
        parts[index % 2].add(sample.image_id, detections_of(sample.target))
    whole = InstanceEvaluator(dataset)
    for part in parts:
        whole.add_results(part.found)
    assert [each.image_id for each in whole.found] == [0, 1, 3]
    assert whole.finish().mask["AP"] == 100
    with pytest.raises(ValueError, match="image 1: added twice"):
        whole.add_results(parts[1].found)


def test_a_model_of_other_classes_is_refused(dataset):
    model = BlendMask(PRESETS["nano"])
    with pytest.raises(ValueError, match=r"class 0.*star"):
        evaluate_model(model, dataset)


# Pictures on their way to the model


def small_model(dataset, **settings):
    """A thin one that finds something everywhere."""
    torch.manual_seed(0)
    config = replace(
        PRESETS["nano"], stem_channels=8, stage_width=8, pyramid_channels=16, bottom_channels=16
    )
    values = {"test_size": 64, "max_size": 96, "score_threshold": 0.0, "max_detections": 10}
    inference = InferenceConfig(**(values | settings))
    return BlendMask(config, inference=inference, class_names=dataset.class_names)


class Sizes(ShapesDataset):
    """Pictures of the shapes in four sizes; at test, 64 x 70 and 64 x 80 are padded to one."""

    sizes = ((64, 64), (64, 70), (70, 64), (64, 80))

    def load(self, index):
        sample = super().load(index)
        height, width = self.sizes[index % len(self.sizes)]
        target = replace(sample.target, stuff=None, semantic=None)
        target = replace(target, masks=target.masks[:, :height, :width])
        return replace(
            sample,
            image=sample.image[:, :height, :width],
            target=target,
            original_size=(height, width),
        )


def test_evaluation_on_a_gpu_gives_the_numbers_of_the_cpu():
    # 100 pixels are enlarged to 128: CUDA cannot do that with bytes.
    dataset = ShapesDataset(3, seed=3, config=ShapesConfig(size=100))
    alone = evaluate_model(load_model(shipped_checkpoint()), dataset)
    model = to_gpu(load_model(shipped_checkpoint()))
    with pretended_gpu():
        results = evaluate_model(model, dataset)
    assert alone.mask["AP"] > 40
    assert results.table() == alone.table()


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu() as gpu:
        byte = torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device=gpu)
        assert byte.device == gpu and byte.float().mean().item() == 0
        with pytest.raises(RuntimeError, match="not implemented for 'Byte'"):
            torch.nn.functional.interpolate(byte, size=(2, 2), mode="bilinear", antialias=True)
        with pytest.raises(RuntimeError, match="some tensors are on the CPU, some on the GPU"):
            byte + torch.ones(4)
        with pytest.raises(RuntimeError, match="the indexed tensor on the CPU"):
            torch.ones(4)[byte[0, 0, 0] == 0]
        with pytest.raises(TypeError, match="needs cpu"):
            np.asarray(byte)
        assert byte.add(1).cpu().numpy().sum() == 48


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_batches_find_what_pictures_find_alone(batch_size):
    dataset = Sizes(9, seed=5)
    model = small_model(dataset)
    batches, seen = [], []
    forward = model.forward
    model.forward = lambda images: batches.append([i.shape for i in images]) or forward(images)
    alone = detect_all(model, dataset)
    assert list(map(len, batches)) == [1] * 9
    batches.clear()
    together = detect_all(
        model, dataset, batch_size=batch_size, progress=lambda *each: seen.append(each)
    )
    assert seen == [(i, 9) for i in range(1, 10)]
    assert 1 < max(map(len, batches)) <= batch_size
    padded = [{(-(-h // 32), -(-w // 32)) for _, h, w in shapes} for shapes in batches]
    assert all(len(sizes) == 1 for sizes in padded)
    assert max(len(set(shapes)) for shapes in batches) > 1  # sizes differ, before padding
    assert sum(map(len, alone.found)) > 40
    for one, other in zip(alone.found, together.found, strict=True):
        assert (one.image_id, one.size) == (other.image_id, other.size)
        assert len(one) == len(other)
        np.testing.assert_allclose(one.scores, other.scores, atol=2e-6)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=2e-3)
        np.testing.assert_array_equal(one.category_ids, other.category_ids)


def test_pictures_that_find_no_others_of_their_size_do_not_pile_up():
    dataset = Sizes(40, seed=5)
    dataset.sizes = tuple((32, 32 + 32 * i) for i in range(1, 41))
    dataset.config = ShapesConfig(size=1400)
    model = small_model(dataset, test_size=32, max_size=4000)
    loaded = []
    dataset.load_image = lambda index: (
        loaded.append(index) or torch.zeros(3, *dataset.sizes[index], dtype=torch.uint8)
    )
    first = next(in_batches(model, dataset, range(40), batch_size=3))
    assert [each.index for each in first] == [0]
    assert len(loaded) == 12


def test_a_batch_size_below_one_is_refused(dataset):
    with pytest.raises(ValueError, match="batch_size = 0: must be at least 1"):
        evaluate_model(small_model(dataset), dataset, batch_size=0)


def test_pictures_for_a_gpu_are_read_ahead_in_order_and_in_batches(dataset):
    model = to_gpu(small_model(dataset))
    readers = set()

    class Watched(ShapesDataset):
        def load_image(self, index):
            readers.add(threading.current_thread())
            if index == 13:
                raise ValueError("picture 13: damaged")
            return super().load_image(index)

    with pretended_gpu() as gpu:
        batches = list(in_batches(model, Watched(30, seed=1), [5, 3, *range(14, 22)]))
        with pytest.raises(ValueError, match="picture 13"):
            list(in_batches(model, Watched(30, seed=1), range(30)))
    assert [[each.index for each in batch] for batch in batches] == [
        [5, 3, *range(14, 20)],
        [20, 21],
    ]
    assert batches[0][0].image.device == gpu
    assert batches[0][0].stored_size == (128, 128)
    assert threading.main_thread() not in readers


def test_finding_objects_decodes_no_true_mask(tmp_path, monkeypatch):
    write_shapes(tmp_path, num_images=2, seed=6, split="val", config=ShapesConfig(size=64))

    def fail(*each):
        raise AssertionError("decoded")

    dataset = CocoDataset(tmp_path, "val")
    monkeypatch.setattr("blendmask_lite.datasets.coco.run_length", fail)
    monkeypatch.setattr("blendmask_lite.datasets.coco.decode_region", fail)
    found = detect_all(small_model(dataset), dataset).found
    assert all(len(each) > 5 for each in found)
    with pytest.raises(AssertionError, match="decoded"):
        dataset.load(0)


def test_ap_on_photographs_with_crowds_is_100_for_the_truth():
    root = os.environ.get("BLENDMASK_COCO")
    if not root:
        pytest.skip("BLENDMASK_COCO is not set: no photographs at hand")
    dataset = CocoDataset(root, "val2017")
    chosen = dataset.select(dataset.image_ids[:12])
    evaluator = InstanceEvaluator(chosen)
    for index in range(len(chosen)):
        sample = chosen.load(index)
        evaluator.add(sample.image_id, detections_of(sample.target))
    results = evaluator.finish()
    assert results.mask["AP"] == pytest.approx(100, abs=0.5)
