"""Reads what a run wrote for TensorBoard, as TensorBoard does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of protobuf, about itself
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

__all__ = ["events_of"]


def events_of(run: Path) -> Any:
    """All that TensorBoard shows of a run's folder."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events
