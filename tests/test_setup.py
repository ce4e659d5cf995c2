"""Set-up and `start.py`: where torch comes from, on which systems, and what `make` and it share."""

from __future__ import annotations

import ast
import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image
from stand_in_wheels import write_wheel

from blendmask_lite.datasets.shapes import ShapesDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import commands  # noqa: E402
import lab  # noqa: E402
import setup  # noqa: E402
import venv_state  # noqa: E402

PLACE = {**os.environ, "PYTHONPATH": str(ROOT)}
HERE = {"system": "Linux", "machine": "x86_64", "python": "3.12"}


def choice(*, has_card=False, is_in_reach=True, platform="linux") -> str:
    return setup.choose_torch_index(
        has_card=lambda: has_card, is_in_reach=lambda index: is_in_reach, platform=platform
    )


@contextlib.contextmanager
def served(folder: Path):
    """The address on this machine under which a folder can be read."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    handler = lambda *args: Quiet(*args, directory=str(folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


# ------------------------------------------------------------------ where torch comes from


def test_without_an_nvidia_card_linux_takes_the_small_torch(monkeypatch, capsys):
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    assert choice() == setup.CPU_INDEX
    assert "without CUDA" in capsys.readouterr().out
    assert choice(has_card=True) == ""
    # There the default index has a torch without CUDA.
    assert choice(platform="darwin") == choice(platform="win32") == ""


def test_index_out_of_reach_is_said_and_the_default_one_taken(monkeypatch, capsys):
    monkeypatch.setenv("TORCH_INDEX", "")  # as make passes on what is not set
    assert choice(is_in_reach=False) == ""
    assert f"{setup.CPU_INDEX} is out of reach" in capsys.readouterr().out


@pytest.mark.parametrize("has_card", [True, False])
def test_torch_index_overrides_what_is_found(monkeypatch, has_card):
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/whl")
    assert choice(has_card=has_card, is_in_reach=False) == "https://example.org/whl"


def test_index_is_in_reach_if_it_has_a_page_for_torch(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with served(tmp_path) as address:
        assert not setup.is_in_reach(address)
        (tmp_path / "torch").mkdir()
        assert setup.is_in_reach(address)
    assert not setup.is_in_reach(address)  # nobody listens there any more
    assert not setup.is_in_reach("no address")


@pytest.mark.parametrize(("listed", "found"), [("GPU 0: NVIDIA H200", True), ("", False)])
def test_card_is_what_its_driver_lists(monkeypatch, tmp_path, listed, found):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert setup.has_nvidia_card() is found


@pytest.mark.slow
def test_pip_takes_a_matching_pair_from_an_index_on_this_machine(monkeypatch, tmp_path):
    """With torch and torchvision that are only their names: 9.1 has no torchvision that fits it."""
    index, venv = tmp_path / "whl" / "cpu", tmp_path / "course" / ".venv"
    write_wheel(index / "torch", "torch", "9.1+cpu")
    write_wheel(index / "torch", "torch", "9.0+cpu")
    write_wheel(index / "torchvision", "torchvision", "9.0+cpu", requires=["torch (==9.0)"])
    for name in ("http_proxy", "https_proxy", "all_proxy", "PIP_FIND_LINKS", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    venv.parent.mkdir()
    for name, value in {"ROOT": venv.parent, "VENV": venv, "LOG": venv / "pip.log"}.items():
        monkeypatch.setattr(setup, name, value)
    monkeypatch.setattr(setup, "PYTHON", venv_state.interpreter(venv))
    monkeypatch.setattr(setup, "dependencies", lambda: ["torch>=2.11", "torchvision>=0.26"])
    monkeypatch.setattr(setup, "has_nvidia_card", lambda: False)
    monkeypatch.setattr(setup.shutil, "which", lambda name, path=None: None)
    run = setup.run_installer
    monkeypatch.setattr(
        setup, "run_installer", lambda log, words: "--editable" in words or run(log, words)
    )
    with served(tmp_path) as address:
        monkeypatch.setattr(setup, "CPU_INDEX", f"{address}/whl/cpu")
        setup.install()
    code = "import torch, torchvision; print(torch.__version__, torchvision.__version__)"
    found = subprocess.run([setup.PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["9.0+cpu", "9.0+cpu"]


# ------------------------------------------------------------------ what is installed, and how


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The command lines that set-up would run; `fails` says which fail, `words` what some say."""

    class Calls(list):
        fails, words = (), {}

    calls = Calls()

    def run(log, command):
        calls.append(command)
        log.write(calls.words.get(command[0], "ERROR: no such wheel\n"))
        log.flush()
        return not any(word in " ".join(command) for word in calls.fails)

    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(setup, "run_installer", run)
    monkeypatch.setattr(setup, "LOG", tmp_path / "pip.log")
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup, "check_space", lambda index: None)
    monkeypatch.setattr(setup, "has_nvidia_card", lambda: False)
    monkeypatch.setattr(setup, "is_in_reach", lambda index: True)
    monkeypatch.setattr(setup.sys, "platform", "linux")
    ready = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(setup, "run_quietly", lambda command: ready)
    monkeypatch.setattr(setup.shutil, "which", lambda name, path=None: None)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    return calls


def test_torch_and_torchvision_come_together_and_before_the_rest(installed):
    setup.install()
    torch, rest = installed
    place = torch.index("--index-url")
    assert torch[place + 1] == setup.CPU_INDEX
    assert [re.match(r"\w+", word)[0] for word in torch[place + 2 :]] == ["torch", "torchvision"]
    assert "--upgrade" not in torch  # a torch that is there and fits is not replaced
    assert "--index-url" not in rest and rest[-2:] == ["--editable", f".[{setup.EXTRAS}]"]


def test_failing_index_that_nobody_asked_for_leaves_the_default_one(installed, capsys):
    installed.fails = ("--index-url",)
    setup.install()
    assert len(installed) == 2 and "--editable" in installed[-1]
    assert "no such wheel" in capsys.readouterr().out


def test_failing_index_that_was_asked_for_is_an_error(installed, monkeypatch):
    installed.fails = ("--index-url",)
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/whl")
    with pytest.raises(setup.SetupError, match="no such wheel"):
        setup.install()
    assert "--upgrade" in installed[0]


def test_uv_installs_where_it_is_and_pip_where_it_fails(installed, monkeypatch, capsys):
    monkeypatch.setattr(setup.shutil, "which", lambda name, path=None: "/bin/uv")
    setup.install()
    assert [command[:3] for command in installed] == [["/bin/uv", "pip", "install"]] * 2
    assert all(str(setup.PYTHON) in command for command in installed)
    installed.clear()
    installed.fails = ("/bin/uv",)
    setup.install()
    assert [command[0] for command in installed] == ["/bin/uv", str(setup.PYTHON)] * 2
    assert "uv failed" in capsys.readouterr().out


def test_a_failure_is_explained_by_the_words_of_pip_and_not_of_uv_before_it(installed, monkeypatch):
    monkeypatch.setattr(setup.shutil, "which", lambda name, path=None: "/bin/uv")
    installed.words = {"/bin/uv": "  cause: Connection refused (os error 111)\n"}
    installed.fails = ("/bin/uv", "--editable")
    with pytest.raises(setup.SetupError, match="pip failed: no such wheel"):
        setup.install()


def test_bundle_is_installed_from_its_folder_alone(installed, monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "WHEELS", tmp_path)
    monkeypatch.setattr(setup, "is_in_reach", lambda index: pytest.fail("asked the network"))
    setup.install()
    [command] = installed
    assert command[-4:] == ["--no-index", "--find-links", str(tmp_path), "blendmask_lite[course]"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading torch-2.14.1+cpu-cp312-cp312-linux.whl (190.1 MB)", "torch-2.14.1+cpu"),
        (" Downloading torch (181.3MiB)", "torch"),
        (" Downloading nvidia-cuda-nvrtc (44.8MiB)", "nvidia-cuda-nvrtc"),
        ("  Downloading nvidia_nccl-2.30.7-py3-none-linux.whl (1.2 GB)", "nvidia_nccl-2.30.7"),
        ("  Downloading scikit_image-0.26-cp312-cp312-linux.whl (13.0 MB)", "scikit_image-0.26"),
        ("  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)", None),
        ("  Downloading pillow-12.0-cp312.whl (7.0 MB)", None),
    ],
)
def test_large_downloads_are_named(line, shown):
    found = setup.DOWNLOAD.search(line)
    assert (found and found[1]) == shown


# ------------------------------------------------------------------ systems


def test_windows_has_its_interpreter_and_packages_elsewhere(tmp_path):
    assert venv_state.interpreter(tmp_path, "win32") == tmp_path / "Scripts" / "python.exe"
    assert venv_state.interpreter(tmp_path, "linux") == tmp_path / "bin" / "python"
    assert venv_state.site_packages(tmp_path, "win32") == tmp_path / "Lib" / "site-packages"
    (tmp_path / "lib" / "python3.12").mkdir(parents=True)
    packages = venv_state.site_packages(tmp_path, "darwin")
    assert packages == tmp_path / "lib" / "python3.12" / "site-packages"


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_environment_knows_where_it_was_made(tmp_path, system):
    home = tmp_path / "a folder"
    made = f"command = /usr/bin/python3 -m venv {home / '.venv'}\n"
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\n{made}")
    assert venv_state.home_of_scripts(tmp_path) == home / ".venv"
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert venv_state.home_of_scripts(tmp_path) is None
    assert venv_state.home_of_scripts(tmp_path / "none") is None


def test_browser_needs_no_display_variable_on_windows_and_macos(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lab.webbrowser, "get", lambda: object())
    assert lab.has_browser("win32") and lab.has_browser("darwin")
    assert not lab.has_browser("linux")


def test_windows_waits_for_the_command_and_hands_on_its_status(tmp_path):
    words = [sys.executable, "-c", "import os, sys; sys.exit(int(os.environ['STATUS']))"]
    assert venv_state.become(words, {**os.environ, "STATUS": "7"}, system="win32") == 7


def test_no_file_is_read_or_written_in_the_encoding_of_one_system(tmp_path):
    """Windows' own is not UTF-8. Python warns of it where it is asked to."""
    code = "import sys; sys.path.insert(0, 'tools'); import setup, commands, venv_state as v\n"
    code += "setup.dependencies(); v.glance(); v.home_of_scripts(); v.is_up_to_date()\n"
    code += "setup.has_nvidia_card(); setup.verify = None; commands.main([])"
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    done = subprocess.run(
        [sys.executable, *strict, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in ("setup", "commands", "venv_state", "lab"):
        text = (ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8")
        for call in re.findall(r"\.(?:read_text|write_text|open)\([^\n]*\)", text):
            assert "encoding=" in call, f"{name}.py: {call}"


def texts_without_encoding(source: str) -> list[str]:
    """Calls that read or write text and do not say how it is encoded."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
        given = {each.arg for each in call.keywords}
        place = {"read_text": 0, "write_text": 1}.get(call.func.attr)
        is_open = call.func.attr == "open" and (
            "newline" in given or any(mode in ("r", "w", "a", "x") for mode in modes)
        )
        is_text = is_open or (place is not None and len(call.args) <= place)
        if is_text and "encoding" not in given:
            found.append(ast.unparse(call))
    return found


def test_no_file_of_the_package_or_its_tools_is_in_the_encoding_of_one_system():
    for path in sorted([*(ROOT / "blendmask_lite").rglob("*.py"), *(ROOT / "tools").glob("*.py")]):
        assert texts_without_encoding(path.read_text(encoding="utf-8")) == [], path
    bad = ["a.read_text()", "a.write_text(b)", "a.open('w')", "a.open(newline='')"]
    assert texts_without_encoding("; ".join(bad)) == bad
    good = "a.read_text('utf-8'); a.open('rb'); a.open('w', encoding='utf-8'); Image.open(a)"
    assert texts_without_encoding(good) == []


# ------------------------------------------------------------------ start.py


def test_start_lists_its_commands_and_refuses_others(capsys):
    assert commands.main([]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", listed, re.MULTILINE) for name in commands.COMMANDS)
    assert commands.main(["labs"]) == 2


def test_start_sets_up_before_it_starts_anything():
    started = []
    options = {"start": lambda words, environment: started.append(words) or 5}
    assert commands.main(["lab"], set_up=lambda: 1, **options) == 1
    assert commands.main(["setup"], set_up=lambda: 0, **options) == 0
    assert started == []
    assert commands.main(["lab", "--debug"], set_up=lambda: 0, **options) == 5
    assert started == [[str(venv_state.PYTHON), str(ROOT / "tools" / "lab.py"), "--debug"]]


def test_tests_of_start_compute_little_unless_told_otherwise():
    assert commands.settings("test", {})["BLENDMASK_BUDGET"] == "smoke"
    assert commands.settings("test", {"BLENDMASK_BUDGET": "gpu"})["BLENDMASK_BUDGET"] == "gpu"
    assert commands.settings("lab", {"OMP_NUM_THREADS": ""}) == {"OMP_NUM_THREADS": "1"}
    words = commands.command_line("test", ["-k", "masks"], {"JOBS": "2"})
    assert words[3:5] == ["-n", "2"] and words[-4:] == ["-k", "masks", "tests", "notebooks"]


def test_start_finds_objects_in_a_photograph_of_ones_own(tmp_path):
    words = commands.command_line("segment", [str(tmp_path / "a.png"), "-o", "found"], {})
    pixels = ShapesDataset(1, seed=7).load(0).image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env=PLACE, check=True)
    assert (tmp_path / "found" / "0001_a.png").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
@pytest.mark.parametrize("name", commands.COMMANDS)
def test_make_calls_what_start_calls(name):
    """With an interpreter that only says what it is asked to run."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", name, "PYTEST_ARGS=-k masks", "IMAGES=a.jpg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    words = f"start.py {name}" + {"test": " -k masks", "segment": " a.jpg"}.get(name, "")
    assert re.search(rf"\"\$python\" {words}$", done.stdout.strip())


def test_python_that_is_too_old_is_told_so_in_one_line(tmp_path):
    source = (ROOT / "start.py").read_text(encoding="utf-8")
    old = "import sys; sys.version_info = (3, 8, 1)\n"
    done = subprocess.run([sys.executable, "-c", old + source], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "start.py: this is Python 3.8, 3.11 is the oldest that works\n"
    compile(source, "start.py", "exec", flags=0, dont_inherit=True)


def test_bundle_for_another_machine_is_refused_before_anything_is_made(tmp_path):
    bundle = tmp_path / "bundle.json"
    assert commands.problem_of_bundle(bundle, HERE) == ""
    bundle.write_text(json.dumps(HERE))
    assert commands.problem_of_bundle(bundle, HERE) == ""
    problem = commands.problem_of_bundle(bundle, HERE | {"python": "3.13"})
    assert "for Python 3.12 on Linux (x86_64), and this is Python 3.13 on Linux" in problem
    assert "\n" not in problem
