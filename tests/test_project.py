"""The project as a whole: what is declared in one place agrees with the other places."""

from __future__ import annotations

import itertools
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import conftest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_BYTES = 10_000_000
MAX_LINES = 600
# conda-forge's names where they differ from those of the Python package index.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
FROM_PYPI = {"hotcoco"}  # installed with the package itself, from the Python package index


def run_python(code: str) -> str:
    """What a fresh interpreter prints, with nothing imported before `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return [path for path in ROOT.glob("blendmask_lite/**/*") if path.is_file()]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file()]


def notebook_cells() -> list[tuple[str, dict]]:
    cells = []
    for path in sorted(ROOT.glob("notebooks/**/*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                cells.append((path.name, cell))
    return cells


# ------------------------------------------------------------------ set-up


def test_conda_environment_has_the_same_packages_and_floors_as_pyproject():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    expected = {f"python{project['requires-python']}"}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["course"]]:
        name, floor = re.fullmatch(r"([a-z_-]+)(>=[\d.]+)", requirement).groups()
        if name not in FROM_PYPI:
            expected.add(CONDA_NAMES.get(name, name) + floor)
    environment = yaml.safe_load(read("environment.yml"))
    conda = {each for each in environment["dependencies"] if isinstance(each, str)}
    assert conda - {"pip"} == expected
    assert environment["name"] == project["name"]
    [pip] = [each["pip"] for each in environment["dependencies"] if isinstance(each, dict)]
    extras = re.fullmatch(r"-e \.\[(.*)\]", pip[0])[1].split(",")
    assert set(extras) == set(project["optional-dependencies"])


def test_the_lowest_versions_are_the_floors_of_pyproject():
    floors = runpy.run_path(str(ROOT / "tools" / "lowest_versions.py"))["floors"]
    project = {
        "dependencies": ["torch>=2.11"],
        "optional-dependencies": {
            **{name: [] for name in ("timm", "hub", "export", "tensorboard", "test", "dev")},
            "course": ["ipykernel>=7.4,<8"],
        },
    }
    assert floors(project) == ["torch==2.11", "ipykernel==7.4"]
    own = floors(tomllib.loads(read("pyproject.toml"))["project"])
    assert all(re.fullmatch(r"[a-z_-]+==\d+(\.\d+)*", each) for each in own)
    assert len(own) == len(set(own)) > 20


def test_every_package_that_setup_verifies_is_declared():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *itertools.chain(*extras)]
    names = {re.match(r"[a-z_-]+", each)[0].replace("-", "_") for each in declared}
    # Imported under another name.
    names |= {"PIL", "yaml", "xdist", "importlinter", "blendmask_lite"}
    lists = re.findall(r"_MODULES = \((.*?)\)", read("tools/venv_state.py"), flags=re.DOTALL)
    assert len(lists) == 2
    for module in re.findall(r'"([\w.]+)"', " ".join(lists)):
        assert module.partition(".")[0] in names


ROOMS = {
    path.relative_to(ROOT / "blendmask_lite").as_posix() + "/"
    for path in (ROOT / "blendmask_lite").rglob("*")
    if path.is_dir() and (path / "__init__.py").exists()
}


def test_the_house_on_one_page_has_every_room_and_no_other():
    [house] = re.findall(r"## The house\n(.*?)\n## ", read("CONTRIBUTING.md"), flags=re.DOTALL)
    firsts = [row.split("|")[1] for row in house.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`([\w/.]+)`", " ".join(firsts)))
    files = {path.name for path in (ROOT / "blendmask_lite").glob("*.py")}
    assert named == ROOMS | files - {"__init__.py", "__main__.py"}
    for row in house.splitlines():
        if row.startswith("| `"):  # files that a room's sentence names lie in it
            _, first, sentence, *_ = row.split("|")
            package = ROOT / "blendmask_lite"
            rooms = [package, *(package / each for each in re.findall(r"`([\w/]+/)`", first))]
            for name in re.findall(r"`(\w+\.py)`", sentence):
                assert any((room / name).exists() for room in rooms), name


def test_the_map_of_the_readme_has_every_room_of_the_ground_floor():
    [text] = re.findall(r"## The map\n(.*?)\n## ", read("README.md"), flags=re.DOTALL)
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    names = re.findall(r"`([^`]+)`", " ".join(rows))
    named = {name.removeprefix("blendmask_lite/") for name in names}
    assert {room for room in ROOMS if room.count("/") == 1} <= named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "blendmask_lite" / name).exists(), name


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_of_the_documents_exists(document):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", read(document), flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_every_command_of_the_makefile_is_in_its_help():
    makefile = read("Makefile")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    helped = re.findall(r"^([a-z-]+):.*## \S", makefile, flags=re.MULTILINE)
    assert sorted(helped) == sorted(phony.split())


def test_tests_that_drive_a_browser_go_to_two_processes_and_share_a_jupyterlab_in_one():
    groups = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "pytest.mark.browser" in text and path != Path(__file__):
            name = path.relative_to(ROOT).as_posix()
            group = conftest.group_of(f"{name}::test")
            assert ": JupyterLab" not in text or group == "browser: lab", name
            groups.add(group)
    assert groups == {"browser: lab", "browser: pages"}
    assert conftest.group_of("tests/test_model.py::test[a::b]") == "tests/test_model.py"
    assert conftest.group_of("notebooks/06_bases.ipynb::Cell 3") == "notebooks/06_bases.ipynb"


def test_every_script_that_the_makefile_runs_exists():
    scripts = re.findall(r"\b((?:(?:tools|benchmarks)/)?\w+\.(?:py|sh))", read("Makefile"))
    assert scripts
    assert [name for name in scripts if not (ROOT / name).is_file()] == []


def test_version_is_the_same_everywhere():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"version: {version}\n" in read("CITATION.cff")
    assert f"({version})" in read("CHANGELOG.md") or f"## {version}" in read("CHANGELOG.md")


# ------------------------------------------------------------------ the README's promises


@pytest.mark.slow
def test_first_mask_of_the_readme_runs_and_finds_objects():
    [block] = re.findall(
        r"## Your first mask\n.*?```python\n(.*?)```", read("README.md"), flags=re.DOTALL
    )
    lines = [line for line in block.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 10
    printed = run_python(block).splitlines()
    assert printed
    assert all(re.fullmatch(r"\w+ +0\.\d\d +\d+ pixels", line) for line in printed)


def test_command_line_answers_help_for_every_command_of_the_readme(capsys):
    commands = set(re.findall(r"^blendmask-lite ([a-z]+)", read("README.md"), flags=re.MULTILINE))
    from blendmask_lite.cli import COMMANDS, main

    assert commands == set(COMMANDS)
    for command in sorted(commands):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert not ended.value.code
        assert f"usage: blendmask-lite {command}" in capsys.readouterr().out


def test_package_is_the_command_line_when_run_as_a_module():
    arguments = [sys.executable, "-m", "blendmask_lite", "runs", "--help"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: blendmask-lite runs" in done.stdout


# ------------------------------------------------------------------ the package


# What takes seconds to import, or is no dependency of those who only want a list of commands.
HEAVY = {
    "torch",
    "torchvision",
    "numpy",
    "PIL",
    "matplotlib",
    "pycocotools",
    "hotcoco",
    "ipywidgets",
    "anywidget",
    "IPython",
    "pandas",
    "huggingface_hub",
}


def heavy_modules_after(code):
    loaded = run_python(
        f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    return HEAVY & set(loaded.splitlines()[-1].split())


def test_import_of_the_package_loads_nothing_heavy():
    assert heavy_modules_after("import blendmask_lite; blendmask_lite.PRESETS") == set()


@pytest.mark.slow
def test_a_model_needs_torch_and_torchvision_only():
    # torch and torchvision bring numpy and pillow along where they find them.
    loaded = heavy_modules_after("from blendmask_lite import BlendMask, load_model")
    assert {"torch", "torchvision"} <= loaded <= {"torch", "torchvision", "numpy", "PIL"}


@pytest.mark.parametrize("words", [["--help"], ["runs", "--help"], ["runs"], ["train", "--help"]])
def test_help_and_lists_of_runs_load_nothing_heavy(words, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    words = [*words, str(tmp_path)] if words == ["runs"] else words
    code = f"from blendmask_lite.cli import main\ntry: main({words!r})\nexcept SystemExit: pass"
    assert heavy_modules_after(code) == set()


WITHOUT_JUPYTER = """
import importlib.abc, os, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("IPython", "ipywidgets", "anywidget", "ipykernel"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.slow
def test_the_command_line_works_without_jupyter(tmp_path):
    words = "--images 2 --size 128"
    training = "-o run --iterations 1 --batch-size 2 --size 128 --snapshots 2"
    lines = [
        f"shapes data {words}",
        f"train data {training}",
        "evaluate run/model.safetensors data --plot figures",
        "segment data/train/000000.png --weights run/model.safetensors -o out",
        "data check data",
        "runs run",
        "models",
    ]
    code = f"{WITHOUT_JUPYTER}os.chdir({str(tmp_path)!r})\nfrom blendmask_lite.cli import main\n"
    code += f"print([main(line.split()) for line in {lines!r}])"
    assert run_python(code).splitlines()[-1] == str([0] * len(lines))


def test_the_lab_says_what_it_needs():
    code = "try:\n    import blendmask_lite.lab\nexcept ImportError as error:\n    print(error)"
    assert "blendmask_lite[course]" in run_python(WITHOUT_JUPYTER + code)


def test_every_public_name_can_be_imported():
    import blendmask_lite

    names = {name for names in blendmask_lite._MODULES.values() for name in names}
    assert names == set(blendmask_lite.__all__) <= set(dir(blendmask_lite))
    for name in blendmask_lite.__all__:
        assert getattr(blendmask_lite, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        blendmask_lite.nothing  # noqa: B018


@pytest.mark.slow
def test_import_prints_nothing_and_touches_no_seed():
    printed = run_python(
        "import torch\n"
        "torch.manual_seed(3); before = torch.random.get_rng_state()\n"
        "import blendmask_lite\n"
        "assert torch.equal(before, torch.random.get_rng_state())"
    )
    assert printed == ""


def test_layers_import_only_from_below():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_layer_of_the_package_is_named_in_the_contract():
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    named = set(re.findall(r"\w+", " ".join(contracts[0]["layers"])))
    present = {path.stem for path in (ROOT / "blendmask_lite").glob("*.py")} - {"__init__"}
    present |= {path.parent.name for path in (ROOT / "blendmask_lite").glob("*/__init__.py")}
    assert present <= named


def test_library_files_are_short_enough_to_read_in_one_sitting():
    too_long = {
        path.name: length
        for path in ROOT.glob("blendmask_lite/**/*.py")
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert too_long == {}


def test_files_are_small_and_name_no_folder_of_one_machine():
    for path in tracked_files():
        assert path.stat().st_size < MAX_FILE_BYTES, path
        if path.suffix in {".py", ".md", ".toml", ".yml", ".ipynb", ".cff", ".sh"}:
            text = path.read_text(encoding="utf-8")
            found = re.search(r"(?<![\w.])/(home|Users|root|work|mnt)/\w+", text)
            assert found is None, f"{path}: {found and found[0]}"


# ------------------------------------------------------------------ notebooks


def test_notebooks_hold_no_outputs_and_no_magics():
    cells = notebook_cells()
    assert cells
    for name, cell in cells:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert cell["outputs"] == [] and cell["execution_count"] is None, f"{name}: {source}"
            magic = re.search(r"^\s*[!%]", source, flags=re.MULTILINE)
            assert magic is None, f"{name}: {source}"
