"""The same weights from the same run, where torch allows it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["deterministic"]


@contextlib.contextmanager
def deterministic(is_asked: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Inside of it, torch takes deterministic algorithms, if that is asked for.

    On a GPU, gradients that are added up by many threads come in any order, and their rounding
    with it: those of RoIAlign, bilinear interpolation and deformable convolution. For the first two
    there are slower versions in a fixed order, which torch (`F.interpolate`) and torchvision
    (`roi_align`, by torch.compile) take here. What has none is computed as always, and said once by
    its name. cuBLAS reads its setting when it begins: a process that has used it
    before should have CUBLAS_WORKSPACE_CONFIG=:4096:8 in its environment.

    Args:
        is_asked: False does nothing.
        say: is told, once each, what has no deterministic version.
    """
    if not is_asked:
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    mode = torch.get_deterministic_debug_mode()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True, warn_only=True)
        with _said_once(say):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)


@contextlib.contextmanager
def _said_once(say: Callable[[str], None]) -> Iterator[None]:
    """Turn torch's warnings, of several lines each, into one for each operation."""
    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_once(message: Any, *place: Any, **more: Any) -> None:
            name, is_ours, _ = str(message).partition(" does not have a deterministic implement")
            if not is_ours:
                show(message, *place, **more)
            elif name not in said:
                said.add(name)
                say(f"not deterministic on this device, as torch has nothing else: {name}")

        warnings.showwarning = show_once
        warnings.filterwarnings("always", message=".*does not have a deterministic implement")
        yield
