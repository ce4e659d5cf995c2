"""The course in one folder for a room without a network: what is in it, and that it installs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in_wheels import write_wheel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import make_bundle  # noqa: E402
import setup  # noqa: E402
import venv_state  # noqa: E402

# Just enough of torch and torchvision for what set-up tries after it has installed them.
TORCH = "class version: cuda = None\n__version__ = '9.0'\n"
TORCH += "class tensor(list):\n    def tolist(self): return self\n"
TORCHVISION = "from types import SimpleNamespace\nimport torch\n__version__ = '9.0'\n"
TORCHVISION += "ops = SimpleNamespace(nms=lambda boxes, scores, iou: torch.tensor([0]))\n"
# What `python start.py lab` starts: it says its arguments, and where it was started from.
LAB = "import sys, torch\nprint('lab', torch.__version__, sys.prefix, *sys.argv[1:])\n"


def stand_ins(folder: Path) -> None:
    """Wheels of all packages that set-up looks for in a bundle."""
    own = {"torch": TORCH, "torchvision": TORCHVISION, "jupyterlab": LAB}
    names = {module.partition(".")[0] for module in venv_state.COURSE_MODULES} | own.keys()
    for name in names - {"blendmask_lite"}:
        files = {f"{name}/__init__.py": own.get(name, "")}
        if name == "jupyterlab":
            files = {f"{name}/__init__.py": "", f"{name}/__main__.py": LAB}
        for module in venv_state.COURSE_MODULES:
            package, _, inner = module.partition(".")
            if inner and package == name:
                files[f"{name}/{inner}.py"] = ""
        write_wheel(folder, name, "9.0", files=files)
    requires = [f"{name}; extra == 'course'" for name in sorted(names - {"blendmask_lite"})]
    write_wheel(folder, "blendmask_lite", "9.0", requires=requires, extras=["course"])


def no_network() -> list[str]:
    """Words before a command that take its network away, where this system lets us."""
    words = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which(words[0]) is None:
        return []
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []


@pytest.mark.slow
def test_bundle_installs_itself_without_a_network_and_opens_the_lab(tmp_path):
    bundle = tmp_path / "a room" / "bundle"
    make_bundle.collect_files(bundle)
    stand_ins(bundle / "wheels")
    python = venv_state.this_machine()["python"]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    nowhere |= {"PIP_CONFIG_FILE": os.devnull, "PATH": f"/usr/bin{os.pathsep}/bin"}
    environment = {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONPATH" and not key.startswith("PIP_")
    }
    for attempt in range(2):
        done = subprocess.run(
            [*no_network(), sys.executable, bundle / "start.py", "lab"],
            cwd=tmp_path,
            env=environment | nowhere,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("installing packages" in done.stdout) == (attempt == 0)
        [line] = [line for line in done.stdout.splitlines() if line.startswith("lab 9.0 ")]
        assert str(bundle / ".venv") in line
        assert f"--ServerApp.root_dir={bundle}" in line
        assert (bundle / "notebooks" / "00_start_here.ipynb").is_file()
    assert f"python{python}" in os.listdir(bundle / ".venv" / "lib")


def test_bundle_holds_what_its_notebooks_lead_to(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "api").mkdir(parents=True)
    (site / "index.html").write_text("built")
    monkeypatch.setattr(make_bundle, "SITE", site)
    bundle = tmp_path / "bundle"
    make_bundle.collect_files(bundle)
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name for path in (bundle / "notebooks").iterdir()} == names
    for path in (bundle / "notebooks").iterdir():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for place in re.findall(r"\]\((?!\w+:)([^)#\s]+)", "".join(cell["source"])):
                    assert (path.parent / place).exists(), f"{path.name}: {place}"
    assert list((bundle / "data" / "photos" / "images").glob("*.jpg"))
    assert (bundle / "site" / "index.html").read_text() == "built"
    assert json.loads((bundle / "bundle.json").read_text()) == venv_state.this_machine()
    # Its start.py needs these files alone.
    tools = {path.stem for path in (bundle / "tools").iterdir()}
    imported = {
        name
        for path in [bundle / "start.py", *(bundle / "tools").iterdir()]
        for name in re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {path.stem for path in (ROOT / "tools").glob("*.py")} & imported <= tools


@pytest.mark.parametrize("is_in_reach", [True, False])
def test_wheels_are_of_one_torch_and_without_cuda_where_that_is_to_be_had(
    tmp_path, monkeypatch, is_in_reach
):
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(setup, "is_in_reach", lambda index: is_in_reach)
    monkeypatch.setattr(make_bundle.sys, "platform", "linux")
    calls = []

    def pip(words):
        calls.append(words)
        if words[0] == "download":
            for name in ("torch-2.14.1+cpu-cp312-cp312-linux", "torchvision-0.29.1+cpu-cp312-any"):
                (tmp_path / "wheels" / f"{name}.whl").touch()

    make_bundle.collect_wheels(tmp_path / "wheels", pip)
    *download, wheel = calls
    pinned = [word for word in wheel if word.startswith("torch")]
    if is_in_reach:
        assert [words[words.index("--index-url") + 1] for words in download] == [setup.CPU_INDEX]
        assert pinned == ["torch==2.14.1+cpu", "torchvision==0.29.1+cpu"]
    else:
        assert download == pinned == []
    assert wheel[0] == "wheel" and wheel[-1] == f"{ROOT}[course]"
