"""Trains the sample of snapshots that comes with the package: `make snapshots`.

Nothing but `blendmask-lite train shapes` with the options below; a run that was stopped continues
when this is called again. Its snapshots are then packed into one file where the package finds them.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from blendmask_lite.cli import main
from blendmask_lite.files import SHIPPED_SNAPSHOTS, write_atomically

RUN = Path("runs/nano_snapshots")
DATA = Path(__file__).parent.parent / "blendmask_lite" / "data"
OPTIONS = "--iterations 1500 --snapshots 20 --watched-pictures 3 --threads 1"


def pack(folder: Path) -> bytes:
    """A folder's files as an archive; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.glob("*.npz")):
            # Without the time: the files are compressed already, and their dates say nothing.
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
    return buffer.getvalue()


def train() -> int:
    """Train, and pack the snapshots into the package."""
    if status := main(["train", "shapes", "-o", str(RUN), "--resume", *OPTIONS.split()]):
        return status
    content = pack(RUN / "snapshots")
    write_atomically(DATA / SHIPPED_SNAPSHOTS, content)
    print(f"{DATA / SHIPPED_SNAPSHOTS}: {len(content) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(train())
