"""The line that says how the training goes: losses, speed and the time that is left."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from blendmask_lite.terminal import FILE_SECONDS, TERMINAL_SECONDS, duration
from blendmask_lite.training.engine import StepRecord

__all__ = ["ProgressLine"]

WINDOW = 50  # steps that losses and speed are averaged over


class ProgressLine:
    """Prints one line that renews itself on a terminal, and a line now and then elsewhere.

    Args:
        iterations: where the training ends.
        stream: standard error by default, so that a command's output stays clean.
    """

    def __init__(self, iterations: int, *, stream: TextIO | None = None) -> None:
        self.iterations = iterations
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self.recent: deque[StepRecord] = deque(maxlen=WINDOW)
        self.last_print = -FILE_SECONDS
        self.width = 0

    def update(self, record: StepRecord) -> None:
        """Take in a step; print if it is time to."""
        self.recent.append(record)
        now = time.monotonic()
        pause = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        is_last = record.iteration == self.iterations
        if now - self.last_print < pause and not is_last:
            return
        self.last_print = now
        self._show(self.text(), is_last=is_last)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) for what holds up the steps: evaluations, say.

        Args:
            what: is counted.
        """
        pause = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        start = last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= pause:
                last = now
                left = duration((now - start) / done * (total - done))
                self._show(f"{done}/{total} {what}  ETA {left}")

        return report

    def note(self, text: str) -> None:
        """Print a line of its own, without tearing the progress line."""
        if self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.width = 0
        self.stream.write(text + "\n")
        self.stream.flush()

    def _show(self, line: str, *, is_last: bool = False) -> None:
        if self.is_terminal:
            self.stream.write("\r" + line.ljust(self.width) + ("\n" if is_last else ""))
            self.width = 0 if is_last else len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def text(self) -> str:
        """The line: averages over the last steps."""
        last = self.recent[-1]
        count = len(self.recent)
        total = sum(each.total for each in self.recent) / count
        losses = " ".join(
            f"{name} {sum(each.losses[name] for each in self.recent) / count:.3f}"
            for name in last.losses
        )
        seconds = sum(each.seconds for each in self.recent)
        images = sum(each.num_images for each in self.recent)
        remaining = (self.iterations - last.iteration) * seconds / count
        return (
            f"{last.iteration}/{self.iterations}  loss {total:.3f} ({losses})  "
            f"lr {last.learning_rate:.2e}  {images / max(seconds, 1e-9):.1f} images/s  "
            f"ETA {duration(remaining)}"
        )
