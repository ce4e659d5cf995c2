"""The playground's build and its server, without a browser and without the npm registry."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "playground"


def from_file(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


make_playground = from_file(ROOT / "tools" / "make_playground.py")
serve = from_file(PAGE / "serve.py")


@pytest.fixture
def address(tmp_path):
    (tmp_path / "page.mjs").write_text("export default 1;\n" * 100)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    server = serve.make_server(tmp_path, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_server_sends_types_and_the_headers_that_allow_threads(address):
    asked = urllib.request.Request(f"{address}page.mjs", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["Content-Type"] == "text/javascript"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert gzip.decompress(answer.read()) == b"export default 1;\n" * 100
    with urllib.request.urlopen(f"{address}picture.png") as answer:
        assert answer.headers["Content-Encoding"] is None
        assert answer.read() == b"\x89PNG"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(
            urllib.request.Request(f"{address}gone.js", headers={"Accept-Encoding": "gzip"})
        )


def test_the_server_stays_in_its_folder(address, tmp_path):
    (tmp_path.parent / "secret.json").write_text("{}")
    for path in ("../secret.json", "%2e%2e/secret.json"):
        asked = urllib.request.Request(address + path, headers={"Accept-Encoding": "gzip"})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(asked)


def test_run_lengths_begin_with_zeros_and_cover_the_mask():
    mask = torch.tensor([[True, True, False], [False, False, True]])
    assert make_playground.run_lengths(mask) == [0, 2, 3, 1]
    assert make_playground.run_lengths(~mask) == [2, 3, 1]
    assert make_playground.run_lengths(torch.zeros(2, 2, dtype=torch.bool)) == [4]


def test_without_npm_the_build_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(make_playground, "BUILD", tmp_path)
    monkeypatch.setattr(make_playground.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="comes from the npm registry: install npm"):
        make_playground.fetch_runtime()


def test_a_runtime_with_another_checksum_is_refused(tmp_path, monkeypatch):
    def pack(command, **_):
        with tarfile.open(Path(command[-1]) / "other.tgz", "w:gz") as archive:
            archive.add(PAGE / "index.html", "package/dist/ort.wasm.min.mjs")
        return make_playground.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(make_playground, "BUILD", tmp_path)
    monkeypatch.setattr(make_playground.shutil, "which", lambda name: name)
    monkeypatch.setattr(make_playground.subprocess, "run", pack)
    with pytest.raises(RuntimeError, match="its SHA-512 is"):
        make_playground.fetch_runtime()
    assert list((tmp_path / "npm").iterdir()) == []  # nothing half made is left


def test_there_are_twelve_scenes_that_no_model_was_trained_on():
    keys = [shown.key for shown in make_playground.SCENES]
    assert len(set(keys)) == 12 and not set(keys) & set(make_playground.PHOTO_TITLES)
    # The trainings of the shipped models have other seeds.
    logs = [ROOT / "blendmask_lite" / "data" / f"{name}_shapes.json" for name in ("nano", "small")]
    seeds = {int(each) for log in logs for each in re.findall(r'"seed": (\d+)', log.read_text())}
    assert seeds and make_playground.HELD_OUT not in seeds
    photos = {path.stem for path in (ROOT / "data" / "photos" / "images").iterdir()}
    assert set(make_playground.PHOTO_TITLES) == photos


def test_the_page_asks_no_other_host_for_anything():
    for path in PAGE.iterdir():
        if path.suffix in (".js", ".css", ".html"):
            addresses = re.findall(r"https?://[^\s\"'<>)]+", path.read_text())
            allowed = ("http://www.w3.org/", "https://arxiv.org/")
            assert [each for each in addresses if not each.startswith(allowed)] == [], path.name


def test_the_tours_texts_are_in_one_file_and_complete():
    texts = json.loads((PAGE / "tour.json").read_text())
    assert set(texts["words"]) == {"step", "next", "back", "leave", "end", "closing"}
    assert 8 <= len(texts["steps"]) <= 12
    keys = {shown.key for shown in make_playground.SCENES}
    for step in texts["steps"]:
        assert set(step) == {"title", "text", "ask", "gesture", "view", "light"}
        assert re.search(r"p=(\w+)", step["view"])[1] in keys
