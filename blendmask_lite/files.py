"""Writing files that are never half written, checking paths, and finding the shipped files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

__all__ = [
    "cache_dir",
    "find_checkpoint",
    "is_stream",
    "photos_folder",
    "read_text",
    "require_apart",
    "require_folder",
    "require_local",
    "require_writable",
    "shipped_checkpoint",
    "shipped_ledger",
    "shipped_race",
    "shipped_snapshots",
    "write_atomically",
]

LONGEST = 200  # bytes; temporary names replace a longer name by a hash; file systems allow 255

ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")  # as `Path` leaves it; "C:/" is a disk

# Open pipes that have a reader, by path: closing one without writing would end the reader.
_pipes: dict[str, int] = {}


def write_atomically(path: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Replace the file `path` by `content` in one step.

    Args:
        path: the file's path; its folder is made if it is missing.
        content: the whole content.
        is_durable: wait until the file is on the disk and would survive a power failure. That takes
            milliseconds, too long for each of many small files.

    Raises:
        OSError: the file cannot be written; it is left as it was.
    """
    with _named(path):
        if is_stream(path):
            _write_stream(path, content)
        else:
            _replace_file(Path(os.path.realpath(path)), content, is_durable)


def read_text(path: Path) -> str:
    """The text of a regular file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a regular file (reading a pipe may never end), or not UTF-8 text.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is no regular file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text in UTF-8 ({error.reason})") from None


def require_local(path: str | os.PathLike[str], *, hint: str = "") -> None:
    """Refuse an address on the web, unless there is a file of that name.

    Raises:
        ValueError: the path is such an address; the message ends with the hint.
    """
    name = os.fspath(path)
    if ADDRESS.match(name) and not os.path.lexists(name):
        address = re.sub(":/+", "://", name, count=1)  # a `Path` has dropped a slash
        raise ValueError(f"{address}: is an address, and only files are read here{hint}")


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check, before the work starts, that `write_atomically` can write a file.

    Nothing is left behind, not even a folder. This cannot foresee a disk that is too full for the
    file, or a pipe whose reader goes away.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    path = Path(path)
    with _named(path):
        if is_stream(path):
            stream = _open_stream(path)
            os.write(stream, b"")  # /dev/full refuses even that
            if stat.S_ISFIFO(os.fstat(stream).st_mode):
                _pipes[str(path)] = stream
            else:
                os.close(stream)
            return
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise OSError(errno.EISDIR, "it is a folder")
        _require_room(target)


def require_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder if it is missing, and check that files can be written into it.

    Raises:
        OSError: the path is not a folder, or files cannot be written there; the message says why.
    """
    path = Path(path)
    with _named(path):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(path.stat().st_mode):  # a loop of links ends here, too
                raise OSError(errno.ENOTDIR, "it is no folder")
        folder = Path(os.path.realpath(path))
        folder.mkdir(parents=True, exist_ok=True)
        _require_room(folder / "file")


def require_apart(
    outputs: Iterable[str | os.PathLike[str]], inputs: Iterable[str | os.PathLike[str]], what: str
) -> None:
    """Refuse outputs that would replace inputs of the same command, even through links.

    Args:
        outputs: files to write.
        inputs: files to read; not iterated over if no output exists yet.
        what: how the error names an input, such as "the checkpoint".

    Raises:
        ValueError: an output is also an input.
    """
    existing = {os.path.realpath(output): output for output in outputs if os.path.exists(output)}
    if existing:
        for path in map(os.path.realpath, inputs):
            if path in existing:
                text = f"is {what} and would be lost; choose another place"
                raise ValueError(f"{existing[path]}: {text}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make every error name the output as the user did."""
    try:
        yield
    except OSError as error:
        named = OSError(f"{path}: cannot be written ({error.strerror or error})")
        named.errno = error.errno
        raise named from error


def is_stream(path: Path) -> bool:
    """Whether the path is a device, a pipe or an open file: something that bytes are sent to."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _descriptor(path) is not None


def _descriptor(path: Path) -> int | None:
    """The file descriptor of this process that a path such as /dev/stdout stands for, or None."""
    while path.is_symlink():
        if path.parent.resolve() == Path(f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        path = path.parent / path.readlink()
    return None


def _open_stream(path: Path) -> int:
    own = _descriptor(path)
    if own is not None:
        return os.dup(own)
    try:
        # Do not wait for a reader: there may never be one. Windows has no pipes in folders.
        stream = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise OSError(errno.ENXIO, "nobody reads from this pipe") from None
        raise
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(stream, True)
    return stream


def _write_stream(path: Path, content: bytes) -> None:
    sys.stdout.flush()  # it may be the same stream
    held = _pipes.pop(str(path), None)
    with os.fdopen(_open_stream(path) if held is None else held, "wb") as file:
        file.write(content)


def _replace_file(target: Path, content: bytes, is_durable: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with temporary.open("wb") as file:
            with contextlib.suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _require_room(target: Path) -> None:
    """Briefly make a file next to `target`, or in the closest folder above it that exists."""
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    temporary = folder / _temporary(target).name
    try:
        temporary.touch()
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    name = target.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.{os.getpid()}.tmp")


SHIPPED_SNAPSHOTS = "snapshots_nano.zip"


# The trained models in the package by name: the file, and the command that makes it.
SHIPPED_MODELS = {
    "nano": ("nano_shapes.pt", "blendmask-lite train shapes -o runs/shapes"),
    "small": ("small_shapes.safetensors", "python tools/train_checkpoint.py small"),
    "photos": ("photos.safetensors", "python tools/train_checkpoint.py photos --coco ROOT"),
}


def shipped_checkpoint(name: str = "nano") -> Path:
    """A checkpoint in the package: `nano` and `small` know generated shapes, `photos` photographs.

    If the file is missing, this and the next functions raise a FileNotFoundError that says what
    to do.

    Raises:
        ValueError: there is no model of this name.
    """
    if name not in SHIPPED_MODELS:
        raise ValueError(f"{name}: the package has the models {', '.join(SHIPPED_MODELS)}")
    return _shipped(*SHIPPED_MODELS[name])


def find_checkpoint(source: str | os.PathLike[str]) -> Path:
    """The file that a user means: a path, or a name of `SHIPPED_MODELS` if no file has it.

    A folder of that name does not count: many people keep their photographs in `photos`.
    """
    path = Path(source)
    is_name = str(source) in SHIPPED_MODELS and (path.is_dir() or not path.exists())
    return shipped_checkpoint(str(source)) if is_name else path


def shipped_snapshots() -> Path:
    """The training snapshots in the package: three images at 20 moments of training `nano`."""
    return _shipped(SHIPPED_SNAPSHOTS, "blendmask-lite train shapes -o runs/shapes --snapshots 20")


def shipped_ledger() -> Path:
    """The ablation results in the package, one number per seed; see `ablations.ledger`."""
    return _shipped("ablations.json", "python tools/make_ledger.py")


RACE_FILES = {
    "features": "boxes_shapes.safetensors",
    "weights": "race.safetensors",
    "scores": "race.json",
}


def shipped_race(part: str) -> Path:
    """A file of chapter 10's race in the package: its "features", "weights" or "scores"."""
    return _shipped(RACE_FILES[part], "make race")


def cache_dir() -> Path:
    """The user's cache folder for downloads, where the system keeps caches; it may not exist yet.

    The environment variable `BLENDMASK_CACHE` overrides it.
    """
    if os.environ.get("BLENDMASK_CACHE"):
        return Path(os.environ["BLENDMASK_CACHE"]).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("blendmask_lite", appauthor=False)


def photos_folder() -> Path:
    """The photographs with masks in `data/photos` of a clone, for `CocoDataset`.

    They are no part of the package, which stays small without them. The clone is the one that the
    package runs from, or else one around or in the working directory: on Colab the package is
    installed from the clone `blendmask_lite` beside the notebook.

    Raises:
        FileNotFoundError: there is no such clone.
    """
    here = Path.cwd()
    first = Path(str(files("blendmask_lite"))).parent
    for clone in (first, here, *here.parents, here / "blendmask_lite"):
        folder = clone / "data" / "photos"
        if (folder / "annotations" / "instances_photos.json").is_file():
            return folder
    raise FileNotFoundError(
        f"{first / 'data' / 'photos'}: the photographs come with a clone of the repository only. "
        "In a clone: pip install -e . (and, if they were deleted: git checkout -- data/photos)"
    )


def _shipped(name: str, command: str) -> Path:
    path = Path(str(files("blendmask_lite"))) / "data" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: a file that comes with the package is missing. Reinstall blendmask_lite (in "
            f"a clone: git checkout -- {path.name}), or make your own: {command}"
        )
    return path
