"""A button that takes a picture from the reader's disk, without trusting its size.

Chapter: the lab. The page looks at the size before anything is sent: a message above some 10 MB
would make Jupyter's server cut the connection, and no error could be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
from traitlets import Int, Unicode

from blendmask_lite.lab.messages import STATIC

__all__ = ["UploadButton"]

MOST_BYTES = 8_000_000


class UploadButton(anywidget.AnyWidget):
    """Choose or drop a file; its content goes to one function and is kept nowhere.

    Args:
        label: on the button.
        accept: kinds of files that the browser's dialog offers, as HTML's `accept`.
    """

    _esm = STATIC / "upload.js"
    _css = STATIC / "upload.css"
    label = Unicode("").tag(sync=True)
    accept = Unicode("").tag(sync=True)
    most_bytes = Int(MOST_BYTES).tag(sync=True)

    def __init__(self, *, label: str, accept: str = "image/*") -> None:
        super().__init__(label=label, accept=accept)
        self._callback: Callable[[str, bytes | int], None] | None = None
        self.on_msg(self._receive)

    def on_upload(self, callback: Callable[[str, bytes | int], None]) -> None:
        """Call `callback` with name and content of every file from now on.

        A file that the page does not send, because it is too large, comes as its size in bytes.
        """
        self._callback = callback

    def close(self) -> None:
        """Remove it from the page."""
        self._callback = None
        super().close()

    def _receive(
        self, _widget: Any, content: dict[str, Any], buffers: Sequence[memoryview]
    ) -> None:
        if self._callback is not None:
            name, size = str(content["name"]), int(content["size"])
            self._callback(name, bytes(buffers[0]) if buffers else size)
