"""Where files live that are not code: the shipped checkpoint and the download cache."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

__all__ = ["cache_dir", "shipped_checkpoint"]

SHIPPED_CHECKPOINT = "nano_shapes.pt"


def shipped_checkpoint() -> Path:
    """The checkpoint that comes with the package: preset `nano`, trained on generated shapes.

    It lies inside the package, so a clone, an installed wheel and Colab find it alike.

    Raises:
        FileNotFoundError: the file is missing, with what to do about it.
    """
    path = Path(str(files("blendmask_lite"))) / "data" / SHIPPED_CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the shipped checkpoint is missing. Reinstall blendmask_lite (in a clone: "
            f"git checkout -- {SHIPPED_CHECKPOINT}), or train one: "
            "blendmask-lite train shapes -o runs/shapes"
        )
    return path


def cache_dir() -> Path:
    """The user's cache folder for downloads of blendmask_lite, by the system's convention.

    `BLENDMASK_CACHE` names another. The folder is not made here; whoever writes into it makes it.
    """
    if os.environ.get("BLENDMASK_CACHE"):
        return Path(os.environ["BLENDMASK_CACHE"]).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("blendmask_lite", appauthor=False)
