"""Models from folders, from torch.hub and from the Hugging Face Hub, which is played here."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hub_site import HubSite
from torch import nn

from blendmask_lite import PRESETS, BlendMask, load_model, save_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.model.merge import WeightedSum
from blendmask_lite.web import DownloadError

constants = pytest.importorskip("huggingface_hub.constants")

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = replace(PRESETS["nano"], num_classes=2)
    return BlendMask(config, class_names=NAMES, category_ids=(3, 7)).eval()


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = HubSite()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("BLENDMASK_OFFLINE", raising=False)
    # HF_ENDPOINT is read when the client is imported.
    template = f"{site.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", site.url)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's, before it tries again
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield site
    site.close()


def assert_same(found: BlendMask, wanted: BlendMask) -> None:
    assert (found.config, found.inference) == (wanted.config, wanted.inference)
    assert (found.class_names, found.category_ids) == (wanted.class_names, wanted.category_ids)
    own = wanted.state_dict()
    assert found.state_dict().keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in found.state_dict().items())


# ------------------------------------------------------------------ folders


def test_a_saved_folder_gives_the_same_model_back(model, tmp_path):
    model.save_pretrained(tmp_path / "mine", metadata={"images": 12})
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    found = BlendMask.from_pretrained(tmp_path / "mine")
    assert not found.training
    assert_same(found, model)
    assert_same(BlendMask.from_pretrained(str(tmp_path / "mine" / "model.safetensors")), model)


def test_a_folder_with_the_name_of_a_shipped_model_is_taken_if_it_has_one(
    model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()  # of images, say
    assert_same(BlendMask.from_pretrained("nano"), load_model(shipped_checkpoint("nano")))
    model.save_pretrained("nano")
    assert_same(BlendMask.from_pretrained("nano"), model)


def test_config_and_card_say_what_the_model_is(model, tmp_path):
    model.save_pretrained(tmp_path, metadata={"images": 12})
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["config"] == json.loads(json.dumps(asdict(model.config)))
    assert (content["class_names"], content["category_ids"]) == (["cat", "dog"], [3, 7])
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: blendmask_lite\n")
    for words in ("2 classes: cat, dog", "- images: 12", 'from_pretrained("OWNER/NAME")'):
        assert words in card


def test_a_card_that_was_written_by_hand_stays(model, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_weights_that_could_not_be_loaded_write_nothing(tmp_path):
    broken = BlendMask(PRESETS["nano"])
    broken.fpn.lateral["c5"].bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="undefined values"):
        broken.save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_parts_of_ones_own_are_asked_for_and_passed_on(tmp_path):
    merger = WeightedSum(num_bases=4)
    mixed = BlendMask(PRESETS["nano"], merger=merger)
    mixed.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="merger of its own"):
        BlendMask.from_pretrained(tmp_path)
    assert "merger=WeightedSum(...)" in (tmp_path / "README.md").read_text()
    found = BlendMask.from_pretrained(tmp_path, merger=WeightedSum(num_bases=4))
    assert isinstance(found.merger, nn.Module)


def test_a_folder_without_a_model_is_named_with_what_is_there(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no model.safetensors .* pytorch_model.bin"):
        BlendMask.from_pretrained(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="it is empty"):
        BlendMask.from_pretrained(tmp_path / "empty")


@pytest.mark.parametrize("source", ["pickle", "foreign", "text"])
def test_a_folder_with_another_file_under_the_right_name_is_refused(source, model, tmp_path):
    path = tmp_path / "model.safetensors"
    if source == "pickle":
        torch.save({"weight": torch.zeros(2)}, path)
    elif source == "foreign":
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"model.safetensors: (is no safetensors|not a checkp)"):
        BlendMask.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name, words",
    [
        ("R_50_3", "did you mean R_50_3x"),
        ("no/such/thing", "no such file or folder"),
        ("nano_panoptic", r'BlendMask\(PRESETS\["nano_panoptic"\]\)'),
    ],
)
def test_an_unknown_name_is_refused_with_close_matches(name, words):
    with pytest.raises(FileNotFoundError, match=words):
        BlendMask.from_pretrained(name)


def test_names_of_the_authors_models_are_known(monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path))
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"R_50_3x\.pth"):
        BlendMask.from_pretrained("R_50_3x")


# ------------------------------------------------------------------ the Hub


def test_an_uploaded_model_comes_back(model, site):
    url = model.push_to_hub("me/cats", private=True, metadata={"images": 12})
    assert url.startswith(f"{site.url}/me/cats/commit/")
    assert [each["name"] for each in site.created] == ["cats"]
    files = site.files["me/cats"]["main"]
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert b'from_pretrained("me/cats")' in files["README.md"]
    assert_same(BlendMask.from_pretrained("me/cats"), model)


def test_an_upload_leaves_an_edited_card_as_it_is(model, site):
    model.push_to_hub("cats")  # the account's own
    site.files["me/cats"]["main"]["README.md"] = b"edited"
    del site.files["me/cats"]["main"]["config.json"]
    model.push_to_hub("me/cats")
    assert site.files["me/cats"]["main"]["README.md"] == b"edited"
    assert "config.json" in site.files["me/cats"]["main"]


def test_a_revision_has_a_model_of_its_own(model, site, tmp_path):
    other = BlendMask(replace(PRESETS["nano"], num_classes=3)).eval()
    model.push_to_hub("me/cats")
    site.files["me/cats"]["v2"] = {}
    other.push_to_hub("me/cats", revision="v2")
    assert BlendMask.from_pretrained("me/cats", revision="v2").config.num_classes == 3
    with pytest.raises(DownloadError, match=r"^me/cats at revision v3: .*no such revision$"):
        BlendMask.from_pretrained("me/cats", revision="v3")


def test_without_a_network_the_cache_is_read(model, site, monkeypatch):
    model.push_to_hub("me/cats")
    BlendMask.from_pretrained("me/cats")
    asked = len(site.requests)
    assert_same(BlendMask.from_pretrained("me/cats", local_files_only=True), model)
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    assert_same(BlendMask.from_pretrained("me/cats"), model)
    assert len(site.requests) == asked
    with pytest.raises(DownloadError, match=r"^me/dogs: .*downloads are forbidden$"):
        BlendMask.from_pretrained("me/dogs")
    with pytest.raises(OSError, match="BLENDMASK_OFFLINE"):
        model.push_to_hub("me/dogs")


def test_a_hub_that_cannot_be_reached_is_one_line(model, site):
    site.close()
    with pytest.raises(DownloadError, match=r"^me/cats: .*the Hub cannot be reached$"):
        BlendMask.from_pretrained("me/cats")
    with pytest.raises(OSError, match=r"^me/cats: not uploaded \(.+\)$"):
        model.push_to_hub("me/cats")


@pytest.mark.parametrize(
    "name, words",
    [
        ("me/none", "no such repository on the Hub"),
        ("me/empty", "the repository has no model.safetensors"),
        ("me/gated", "grant access"),
        ("me/a--b", "Cannot have --"),
    ],
)
def test_what_the_hub_refuses_is_one_line(name, words, site):
    site.files |= {"me/empty": {"main": {}}, "me/gated": {"main": {}}}
    site.private.add("me/gated")
    with pytest.raises(DownloadError, match=words) as refused:
        BlendMask.from_pretrained(name)
    assert str(refused.value).startswith(f"{name}: ")
    assert "\n" not in str(refused.value)


def test_a_pickle_on_the_hub_is_never_read(site, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pickle")
    site.files["me/cats"] = {"main": {"model.safetensors": (tmp_path / "pickle").read_bytes()}}
    with pytest.raises(ValueError, match="is no safetensors file"):
        BlendMask.from_pretrained("me/cats")


@pytest.mark.slow
def test_the_endpoint_of_the_environment_is_asked(model, site, tmp_path):
    model.push_to_hub("me/cats")
    code = "from blendmask_lite import BlendMask\n"
    code += "print(*BlendMask.from_pretrained('me/cats').class_names)"
    settings = {"HF_ENDPOINT": site.url, "HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["cat", "dog"], done.stderr


def test_without_the_client_the_error_says_what_to_install(monkeypatch, model, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"blendmask_lite\[hub\]"):
        BlendMask.from_pretrained("me/cats")
    with pytest.raises(ImportError, match=r"blendmask_lite\[hub\]"):
        model.push_to_hub("me/cats")
    model.save_pretrained(tmp_path)  # folders need no client
    assert_same(BlendMask.from_pretrained(tmp_path), model)


# ------------------------------------------------------------------ torch.hub


def from_torch_hub(name: str, *words: str, **settings: object) -> BlendMask:
    return torch.hub.load(str(ROOT), name, *words, source="local", **settings)


def test_torch_hub_makes_a_preset():
    found = from_torch_hub("blendmask", "small", num_classes=3)
    assert found.config == replace(PRESETS["small"], num_classes=3)
    assert found.inference == PRESET_INFERENCE["small"]
    assert not found.training


def test_torch_hub_loads_a_checkpoint(model, tmp_path):
    save_model(model, tmp_path / "mine.safetensors")
    assert_same(from_torch_hub("blendmask", str(tmp_path / "mine.safetensors")), model)
    assert_same(from_torch_hub("nano_shapes"), load_model(shipped_checkpoint()))


def test_torch_hub_refuses_an_unknown_name_with_close_matches():
    with pytest.raises(FileNotFoundError, match="did you mean small"):
        from_torch_hub("blendmask", "smal")


def test_the_entry_points_of_torch_hub_are_described():
    entries = runpy.run_path(str(ROOT / "hubconf.py"))
    public = {name: entry for name, entry in entries.items() if callable(entry) and name[0] != "_"}
    assert set(public) == {"blendmask", "nano_shapes"}
    assert all(entry.__doc__ for entry in public.values())
