"""Chapter 10's race: new last layers on fixed features, and the files in the package."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from blendmask_lite import BlendMask
from blendmask_lite.masks import mask_boxes
from blendmask_lite.research.race import (
    CONTESTANTS,
    NoBases,
    learn,
    load_contestant,
    load_features,
    make_contestant,
    mean_crop_iou,
    prepare_lessons,
    read_race,
)
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import TrainingStep


def a_target():
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:30] = True
    masks[1, 20:60, 30:60] = True
    return Target(boxes=mask_boxes(masks), labels=torch.tensor([0, 1]), masks=masks)


AN_IMAGE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))


def without_masks() -> BlendMask:
    torch.manual_seed(0)
    config = replace(CONTESTANTS["BlendMask"], merger="assembler", num_bases=1)
    return BlendMask(config, bottom=NoBases()).eval()


@pytest.fixture(scope="module")
def features() -> BlendMask:
    return without_masks()


def a_lesson(features):
    return prepare_lessons(features, [AN_IMAGE] * 3, [a_target()] * 3, batch_size=2)


def test_without_bases_only_boxes_and_classes_are_learned():
    model = without_masks().train()
    losses = TrainingStep(model)([AN_IMAGE], [a_target()])
    assert not losses["mask"].requires_grad
    losses["box"].backward()
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.parameters())


@pytest.mark.parametrize("name", CONTESTANTS)
def test_contestant_learns_its_new_layers_and_nothing_else(features, name):
    lessons = a_lesson(features)
    contestant = make_contestant(features, CONTESTANTS[name])
    before = {part: value.clone() for part, value in contestant.state_dict().items()}
    losses = []
    for loss in learn(contestant, lessons, num_steps=12):
        losses.append(loss)
        assert not any(module.training for module in contestant.modules())
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    changed = {n for n, value in contestant.state_dict().items() if not value.equal(before[n])}
    assert any(part.startswith("bottom.pyramid") for part in changed)
    assert all(part.startswith(("bottom.", "top_layer.")) for part in changed)
    assert 0 <= mean_crop_iou(contestant, lessons) <= 1


def test_contestant_keeps_the_features_and_draws_the_rest_from_its_seed(features):
    first, again, other = (
        make_contestant(features, CONTESTANTS["YOLACT"], seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    for name, value in features.state_dict().items():
        assert first[name].equal(value) and other[name].equal(value)
    assert first["bottom.bases.weight"].shape[0] == 32
    assert first["bottom.bases.weight"].equal(again["bottom.bases.weight"])
    assert not first["bottom.bases.weight"].equal(other["bottom.bases.weight"])


def test_making_a_contestant_leaves_the_global_random_state_and_the_features_alone(features):
    before = {name: value.clone() for name, value in features.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    contestant = make_contestant(features, CONTESTANTS["BlendMask"])
    assert torch.rand(2).equal(expected)
    list(learn(contestant, a_lesson(features), num_steps=2))
    assert all(value.equal(before[name]) for name, value in features.state_dict().items())


def test_lessons_come_in_batches(features):
    lessons = a_lesson(features)
    assert [len(lesson.targets) for lesson in lessons] == [2, 1]
    assert lessons[0].output.bases.shape[0] == 2


def test_shipped_race_has_every_contestant_and_seed():
    race = read_race()
    for by_name in race["scores"].values():
        assert list(by_name) == list(CONTESTANTS)
        for groups in by_name.values():
            assert {len(values) for values in groups.values()} == {len(race["seeds"])}
            assert all(0 < value < 100 for values in groups.values() for value in values)


def test_shipped_contestants_share_the_shipped_features_and_have_learned():
    features = load_features()
    fresh = make_contestant(features, CONTESTANTS["FCIS"])
    learned = load_contestant(features, "FCIS")
    for name, value in features.state_dict().items():
        assert learned.state_dict()[name].equal(value)
    assert not learned.state_dict()["bottom.bases.weight"].equal(
        fresh.state_dict()["bottom.bases.weight"]
    )
    with pytest.raises(ValueError, match=r"M = 1.*BlendMask, YOLACT, FCIS"):
        load_contestant(features, "M = 1")
