"""Wheels of packages that have hardly more than their names, for tests of set-up and bundle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["write_wheel"]


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """A wheel that pip installs on every system.

    Args:
        folder: of the wheel; made if it is missing.
        name: of the package.
        version: of the package.
        requires: what it needs, as in `torch (==9.0)` or `six; extra == "course"`.
        extras: their names.
        files: of the package, by path; by default a module that says its version.
    """
    info = f"{name}-{version}.dist-info"
    about = [f"Name: {name}", f"Version: {version}"]
    about += [f"Provides-Extra: {extra}" for extra in extras]
    about += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = dict(files or {f"{name}.py": f'__version__ = "{version}"\n'})
    content[f"{info}/METADATA"] = "\n".join(["Metadata-Version: 2.1", *about, ""])
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{info}/RECORD"
    content[record] = "".join(f"{each},,\n" for each in (*content, record))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in content.items():
            wheel.writestr(place, text)
    return path
