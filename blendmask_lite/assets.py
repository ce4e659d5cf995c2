"""Where files live that are not code: the shipped checkpoint and the download cache."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

__all__ = ["cache_dir", "shipped_checkpoint", "shipped_ledger", "shipped_snapshots"]

SHIPPED_CHECKPOINT = "nano_shapes.pt"
SHIPPED_SNAPSHOTS = "snapshots_nano.zip"
SHIPPED_LEDGER = "ablations.json"


def shipped_checkpoint() -> Path:
    """The checkpoint that comes with the package: preset `nano`, trained on generated shapes.

    It lies inside the package, so a clone, an installed wheel and Colab find it alike.

    Raises:
        FileNotFoundError: the file is missing, with what to do about it.
    """
    return _shipped(SHIPPED_CHECKPOINT, "blendmask-lite train shapes -o runs/shapes")


def shipped_snapshots() -> Path:
    """Snapshots of a short training of `nano` on shapes, for `read_snapshots`.

    20 moments of 1,500 iterations, three pictures.

    Raises:
        FileNotFoundError: the file is missing, with what to do about it.
    """
    return _shipped(SHIPPED_SNAPSHOTS, "blendmask-lite train shapes -o runs/shapes --snapshots 20")


def shipped_ledger() -> Path:
    """The ablations' numbers, one a seed, for `ablations.ledger.read_ledger`.

    Raises:
        FileNotFoundError: the file is missing, with what to do about it.
    """
    return _shipped(SHIPPED_LEDGER, "python tools/make_ledger.py")


def cache_dir() -> Path:
    """The user's cache folder for downloads of blendmask_lite, by the system's convention.

    `BLENDMASK_CACHE` names another. The folder is not made here; whoever writes into it makes it.
    """
    if os.environ.get("BLENDMASK_CACHE"):
        return Path(os.environ["BLENDMASK_CACHE"]).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("blendmask_lite", appauthor=False)


def _shipped(name: str, command: str) -> Path:
    path = Path(str(files("blendmask_lite"))) / "data" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: a file that comes with the package is missing. Reinstall blendmask_lite (in "
            f"a clone: git checkout -- {path.name}), or make your own: {command}"
        )
    return path
