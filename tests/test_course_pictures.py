"""The network's diagram, the environment, pictures for a second look."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from blendmask_lite.course import environment, network_map, unusual_picture
from blendmask_lite.files import SHIPPED_MODELS

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

    def no_checkpoint(name):
        raise FileNotFoundError(f"{name}.pt: missing")

    monkeypatch.setattr(module, "shipped_checkpoint", no_checkpoint)
    found = environment()
    assert not found.is_ready
    assert all(f"{name}.pt: missing" in found._repr_html_() for name in SHIPPED_MODELS)
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
