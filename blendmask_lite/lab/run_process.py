"""The process behind the training monitor: to start it, to find it again, to ask it to stop.

It is a separate process, not a thread: the kernel stays free, interrupting or restarting the kernel
does not end the training, and it can be stopped by a signal, as from a terminal, which a thread
could not receive. Its state is read from the run's folder, as for a run that was started elsewhere.

process.json  the last process that the lab started, and its options
output.txt    what that process printed
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blendmask_lite.files import write_atomically
from blendmask_lite.training.run_folder import RunFolder, RunRecord, is_held, read_run

__all__ = ["RunProcess", "own_options"]

COMMAND = (sys.executable, "-m", "blendmask_lite", "train")
RECORD, OUTPUT = "process.json", "output.txt"
STOPPED = 130  # exit code of a training that stopped on request
TAIL = 3000  # number of bytes read from the end of the output


@dataclass(frozen=True)
class _Started:
    process: int
    machine: str
    session: int  # index of the process's session in run.json
    options: tuple[str, ...]
    working_directory: str


class RunProcess:
    """A training in a folder, in a process of its own.

    Args:
        folder: the run's folder; it need not exist yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().resolve()
        self.run = RunFolder(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether a process is training here, or is just starting or ending."""
        return self._is_ours or is_held(self.run)

    @property
    def can_stop(self) -> bool:
        """Whether the process was started by the lab, on this machine."""
        return self._is_ours or self._find() is not None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process started here; None if none was started or it is running."""
        return None if self._process is None else self._process.poll()

    def read(self) -> RunRecord | None:
        """The folder's record; None if there is no folder yet."""
        return read_run(self.folder) if self.folder.is_dir() else None

    def begin(self, options: Sequence[str]) -> None:
        """Start a training; relative paths begin at the working directory.

        Args:
            options: options of `blendmask-lite train`, without the folder.

        Raises:
            ValueError: a process is training here, or the options name a folder.
            FileExistsError: the folder already has a run.
        """
        if self.run.last.exists() or self.run.model.exists():
            raise FileExistsError(
                f"{self.folder}: holds a run already; resume it, or choose another folder"
            )
        self._start(tuple(options), str(Path.cwd()), is_resumed=False)

    def resume(self) -> None:
        """Continue the run from its last checkpoint, with the options that it was started with.

        Raises:
            ValueError: a process is training here, or the options are unknown.
        """
        started = self._started()
        if started is not None:
            options, place = started.options, started.working_directory
        else:
            record = self.read()
            options = own_options(record.text("command") if record else "")
            place = str(Path.cwd())
        if not options:
            raise ValueError(f"{self.folder}: run.json does not say how the run was started")
        self._start(options, place, is_resumed=True)

    def ask_to_stop(self) -> None:
        """Send SIGTERM: the training finishes its step, saves, and ends.

        Raises:
            ValueError: nothing is running, or it was started elsewhere.
        """
        if self._is_ours:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            return
        number = self._find()
        if number is not None:
            os.kill(number, signal.SIGTERM)
        elif is_held(self.run):
            raise ValueError(
                f"{self.folder}: this training was started elsewhere; stop it there with Ctrl-C"
            )
        else:
            raise ValueError(f"{self.folder}: nothing runs here")

    def last_words(self) -> str:
        """The last line that the process printed; empty if there is none."""
        try:
            with (self.folder / OUTPUT).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    @property
    def _is_ours(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self, options: tuple[str, ...], place: str, *, is_resumed: bool) -> None:
        if self.is_alive:
            raise ValueError(f"{self.folder}: a process trains here already")
        named = [word for word in options if word.split("=")[0] in ("-o", "--out", "--resume")]
        if named:
            raise ValueError(f"options: leave out {named[0]}; the folder has a field of its own")
        self.folder.mkdir(parents=True, exist_ok=True)
        record = self.read()
        num_sessions = len(record.sessions) if record else 0
        command = [*COMMAND, *options, "--out", str(self.folder), *["--resume"] * is_resumed]
        with (self.folder / OUTPUT).open("ab" if is_resumed else "wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # interrupting the kernel does not interrupt the training
            )
        started = _Started(self._process.pid, platform.node(), num_sessions, options, place)
        content = json.dumps(asdict(started), indent=2) + "\n"
        write_atomically(self.folder / RECORD, content.encode())

    def _started(self) -> _Started | None:
        try:
            content: dict[str, Any] = json.loads((self.folder / RECORD).read_text("utf-8"))
            return _Started(
                process=int(content["process"]),
                machine=str(content["machine"]),
                session=int(content["session"]),
                options=tuple(map(str, content["options"])),
                working_directory=str(content["working_directory"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _find(self) -> int | None:
        """The process that an earlier kernel started, if it is still training here."""
        started = self._started()
        if started is None or started.machine != platform.node() or not is_held(self.run):
            return None
        record = self.read()
        # The folder belongs to the last session; if that is after ours, it was started elsewhere.
        is_last = record is not None and len(record.sessions) == started.session + 1
        return started.process if is_last else None


def own_options(command: str) -> tuple[str, ...]:
    """The options of a command line of `train`, without the folder; empty for any other command."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ()
    if words[1:2] != ["train"]:
        return ()
    left_out = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    left_out.add_argument("-o", "--out")
    left_out.add_argument("--resume", action="store_true")
    return tuple(left_out.parse_known_args(words[2:])[1])
