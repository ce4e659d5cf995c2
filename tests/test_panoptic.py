"""Things and stuff: the branch, its loss, the merge, and the data that teach them."""

from __future__ import annotations

import json
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_gpu import pretended_gpu

from blendmask_lite import (
    PRESETS,
    BlendMask,
    Detections,
    PanopticResult,
    Segment,
    Target,
    load_model,
    save_model,
)
from blendmask_lite.cli import main
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.panoptic import PanopticDataset, read_segment_ids
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import STUFF_CLASSES, ShapesDataset, write_shapes
from blendmask_lite.datasets.transforms import TrainTransform, flip_horizontally, resize_sample
from blendmask_lite.figures import paint_segments, panoptic_figure
from blendmask_lite.figures.style import object_color, rgb255, stuff_color
from blendmask_lite.model.panoptic import (
    PanopticHead,
    enlarge_logits,
    merge_things_and_stuff,
    semantic_labels,
)
from blendmask_lite.training.criterion import Criterion, TrainingStep
from blendmask_lite.training.losses import panoptic_loss
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale
from blendmask_lite.weights.adelaidet import adelaidet_name

COCO = Path(os.environ.get("BLENDMASK_COCO", ""))
needs_photographs = pytest.mark.skipif(
    not (COCO / "annotations" / "panoptic_val2017.json").is_file(),
    reason="BLENDMASK_COCO names no COCO folder with panoptic annotations",
)

# The released code's names (all of its panoptic module), in the order of its modules.
RELEASED_KEYS = [
    f"panoptic_module.{name}.{kind}"
    for name in ("p2.0", "p3.0", "p4.0", "p4.2", "p5.0", "p5.2", "p5.4")
    for kind in ("weight", "norm.weight", "norm.bias")
] + ["panoptic_module.predictor.weight", "panoptic_module.predictor.bias"]


def small_model(**changes) -> BlendMask:
    torch.manual_seed(0)
    config = replace(
        PRESETS["nano_panoptic"],
        stem_channels=8,
        stage_width=8,
        pyramid_channels=16,
        bottom_channels=8,
        semantic_channels=8,
        panoptic_channels=8,
        **changes,
    )
    return BlendMask(config, inference=PRESET_INFERENCE["nano_panoptic"]).eval()


def picture(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


# The branch


def levels(channels: int, height: int, width: int) -> dict[str, torch.Tensor]:
    return {
        f"p{i}": torch.randn(2, channels, height >> i, width >> i, requires_grad=True)
        for i in (2, 3, 4, 5)
    }


def test_four_levels_become_one_map_at_stride_4():
    head = PanopticHead(in_channels=16, channels=8, num_stuff_classes=5)
    features = levels(16, 64, 96)
    logits = head(features)
    assert logits.shape == (2, 6, 16, 24)
    logits.sum().backward()
    assert all(features[name].grad.abs().sum() > 0 for name in ("p2", "p3", "p4", "p5"))
    assert enlarge_logits(logits).shape == (2, 6, 64, 96)


def test_names_and_shapes_are_those_of_the_released_code():
    with torch.device("meta"):
        own = BlendMask(PRESETS["panoptic_r50"]).state_dict()
    ours = [adelaidet_name(name, num_bottom_convs=3) for name in RELEASED_KEYS]
    assert ours == [name for name in own if name.startswith("panoptic_head.")]
    assert own[ours[0]].shape == (128, 256, 3, 3)  # p2.0
    assert own[ours[18]].shape == (128, 128, 3, 3)  # p5.4
    assert own[ours[-2]].shape == (54, 128, 1, 1)
    extra = [
        f"backbone.fpn_{part}2.{kind}" for part in ("lateral", "output") for kind in ("weight",)
    ]
    assert all(adelaidet_name(name, num_bottom_convs=3) in own for name in extra)


def test_branch_is_the_sum_of_its_levels_and_starts_as_the_released_code_does():
    head = PanopticHead(in_channels=16, channels=64, num_stuff_classes=1)
    for name, steps in (("p2", 1), ("p3", 1), ("p4", 2), ("p5", 3)):
        convs = [m for m in head.towers[name].modules() if isinstance(m, torch.nn.Conv2d)]
        assert len(convs) == steps
        assert all(conv.bias is None for conv in convs)
        # Kaiming over the outputs: a variance of 2 / (channels x 3 x 3).
        assert convs[-1].weight.std().item() == pytest.approx(math.sqrt(2 / 576), rel=0.05)
    assert head.predictor.bias.tolist() == [0, 0]
    # With kernels of zero each tower gives the last norm's bias everywhere, unless negative.
    last = {"p2": 1.0, "p3": 10.0, "p4": -100.0, "p5": 1000.0}
    with torch.no_grad():
        for name, value in last.items():
            for module in head.towers[name].modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.weight.zero_()
                if isinstance(module, torch.nn.GroupNorm):
                    module.bias.fill_(value)
        head.predictor.weight.fill_(1 / 64)
        logits = head(levels(16, 32, 32))
    assert torch.allclose(logits, torch.tensor(1011.0))


def test_labels_leave_the_padding_out_and_are_read_at_the_output_size():
    # Cells of 4 pixels; things on the left, stuff on the right; the lower row is padding.
    logits = torch.tensor([[[4.0, -4.0], [-90.0, -90.0]], [[-4.0, 4.0], [90.0, 90.0]]])
    labels = semantic_labels(logits, (2, 8), (2, 8))
    assert labels.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
    labels = semantic_labels(logits, (2, 8), (6, 16))
    assert labels.tolist() == [[0] * 8 + [1] * 8] * 6
    labels = semantic_labels(logits, (2, 6), (2, 6))  # the image ends within a cell
    assert labels.tolist() == [[0, 0, 0, 0, 1, 1]] * 2


# The loss


def test_loss_is_the_mean_over_labelled_pixels():
    # Probabilities 1/2, 1/4, 1/4 everywhere: ln 2 for class 0, 2 ln 2 for the others.
    logits = torch.tensor([math.log(2), 0.0, 0.0])[None, :, None, None].expand(1, 3, 1, 1)
    stuff = torch.full((1, 4, 4), 255)
    stuff[0, 0] = torch.tensor([0, 0, 0, 2])
    assert panoptic_loss(logits, stuff).item() == pytest.approx(1.25 * math.log(2))


def test_loss_compares_at_every_pixel_after_bilinear_enlarging():
    # From 0 to 8 over two cells: 0, 0, 1, 3, 5, 7, 8, 8 at the pixels.
    logits = torch.tensor([[[[0.0, 8.0]], [[0.0, 0.0]]]])
    stuff = torch.full((1, 4, 8), 255)
    stuff[0, 2, 3] = 1
    assert panoptic_loss(logits, stuff).item() == pytest.approx(math.log(1 + math.exp(3)))


def test_loss_without_a_labelled_pixel_is_zero_and_attached():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = panoptic_loss(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.eq(0).all()


def targets_of(*maps: torch.Tensor) -> list[Target]:
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [
        Target(**nothing, masks=torch.zeros(0, *each.shape, dtype=torch.bool), stuff=each)
        for each in maps
    ]


def test_criterion_weighs_the_loss_and_does_not_count_the_padding():
    model = small_model()
    with torch.no_grad():
        model.panoptic_head.predictor.weight.zero_()
        model.panoptic_head.predictor.bias.copy_(torch.tensor([math.log(4), 0, 0, 0, 0]))
    # Half of the pixels are things (probability 4/8), half are stuff 3 (1/8): the padding to
    # 64 x 96 would change the mean.
    first = torch.zeros(40, 50, dtype=torch.uint8)
    first[20:] = 3
    second = torch.zeros(20, 70, dtype=torch.uint8)
    second[:, 35:] = 3
    images = [picture(40, 50), picture(20, 70)]
    losses = TrainingStep(model)(images, targets_of(first, second))
    assert list(losses) == ["class", "box", "centerness", "mask", "semantic", "panoptic"]
    assert losses["panoptic"].item() == pytest.approx(0.5 * 2 * math.log(2), rel=1e-5)


def test_criterion_leaves_out_a_loss_without_weight_and_refuses_targets_without_stuff():
    model = small_model()
    target = replace(targets_of(torch.zeros(32, 32))[0], stuff=None)
    with pytest.raises(ValueError, match="stuff map"):
        TrainingStep(model)([picture(32, 32)], [target])
    unweighted = small_model(panoptic_weight=0.0)
    assert "panoptic" not in TrainingStep(unweighted)([picture(32, 32)], [target])
    without = BlendMask(replace(unweighted.config, num_stuff_classes=0))
    assert Criterion(without.config).panoptic_weight == 0


# The merge


def objects(masks: list[torch.Tensor], scores: list[float]) -> Detections:
    num, (height, width) = len(masks), (4, 6)
    return Detections(
        boxes=torch.zeros(num, 4),
        scores=torch.tensor(scores),
        labels=torch.arange(num) + 5,
        masks=torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool),
        mask_logits=torch.zeros(num, 7, 7),
        location_index=torch.arange(num),
        proposal_boxes=torch.zeros(num, 4),
        image_size=(height, width),
    )


def block(rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


EVERYWHERE = slice(None)
LIMITS = {"score_threshold": 0.5, "overlap": 0.4, "stuff_area": 1}
THINGS = torch.zeros(4, 6, dtype=torch.int64)


def test_better_instance_keeps_the_pixels_that_two_share():
    # In the order of scores 0.9, 0.7; the worse one comes first in the detections.
    worse, better = block(EVERYWHERE, slice(0, 3)), block(EVERYWHERE, slice(2, 5))
    result = merge_things_and_stuff(objects([worse, better], [0.7, 0.9]), THINGS, **LIMITS)
    assert result.ids.dtype == torch.int32
    assert result.ids.tolist() == [[2, 2, 1, 1, 1, 0]] * 4
    first, second = result.segments
    assert (first.id, first.label, first.area, first.instance_index) == (1, 6, 12, 1)
    assert (second.id, second.label, second.area, second.instance_index) == (2, 5, 8, 0)
    assert first.score == pytest.approx(0.9)
    assert first.is_thing and second.is_thing


def test_instance_that_is_covered_too_much_is_left_out():
    # 5 columns of which 2 are covered: exactly the limit of 0.4; then 4 of which 2 are.
    cover = block(EVERYWHERE, slice(0, 2))
    for mask, kept in ((block(EVERYWHERE, slice(0, 5)), 2), (block(EVERYWHERE, slice(0, 4)), 1)):
        result = merge_things_and_stuff(objects([cover, mask], [0.9, 0.8]), THINGS, **LIMITS)
        assert len(result.segments) == kept
        assert result.ids.max() == kept
    # Nothing is left of an instance that is covered whole, whatever the limit.
    limits = LIMITS | {"overlap": 1.0}
    result = merge_things_and_stuff(objects([cover, cover], [0.9, 0.8]), THINGS, **limits)
    assert len(result.segments) == 1


def test_unsure_and_empty_instances_are_left_out():
    empty, left, right = torch.zeros(4, 6).bool(), block(EVERYWHERE, slice(0, 2)), block(0, 5)
    found = objects([empty, left, right], [0.9, 0.5, 0.49])
    result = merge_things_and_stuff(found, THINGS, **LIMITS)  # 0.5 is enough
    assert [each.instance_index for each in result.segments] == [1]
    assert result.ids.tolist() == [[1, 1, 0, 0, 0, 0]] * 4


def test_stuff_takes_the_free_pixels_of_its_label_if_they_are_enough():
    labels = torch.tensor([[2, 2, 2, 7, 7, 0]] * 4)
    instance = block(EVERYWHERE, slice(0, 2))  # leaves 4 pixels of stuff 2
    found = objects([instance], [0.9])
    result = merge_things_and_stuff(found, labels, **LIMITS | {"stuff_area": 4})
    assert result.ids.tolist() == [[1, 1, 2, 3, 3, 0]] * 4
    assert result.segments[1:] == [Segment(2, 2, 4), Segment(3, 7, 8)]
    assert not result.segments[1].is_thing and result.segments[1].score is None
    result = merge_things_and_stuff(found, labels, **LIMITS | {"stuff_area": 5})
    assert result.ids.tolist() == [[1, 1, 0, 2, 2, 0]] * 4
    assert result.segments[1:] == [Segment(2, 7, 8)]
    # A kind of stuff without any free pixel is no segment, whatever the limit.
    result = merge_things_and_stuff(found, labels * instance, **LIMITS | {"stuff_area": 0})
    assert len(result.segments) == 1


def test_without_instances_stuff_fills_the_picture_in_the_order_of_labels():
    labels = torch.tensor([[9, 9, 9, 1, 1, 1]] * 4)
    result = merge_things_and_stuff(objects([], []), labels, **LIMITS)
    assert [(each.id, each.label) for each in result.segments] == [(1, 1), (2, 9)]
    assert result.ids.tolist() == [[2, 2, 2, 1, 1, 1]] * 4
    with pytest.raises(ValueError, match="masks of"):
        merge_things_and_stuff(objects([], []), labels[:2], **LIMITS)


# The whole model


def painted_labels(result, num_rows: int, num_columns: int) -> torch.Tensor:
    """Labels as in a stuff map; -1 where nothing was decided."""
    labels = torch.full((num_rows, num_columns), -1)
    for segment in result.segments:
        labels[result.ids == segment.id] = 0 if segment.is_thing else segment.label
    return labels


@pytest.mark.slow
def test_a_few_scenes_are_learned_by_heart():
    torch.manual_seed(0)
    samples = [resize_sample(each, (64, 64)) for each in ShapesDataset(2, seed=4)]
    config = replace(
        PRESETS["nano_panoptic"],
        stem_channels=16,
        stage_width=16,
        pyramid_channels=32,
        bottom_channels=32,
        semantic_channels=16,
        panoptic_channels=32,
    )
    model = BlendMask(config, inference=PRESET_INFERENCE["nano_panoptic"])
    step = TrainingStep(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    images, targets = [each.image for each in samples], [each.target for each in samples]
    for _ in range(50):
        optimizer.zero_grad()
        sum(step(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    for result, target in zip(model.eval().predict_panoptic(images), targets, strict=True):
        is_stuff = target.stuff > 0
        labels = painted_labels(result, 64, 64)
        is_right = labels[is_stuff] == target.stuff[is_stuff]
        assert is_right.float().mean() > 0.85
        assert any(segment.is_thing for segment in result.segments)


def test_instances_are_those_of_predict_at_the_output_size():
    model = small_model()
    with torch.no_grad():
        model.head.ltrb.bias.fill_(2.0)  # boxes that overlap
        model.bottom.bases.bias.fill_(1.0)  # masks that fill their boxes
    images, sizes = [picture(64, 96), picture(50, 40)], [(32, 48), (100, 80)]
    found = model.predict(images, output_sizes=sizes, score_threshold=0.0)
    model.inference = replace(model.inference, score_threshold=0.0)
    limits = {"score_threshold": 0.0, "overlap": 0.9}
    results = model.predict_panoptic(images, output_sizes=sizes, **limits)
    for result, detections, size in zip(results, found, sizes, strict=True):
        assert result.ids.shape == size
        things = [segment for segment in result.segments if segment.is_thing]
        assert things
        for segment in things:
            taken = result.ids == segment.id
            assert taken.sum() == segment.area > 0
            assert not (taken & ~detections.masks[segment.instance_index]).any()
            assert segment.label == detections.labels[segment.instance_index]
        areas = [int(detections.masks[each.instance_index].sum()) for each in things]
        assert [each.area for each in things] != areas  # some were covered in part
        for segment in result.segments[len(things) :]:
            assert (result.ids == segment.id).sum() == segment.area
    whole = model.predict_panoptic(images, output_sizes=sizes, **limits | {"overlap": 0.0})
    for result, detections in zip(whole, found, strict=True):
        things = [segment for segment in result.segments if segment.is_thing]
        areas = [int(detections.masks[each.instance_index].sum()) for each in things]
        assert [each.area for each in things] == areas


def test_one_image_alone_gives_what_it_gives_in_a_batch():
    model = small_model()
    limits = {"score_threshold": 1.0, "stuff_area": 1}
    alone = model.predict_panoptic([picture(32, 64)], **limits)
    both = model.predict_panoptic([picture(32, 64), picture(16, 64)], **limits)
    assert len(alone) == 1
    assert alone[0].ids.equal(both[0].ids)
    assert model.predict_panoptic([]) == []


def test_without_detections_all_pixels_go_to_stuff_or_nobody():
    model = small_model()
    (result,) = model.predict_panoptic([picture(45, 70)], score_threshold=1.0, stuff_area=1)
    logits = model.panoptic_logits(model([picture(45, 70)]))
    assert logits.shape == (1, 5, 16, 24)
    labels = semantic_labels(logits[0], (45, 70), (45, 70))
    wanted = torch.where(labels == 0, -1, labels)
    assert painted_labels(result, 45, 70).equal(wanted)


def test_limits_default_to_the_models_and_are_checked():
    model = small_model()
    with torch.no_grad():  # the third kind of stuff, everywhere
        model.panoptic_head.predictor.weight.zero_()
        model.panoptic_head.predictor.bias.copy_(torch.tensor([0.0, 0, 0, 1, 0]))
    model.inference = replace(model.inference, panoptic_score_threshold=1.0, stuff_area=64 * 96 + 1)
    (result,) = model.predict_panoptic([picture()])
    assert result.segments == []
    assert result.ids.eq(0).all()
    (result,) = model.predict_panoptic([picture()], stuff_area=64 * 96)
    assert result.segments == [Segment(1, 3, 64 * 96)]
    with pytest.raises(ValueError, match=r"panoptic_overlap = 1\.5"):
        model.predict_panoptic([picture()], overlap=1.5)
    with pytest.raises(ValueError, match="output_sizes: 2 for 1 images"):
        model.predict_panoptic([picture()], output_sizes=[(4, 4)] * 2)
    with pytest.raises(ValueError, match=r"images\[0\]: values from 255 to 255"):
        model.predict_panoptic([torch.full((3, 8, 8), 255.0)])
    with pytest.raises(ValueError, match="in training mode"):
        model.train().predict_panoptic([picture()])


def test_a_model_without_the_branch_says_so():
    model = BlendMask(replace(small_model().config, num_stuff_classes=0)).eval()
    assert model.stuff_names == ()
    assert not any(name.startswith("panoptic") for name in model.state_dict())
    with pytest.raises(ValueError, match="num_stuff_classes = 0"):
        model.predict_panoptic([picture()])


def test_names_of_stuff_are_kept_in_the_file(tmp_path):
    config = small_model().config
    assert BlendMask(config).stuff_names == ("stuff 1", "stuff 2", "stuff 3", "stuff 4")
    with pytest.raises(ValueError, match="stuff_names: 2 names for num_stuff_classes = 4"):
        BlendMask(config, stuff_names=["a", "b"])
    save_model(BlendMask(config, stuff_names=STUFF_CLASSES), tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").stuff_names == STUFF_CLASSES


# The data


def test_stuff_is_flipped_and_resized_with_the_picture():
    stuff = torch.tensor([[1, 2, 255], [3, 0, 4]], dtype=torch.uint8)
    sample = Sample(
        image=torch.zeros(3, 2, 3, dtype=torch.uint8),
        target=targets_of(stuff)[0],
        image_id=1,
        original_size=(2, 3),
    )
    assert flip_horizontally(sample).target.stuff.tolist() == [[255, 2, 1], [4, 0, 3]]
    larger = resize_sample(sample, (4, 6)).target.stuff
    assert larger.dtype == torch.uint8
    assert larger.tolist() == np.kron(stuff.numpy(), np.ones((2, 2), dtype=int)).tolist()
    transform = TrainTransform(train_sizes=(4,), max_size=6, flip=False)
    assert transform(sample, random.Random(0)).target.stuff.equal(larger)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A small COCO folder with panoptic annotations."""
    folder = tmp_path_factory.mktemp("panoptic")
    write_shapes(folder, num_images=3, seed=11, stuff=True)
    return folder


def test_shapes_say_what_the_ground_is_and_files_say_the_same(root):
    read, drawn = PanopticDataset(root), ShapesDataset(3, seed=11)
    assert read.stuff_names == drawn.stuff_names == STUFF_CLASSES
    assert read.stuff_ids == (9, 10, 11, 12)
    for index in range(3):
        sample = drawn.load(index)
        stuff = sample.target.stuff
        assert stuff.dtype == torch.uint8
        assert (stuff == 0).equal(sample.target.masks.any(dim=0))
        assert len(set(stuff.unique().tolist()) - {0}) == 2  # an upper and a lower kind
        assert read.load(index).target.stuff.equal(stuff)
    assert read.select([2]).load(0).target.stuff.equal(stuff)


def copy_of(root: Path, folder: Path, change) -> Path:
    """The folder with its panoptic annotations changed, its pictures of segments copied."""
    for path in root.rglob("*"):
        if path.is_file():
            place = folder / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    file = folder / "annotations" / "panoptic_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return folder


def test_pixels_without_a_segment_do_not_count(root, tmp_path):
    folder = copy_of(root, tmp_path, lambda content: None)
    file = folder / "annotations" / "panoptic_train" / "000000.png"
    pixels = np.array(Image.open(file))
    pixels[:10] = 0
    Image.fromarray(pixels).save(file)
    stuff = PanopticDataset(folder).load(0).target.stuff
    assert stuff[:10].eq(255).all()
    assert stuff[10:].ne(255).all()


def test_ids_of_segments_are_numbers_of_three_bytes(tmp_path):
    pixels = np.array([[[1, 2, 3], [0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_segment_ids(tmp_path / "a.png").tolist() == [[1 + 2 * 256 + 3 * 65536, 0]]


def test_images_without_panoptic_annotation_are_left_out(root, tmp_path):
    folder = copy_of(root, tmp_path, lambda content: content["annotations"].pop(1))
    dataset = PanopticDataset(folder)
    assert dataset.image_ids == (0, 2)
    assert dataset.load(1).image_id == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"].clear(), "has no image of"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "image 0: its image_id comes"),
        (lambda c: c["annotations"][0].pop("file_name"), "has no 'file_name'"),
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(category_id=77),
            "category 77",
        ),
        (lambda c: c["categories"][0].pop("isthing"), "has no 'isthing'"),
        (lambda c: [each.update(isthing=1) for each in c["categories"]], "0 categories of stuff"),
        (lambda c: c.pop("categories"), "no list 'categories'"),
    ],
)
def test_inconsistent_annotations_are_refused_by_name(root, tmp_path, change, message):
    folder = copy_of(root, tmp_path, change)
    with pytest.raises(ValueError, match=message) as error:
        PanopticDataset(folder)
    assert "panoptic_train.json" in str(error.value)


def test_missing_and_wrong_pictures_of_segments_are_named(root, tmp_path):
    folder = copy_of(
        root, tmp_path, lambda content: content["annotations"][1]["segments_info"].pop()
    )
    dataset, pictures = PanopticDataset(folder), folder / "annotations" / "panoptic_train"
    with pytest.raises(ValueError, match=r"000001\.png: holds segment \d+"):
        dataset.load(1)
    Image.new("RGB", (6, 5)).save(pictures / "000000.png")
    with pytest.raises(ValueError, match=r"000000\.png: is 6 x 5 pixels.*128 x 128"):
        dataset.load(0)
    (pictures / "000000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"000000\.png"):
        dataset.load(0)
    pictures.rename(folder / "panoptic_train")  # the other place for it
    assert PanopticDataset(folder).load(2).target.stuff is not None
    (folder / "panoptic_train").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="no such folder with segment images"):
        PanopticDataset(folder)
    (folder / "annotations" / "panoptic_train.json").unlink()
    with pytest.raises(ValueError, match=r"panoptic_train\.json: is missing"):
        PanopticDataset(folder)


@needs_photographs
@pytest.mark.parametrize(("split", "num_images"), [("train2017", 100), ("val2017", 51)])
def test_photographs_have_the_stuff_of_their_file(split, num_images):
    content = json.loads((COCO / "annotations" / f"panoptic_{split}.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    dataset = PanopticDataset(COCO, split)
    assert len(dataset) == num_images
    assert (len(dataset.class_names), len(dataset.stuff_names)) == (80, 53)
    assert [names[each] for each in dataset.stuff_ids] == list(dataset.stuff_names)
    segments = {each["image_id"]: each["segments_info"] for each in content["annotations"]}
    for index in (0, 7, num_images - 1):
        sample = dataset.load(index)
        stuff, areas = sample.target.stuff, {0: 0}
        for each in segments[sample.image_id]:
            name = names[each["category_id"]]
            stuffs = dataset.stuff_names
            label = stuffs.index(name) + 1 if name in stuffs else 0
            areas[label] = areas.get(label, 0) + each["area"]
        areas[255] = stuff.numel() - sum(areas.values())
        counted = {label: int((stuff == label).sum()) for label in areas}
        assert counted == areas
        assert set(stuff.unique().tolist()) <= set(areas)


# The figure


def a_result() -> PanopticResult:
    ids = torch.zeros(40, 60, dtype=torch.int32)
    ids[:, 30:] = 2  # stuff on the right, nothing on the left, an object of 10 x 12 on both
    ids[10:20, 24:36] = 1
    return PanopticResult(
        ids, [Segment(1, 2, 120, score=0.9, instance_index=0), Segment(2, 1, 1140)]
    )


def test_figure_names_every_segment_within_it():
    result = a_result()
    figure = panoptic_figure(picture(40, 60), result, ["star", "ring", "fish"], ["sky"], title="a")
    texts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert set(texts) == {"fish 90 %", "sky"}
    for segment, (x, y) in zip(result.segments, (texts["fish 90 %"], texts["sky"]), strict=True):
        assert result.ids[int(y), int(x)] == segment.id
    assert figure.get_label() == "A picture in 2 segments: fish 90 %, sky."
    assert figure.axes[0].get_title() == "a"


def test_segments_are_tinted_and_objects_outlined():
    black, result = torch.zeros(3, 40, 60), a_result()
    painted = paint_segments(black, result)
    assert black.eq(0).all()
    assert painted[:, result.ids == 0].eq(0).all()
    line = torch.tensor(rgb255(object_color(0))) / 255
    assert torch.allclose(painted[:, 10, 24], line)
    tint = torch.tensor(rgb255(stuff_color(1))) / 255
    on_white = paint_segments(black + 1, result)
    # On black, tinting leaves a share of the colour, on white a share of white beside it.
    for color, (y, x) in ((line, (15, 30)), (tint, (30, 50))):
        share = painted[:, y, x].sum() / color.sum()
        assert 0.3 < share < 0.7
        assert torch.allclose(painted[:, y, x], share * color)
        assert torch.allclose(on_white[:, y, x], share * color + (1 - share))
    with pytest.raises(ValueError, match="segments of"):
        paint_segments(picture(20, 60), result)


def test_segments_of_a_gpu_are_drawn_as_on_the_cpu():
    names = (["star", "ring", "fish"], ["sky"])
    painted = paint_segments(picture(40, 60), a_result())
    with pretended_gpu() as gpu:
        on_gpu = a_result().to(gpu)
        assert paint_segments(picture(40, 60), on_gpu).equal(painted)
        label = panoptic_figure(picture(40, 60), on_gpu, *names).get_label()
    assert label == panoptic_figure(picture(40, 60), a_result(), *names).get_label()


def test_nothing_found_is_the_picture_alone():
    nothing = PanopticResult(torch.zeros(40, 60, dtype=torch.int32), [])
    bytes_of_picture = (picture(40, 60) * 255).byte()
    painted = paint_segments(bytes_of_picture, nothing)
    assert torch.allclose(painted, bytes_of_picture.float() / 255)
    assert panoptic_figure(bytes_of_picture, nothing, [], []).get_label().endswith("none.")


# The run


def test_a_preset_with_stuff_trains_on_a_folder_from_the_command_line(root, tmp_path):
    options = ["--iterations", "2", "--batch-size", "2", "--size", "64", "--preset"]
    assert main(["train", str(root), "-o", str(tmp_path), *options, "nano_panoptic"]) == 0
    model = load_model(tmp_path / "model.safetensors")
    assert model.stuff_names == STUFF_CLASSES
    assert load_model(tmp_path / "last.pt").stuff_names == STUFF_CLASSES
    assert "panoptic" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert len(model.predict_panoptic([picture(64, 64)])) == 1


def recipe(num_stuff_classes: int) -> Recipe:
    config = replace(small_model().config, num_stuff_classes=num_stuff_classes)
    train = rescale(TRAIN_PRESETS["nano_panoptic"], iterations=1, batch_size=2)
    train = replace(train, train_sizes=(64,), max_size=64)
    return Recipe(model=config, inference=PRESET_INFERENCE["nano_panoptic"], train=train)


def test_a_run_learns_stuff_only_where_model_and_data_agree_on_it(tmp_path):
    dataset = ShapesDataset(2, seed=3)
    with pytest.raises(ValueError, match="num_stuff_classes = 3: the data has 4"):
        train_model(dataset, tmp_path / "three", recipe(3))
    train_model(dataset, tmp_path / "four", recipe(4))
    assert load_model(tmp_path / "four" / "model.safetensors").stuff_names == STUFF_CLASSES
    train_model(dataset, tmp_path / "none", recipe(0))
    assert load_model(tmp_path / "none" / "model.safetensors").stuff_names == ()
