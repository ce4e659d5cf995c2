"""The network's diagram, the environment, pictures for a second look, chapter 10's siblings."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.course import environment, network_map, unusual_picture
from blendmask_lite.course.siblings import learn, make_sibling, mean_crop_iou, prepare_lessons
from blendmask_lite.masks import mask_boxes
from blendmask_lite.structures import Target

# The diagram


def test_chapters_that_exist_are_links_and_others_are_not(tmp_path):
    (tmp_path / "09_blender.ipynb").write_text("{}")
    page = network_map(tmp_path)._repr_html_()
    assert '<a href="09_blender.ipynb">09 The blender</a>' in page
    assert page.count("<a ") == 1
    assert "06 Bases" in page
    assert "chapter 09" in str(network_map(tmp_path))
    assert "without a link" in page
    for number in range(16):
        (tmp_path / f"{number:02d}_x.ipynb").write_text("")
    page = network_map(tmp_path)._repr_html_()
    assert page.count("<a ") == 16 and "without a link" not in page


# The environment


def test_environment_is_named_with_its_versions(monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_BUDGET", "smoke")
    monkeypatch.setenv("BLENDMASK_COCO", str(tmp_path))
    text = str(environment())
    assert torch.__version__.split("+")[0] in text
    assert "smoke" in text
    assert str(tmp_path) in text


def test_missing_model_and_library_are_said_and_do_not_raise(monkeypatch):
    module = sys.modules["blendmask_lite.course.environment"]

    def no_checkpoint():
        raise FileNotFoundError("nano.pt: missing")

    monkeypatch.setattr(module, "shipped_checkpoint", no_checkpoint)
    found = environment()
    assert not found.is_ready
    assert "nano.pt: missing" in found._repr_html_()
    assert module._library("no_such_library") == (False, "no_such_library", "not installed")


# A second picture


def test_without_photographs_the_picture_is_a_scene(monkeypatch):
    monkeypatch.delenv("BLENDMASK_COCO", raising=False)
    image, what = unusual_picture(size=96)
    assert image.shape == (3, 96, 96)
    assert "generated" in what
    assert not image.equal(unusual_picture(1, size=96)[0])


def test_photograph_is_resized_to_its_shorter_side(tmp_path, monkeypatch):
    (tmp_path / "val").mkdir()
    Image.new("L", (40, 20), 100).save(tmp_path / "val" / "grey.jpg")
    monkeypatch.setenv("BLENDMASK_COCO", str(tmp_path))
    image, what = unusual_picture(5, size=30)
    assert image.shape == (3, 30, 60)
    assert what == "a photograph"


def test_folder_without_photographs_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDMASK_COCO", str(tmp_path))
    with pytest.raises(ValueError, match=r"BLENDMASK_COCO.*no \.jpg"):
        unusual_picture()


# Siblings


@pytest.fixture(scope="module")
def model() -> BlendMask:
    torch.manual_seed(0)
    return BlendMask(PRESETS["nano"]).eval()


def a_lesson(model):
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:30] = True
    masks[1, 20:60, 30:60] = True
    target = Target(boxes=mask_boxes(masks), labels=torch.tensor([0, 1]), masks=masks)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    return prepare_lessons(model, [image] * 3, [target] * 3, batch_size=2)


@pytest.mark.parametrize(
    ("merger", "num_bases"), [("blender", 4), ("weighted_sum", 32), ("assembler", 49)]
)
def test_sibling_learns_its_last_layers_and_nothing_else(model, merger, num_bases):
    lessons = a_lesson(model)
    sibling = make_sibling(model, merger=merger, num_bases=num_bases)
    before = {name: value.clone() for name, value in sibling.state_dict().items()}
    losses = list(learn(sibling, lessons, num_steps=12))
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    changed = {n for n, value in sibling.state_dict().items() if not value.equal(before[n])}
    assert changed
    assert all(name.startswith(("bottom.", "top_layer.")) for name in changed)
    assert 0 <= mean_crop_iou(sibling, lessons) <= 1


def test_sibling_keeps_the_features_and_begins_its_bases_anew(model):
    sibling = make_sibling(model, merger="weighted_sum", num_bases=32)
    own, other = model.state_dict(), sibling.state_dict()
    assert own["fpn.lateral.c3.weight"].equal(other["fpn.lateral.c3.weight"])
    assert other["bottom.bases.weight"].shape[0] == 32
    again = make_sibling(model, merger="blender", num_bases=4, seed=1)
    assert not again.state_dict()["bottom.bases.weight"].equal(own["bottom.bases.weight"])


def test_making_a_sibling_leaves_the_global_random_state_and_the_model_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    sibling = make_sibling(model, merger="blender", num_bases=4)
    assert torch.rand(2).equal(expected)
    list(learn(sibling, a_lesson(model), num_steps=2))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_lessons_come_in_batches(model):
    lessons = a_lesson(model)
    assert [len(lesson.targets) for lesson in lessons] == [2, 1]
    assert lessons[0].output.bases.shape[0] == 2
