"""Snapshots follow true objects through a training, and come back from small files."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blendmask_lite import PRESETS, BlendMask, files
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import shipped_snapshots
from blendmask_lite.structures import Target
from blendmask_lite.training.observers import SnapshotLog
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.snapshots import (
    Snapshot,
    as_bytes,
    choose_pictures,
    from_bytes,
    narrow,
    read_snapshots,
    snapshot_iterations,
    take_snapshot,
    widen,
    write_pictures,
    write_snapshot,
)
from blendmask_lite.training.targets import object_locations

SMALL = {"stage_width": 8, "stem_channels": 8, "pyramid_channels": 16, "bottom_channels": 16}


def make_model(**changes) -> BlendMask:
    torch.manual_seed(1)
    config = replace(PRESETS["nano"], **{**SMALL, **changes})
    # Nothing learned, nothing sure: a low threshold finds something all the same.
    inference = replace(PRESET_INFERENCE["nano"], test_size=90, max_size=150, score_threshold=0.001)
    return BlendMask(config, inference=inference, class_names=ShapesDataset.class_names)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def samples(model):
    return choose_pictures(ShapesDataset(5, seed=4), model.inference, 3)


@pytest.fixture(scope="module")
def pictures(model, samples):
    return take_snapshot(model, samples)


@pytest.fixture
def folder(tmp_path, model, samples, pictures):
    write_pictures(tmp_path, model, samples)
    write_snapshot(tmp_path, Snapshot(iteration=0, pictures=pictures))
    write_snapshot(tmp_path, Snapshot(iteration=12, pictures=pictures))
    return tmp_path


# When


def test_snapshots_lie_like_cubes_from_the_beginning_to_the_end():
    assert snapshot_iterations(5, 64) == (0, 1, 8, 27, 64)  # 64 times 0, 1/64, 1/8, 27/64, 1


def test_a_short_run_is_looked_at_after_every_step():
    assert snapshot_iterations(10, 3) == (0, 1, 2, 3)
    moments = snapshot_iterations(30, 1500)
    assert len(set(moments)) == 30
    assert (moments[0], moments[1], moments[-1]) == (0, 1, 1500)


def test_one_snapshot_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        snapshot_iterations(1, 100)


# What


def test_pictures_have_the_size_of_a_test_and_their_largest_objects_first(samples):
    assert len(samples) == 3
    for sample in samples:
        assert min(sample.image.shape[-2:]) == 90
        areas = sample.target.masks.flatten(1).sum(dim=1).tolist()
        assert areas == sorted(areas, reverse=True)
        assert min(areas) > 0
        assert sample.target.masks.shape[-2:] == sample.image.shape[-2:]


def test_pictures_without_objects_and_objects_without_pixels_are_passed_over(model):
    class Sparse(ShapesDataset):
        def load(self, index):
            sample = super().load(index)
            boxes, labels, masks = (
                getattr(sample.target, name) for name in ("boxes", "labels", "masks")
            )
            if index % 2:  # one object more, of which no pixel is left
                boxes = torch.cat([torch.tensor([[3.0, 3.0, 3.2, 9.0]]), boxes])
                labels = torch.cat([labels[:1], labels])
                masks = torch.cat([torch.zeros_like(masks[:1]), masks])
            else:
                boxes, labels, masks = boxes[:0], labels[:0], masks[:0]
            return replace(sample, target=Target(boxes, labels, masks=masks))

    chosen = choose_pictures(Sparse(6, seed=4), model.inference, 2)
    assert [sample.image_id for sample in chosen] == [1, 3]
    for sample in chosen:
        assert len(sample.target) == len(ShapesDataset(6, seed=4).load(sample.image_id).target)
        assert bool(sample.target.masks.flatten(1).any(dim=1).all())


def test_an_object_is_followed_where_it_is_learned_or_nearest_to_its_center(model):
    masks = torch.zeros(3, 96, 96, dtype=torch.bool)
    # Centers of stride 4 lie at 2, 6, 10, ...; those less than 6 pixels from (20, 20) are at 18
    # and 22, and the small object in the middle of the large one takes all of them.
    boxes = torch.tensor(
        [[0.0, 0.0, 40.0, 40.0], [16.0, 16.0, 24.0, 24.0], [50.0, 60.0, 75.0, 90.0]]
    )
    target = Target(boxes, torch.tensor([0, 1, 2]), masks=masks)
    model.eval()
    with torch.no_grad():
        output = model([torch.zeros(3, 96, 96)])
    places, is_learned = object_locations(output, target, model.config)
    assert is_learned.tolist() == [False, True, True]
    found = output.locations[places].tolist()
    assert found[0] == found[1]
    assert found[0][0] in (18, 22) and found[0][1] in (18, 22)
    assert found[2] == [62, 74]  # center (62.5, 75): half a pixel and one pixel away
    assert output.location_strides[places].tolist() == [4, 4, 4]


def test_an_object_is_not_followed_where_a_smaller_one_is_learned(model):
    # All four locations around (20, 20) are equally near to the large object's center; the small
    # one lies on the first of them.
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [16.0, 16.0, 19.5, 19.5]])
    masks = torch.zeros(2, 96, 96, dtype=torch.bool)
    model.eval()
    with torch.no_grad():
        output = model([torch.zeros(3, 96, 96)])
    places, _ = object_locations(
        output, Target(boxes, torch.tensor([0, 1]), masks=masks), model.config
    )
    assert output.locations[places].tolist() == [[22, 18], [18, 18]]


def test_a_snapshot_holds_what_the_model_computes(model, samples, pictures):
    sample, seen = samples[1], pictures[1]
    model.eval()
    with torch.no_grad():
        output = model([sample.image])
        index = torch.stack([torch.zeros_like(seen.location_index), seen.location_index], dim=1)
        logits = model.masks_at(output, index, sample.target.boxes)
        attentions = model.attentions_at(output, index)
        found = model.predict([sample.image], max_detections=12)[0]
    assert torch.equal(seen.bases, output.bases[0])
    assert torch.equal(seen.attentions.flatten(1), attentions)
    assert seen.attentions.shape[1:] == (4, 7, 7)
    assert torch.allclose(seen.mask_probabilities, logits.sigmoid())
    assert torch.equal(seen.detections.boxes, found.boxes)
    assert torch.equal(seen.detections.masks, found.masks)
    place, label = int(seen.location_index[0]), int(sample.target.labels[0])
    product = output.class_logits[0, place, label].sigmoid() * (
        output.centerness_logits[0, place].sigmoid()
    )
    assert seen.scores[0] == pytest.approx(product.sqrt().item(), rel=1e-5)


def test_the_iou_is_that_of_the_pasted_mask(model, samples):
    # A model that is sure of every pixel of every box: the masks are the boxes.
    sure = make_model()
    with torch.no_grad():
        for parameter in sure.bottom.parameters():
            parameter.zero_()
        last = [each for each in sure.bottom.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        last.bias.fill_(9.0)
    sample = samples[0]
    seen = take_snapshot(sure, samples[:1])[0]
    for box, mask, iou in zip(
        sample.target.boxes.tolist(), sample.target.masks, seen.mask_iou.tolist(), strict=True
    ):
        y, x = torch.meshgrid(torch.arange(90) + 0.5, torch.arange(90) + 0.5, indexing="ij")
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        expected = (inside & mask).sum() / (inside | mask).sum()
        assert iou == pytest.approx(expected.item(), abs=0.08)  # half a pixel along the sides


def test_looking_changes_nothing(model, samples):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    take_snapshot(model, samples)
    assert model.training
    assert torch.equal(random_state, torch.get_rng_state())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"merger": "weighted_sum", "num_bases": 8}, (8, 1, 1)),
        ({"merger": "assembler", "num_bases": 49}, (0, 1, 1)),
    ],
)
def test_other_mergers_have_other_attentions(samples, changes, shape, tmp_path):
    other = make_model(**changes)
    seen = take_snapshot(other, samples)
    assert seen[0].attentions.shape[1:] == shape
    write_pictures(tmp_path, other, samples)
    write_snapshot(tmp_path, Snapshot(iteration=1, pictures=seen))
    assert read_snapshots(tmp_path)[0].pictures[0].attentions.shape[1:] == shape


# Files


def test_signed_maps_survive_to_a_254th_of_their_largest_value():
    maps = torch.randn(3, 5, 6) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    maps[1, 0, 0] = 0.0
    back = widen(*narrow(maps))
    limit = maps.flatten(1).abs().amax(dim=1)[:, None, None] / 254
    assert bool(((back - maps).abs() <= limit * 1.001).all())
    assert back[1, 0, 0] == 0
    assert torch.equal(widen(*narrow(torch.zeros(2, 3))), torch.zeros(2, 3))
    assert widen(*narrow(torch.zeros(0, 4, 7, 7))).shape == (0, 4, 7, 7)
    bad = widen(*narrow(torch.tensor([[torch.nan, torch.inf, 1.0]])))
    assert bool(torch.isfinite(bad).all())


def test_probabilities_survive_to_half_a_255th():
    values = torch.linspace(0, 1, 1001)
    assert (from_bytes(as_bytes(values)) - values).abs().max() <= 0.5 / 255 + 1e-6


def test_snapshots_come_back_as_they_were(folder, model, samples, pictures):
    snapshots = read_snapshots(folder)
    assert snapshots.iterations == (0, 12)
    assert len(snapshots) == 2
    assert snapshots.config == model.config
    assert snapshots.class_names == model.class_names
    assert snapshots.stride == 4
    for sample, back in zip(samples, snapshots.samples, strict=True):
        assert torch.equal(back.image, sample.image)
        assert torch.equal(back.target.masks, sample.target.masks)
        assert torch.equal(back.target.boxes, sample.target.boxes)
        assert torch.equal(back.target.labels, sample.target.labels)
        assert (back.image_id, back.original_size) == (sample.image_id, sample.original_size)
    moment = snapshots[1]
    assert moment.iteration == 12
    for seen, back in zip(pictures, moment.pictures, strict=True):
        for name in ("location_index", "mask_iou", "scores"):
            assert torch.equal(getattr(back, name), getattr(seen, name)), name
        assert (back.bases - seen.bases).abs().max() <= seen.bases.abs().max() / 250
        assert (back.attentions - seen.attentions).abs().max() <= seen.attentions.abs().max() / 250
        assert (back.mask_probabilities - seen.mask_probabilities).abs().max() < 0.003
        for name in ("boxes", "scores", "labels", "location_index", "proposal_boxes"):
            assert torch.equal(getattr(back.detections, name), getattr(seen.detections, name)), name
        assert (back.detections.masks != seen.detections.masks).float().mean() < 0.01
        assert back.detections.image_size == seen.detections.image_size


def test_thirty_snapshots_of_four_pictures_take_less_than_two_megabytes(tmp_path):
    nano = BlendMask(PRESETS["nano"], inference=PRESET_INFERENCE["nano"])
    four = choose_pictures(ShapesDataset(5, seed=4), nano.inference, 4)
    write_pictures(tmp_path, nano, four)
    seen = take_snapshot(nano, four)
    # As many detections as are ever kept, each with a mask of noise.
    many = seen[0].detections
    noisy = replace(
        many,
        boxes=torch.rand(12, 4) * 100,
        scores=torch.rand(12),
        labels=torch.randint(0, 8, (12,)),
        masks=torch.zeros(12, 128, 128, dtype=torch.bool),
        mask_logits=torch.randn(12, 28, 28),
        location_index=torch.arange(12),
        proposal_boxes=torch.rand(12, 4) * 100,
    )
    crowded = tuple(replace(each, detections=noisy) for each in seen)
    write_snapshot(tmp_path, Snapshot(iteration=1, pictures=crowded))
    size = (tmp_path / "pictures.npz").stat().st_size
    assert size + 30 * (tmp_path / "step-00000001.npz").stat().st_size < 2_000_000


def test_an_archive_of_the_folder_is_read_alike(folder, tmp_path):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.glob("*.npz"):
            file.write(path, path.name)
    packed, plain = read_snapshots(archive), read_snapshots(folder)
    assert packed.iterations == plain.iterations
    assert torch.equal(packed[1].pictures[2].bases, plain[1].pictures[2].bases)


def test_a_folder_without_snapshots_says_how_to_get_some(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_snapshots(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="--snapshots"):
        read_snapshots(tmp_path)


def test_damaged_files_are_named(folder, samples, model):
    step = folder / "step-00000012.npz"
    content = step.read_bytes()
    for damage in (content[:900], b"", b"no archive", content[:2000] + b"x" + content[2001:]):
        step.write_bytes(damage)
        with pytest.raises(ValueError, match="step-00000012"):
            read_snapshots(folder)[1]
    write_pictures(folder, model, samples[:2])
    with pytest.raises(ValueError, match="other pictures"):
        read_snapshots(folder)[0]
    (folder / "pictures.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"pictures\.npz: about is missing"):
        read_snapshots(folder)


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("iteration.npy", content)
    return buffer.getvalue()


def test_a_small_archive_does_not_unpack_to_much(folder, tmp_path):
    step = folder / "step-00000012.npz"
    step.write_bytes(packed(bytes(10**8)))
    with pytest.raises(ValueError, match=r"step-00000012\.npz: it declares 100,000,000 bytes in"):
        read_snapshots(folder)[1]
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(header, about)
    step.write_bytes(packed(header.getvalue()))
    with pytest.raises(ValueError, match=r"step-00000012\.npz: "):
        read_snapshots(folder)[1]
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pictures.npz", bytes(10**8))
    with pytest.raises(ValueError, match=r"pictures\.npz: it declares 100,000,000 bytes in"):
        read_snapshots(archive)


@pytest.mark.parametrize("about", ["[]", '{"format": 1, "num_pictures": 0, "config": [3]}', "3"])
def test_pictures_with_another_description_are_named(folder, about):
    np.savez(folder / "pictures.npz", about=np.array(about))
    with pytest.raises(ValueError, match=r"pictures\.npz: "):
        read_snapshots(folder)


def test_reading_runs_no_code(folder):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    buffer = io.BytesIO()
    np.savez(buffer, iteration=np.array([Evil()], dtype=object))
    (folder / "step-00000012.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="step-00000012"):
        read_snapshots(folder)[1]


# The run


def test_a_run_that_continues_keeps_earlier_snapshots_and_its_pictures(folder, model, samples):
    run = RunFolder(folder.parent / "run")
    shutil.copytree(folder, run.snapshots)
    log = SnapshotLog(run, samples[:1], number=2, iterations=20)
    state = SimpleNamespace(iteration=11, evaluated_model=model)
    log.on_start(state)
    assert read_snapshots(run.path).iterations == (0,)
    state.iteration = 20
    log.on_step(state, None)
    snapshots = read_snapshots(run.path)
    assert snapshots.iterations == (0, 20)
    assert len(snapshots[1].pictures) == 3  # those that it began with


def test_a_run_that_begins_anew_forgets_old_snapshots(folder, model, samples):
    run = RunFolder(folder.parent / "anew")
    shutil.copytree(folder, run.snapshots)
    log = SnapshotLog(run, samples[:1], number=2, iterations=20)
    log.on_start(SimpleNamespace(iteration=0, evaluated_model=model))
    snapshots = read_snapshots(run.path)
    assert snapshots.iterations == (0,)
    assert len(snapshots[0].pictures) == 1


def test_no_picture_with_objects_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        SnapshotLog(RunFolder(tmp_path), [], number=3, iterations=10)


# The sample that comes with the package


def test_the_shipped_sample_shows_masks_coming_into_being():
    path = shipped_snapshots()
    assert path.stat().st_size <= 1_000_000
    snapshots = read_snapshots(path)
    assert snapshots.iterations == snapshot_iterations(20, 1500)
    assert len(snapshots.samples) == 3
    assert snapshots.config == PRESETS["nano"]
    assert snapshots.class_names == ShapesDataset.class_names
    iou = [torch.cat([each.mask_iou for each in moment.pictures]).mean() for moment in snapshots]
    assert iou[0] < 0.3
    assert iou[-1] > 0.6
    first, last = snapshots[0].pictures, snapshots[-1].pictures
    assert sum(len(each.detections) for each in first) == 0
    for before, seen in zip(first, last, strict=True):
        assert bool((seen.detections.scores > 0.3).any())
        assert torch.equal(before.location_index, seen.location_index)


def test_a_missing_sample_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(files, "SHIPPED_SNAPSHOTS", "no_such_file.zip")
    with pytest.raises(FileNotFoundError, match=r"no_such_file\.zip.*--snapshots 20"):
        files.shipped_snapshots()
