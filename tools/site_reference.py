"""The reference of the site: one page a part of the package, by the docstrings of its modules."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["PARTS", "modules_of", "toctree", "write_reference"]

ROOT = Path(__file__).resolve().parent.parent
# Parts of the reference in the order of the layers: package -> what it holds.
PARTS = {
    "": "Configurations, structures, geometry, files",
    "model": "The network",
    "weights": "Weights, the authors' checkpoints, export",
    "datasets": "Data",
    "evaluation": "Evaluation",
    "figures": "Figures",
    "training": "Training",
    "research": "Research: what bases and attentions do, ablations",
    "lab": "The lab",
    "course": "The course's machinery",
}
LEAVES_OUT = ("course/exercises",)  # the answers
# Its classes refuse the attributes that autodoc sets on what it reads.
SEALED = ("weights/pickles.py",)


def write_reference(folder: Path) -> None:
    """One page a part of the package: every module with public names, by its docstrings."""
    folder.mkdir()
    lines = []
    for part, title in PARTS.items():
        name = part or "blendmask_lite"
        sections = [section for path in modules_of(part) if (section := _section(path))]
        text = f"# {title}\n\n" + "".join(sections)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        lines.append(f"- [{title}]({name}.md): {len(sections)} modules")
    hidden = toctree("", [f"{part or 'blendmask_lite'}.md" for part in PARTS])
    listed = "\n".join(lines)
    (folder / "index.md").write_text(f"# Reference\n\n{listed}\n{hidden}", encoding="utf-8")


def modules_of(part: str) -> list[Path]:
    """The files of a part of the package that have a page, the outer ones first."""
    place = ROOT / "blendmask_lite" / part
    found = place.rglob("*.py") if part else place.glob("*.py")
    files = [path for path in found if path.stem not in ("__init__", "__main__")]
    files = [p for p in files if not any(f"/{each}/" in p.as_posix() for each in LEAVES_OUT)]
    files = [path for path in files if not path.as_posix().endswith(SEALED)]
    return sorted(files, key=lambda path: (len(path.parts), path))


def _section(path: Path) -> str:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    public = ast.literal_eval(_all_of(path))
    if not public:
        return ""
    title = module.removeprefix("blendmask_lite.")
    return f"## {title}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n\n"


def _all_of(path: Path) -> ast.expr:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return node.value
    raise ValueError(f"{path}: no __all__")


def toctree(caption: str, pages: list[str], *, is_hidden: bool = True) -> str:
    """MyST's table of contents of these pages."""
    options = [f":caption: {caption}"] if caption else []
    options += [":hidden:"] if is_hidden else []
    return "\n```{toctree}\n" + "\n".join([*options, "", *pages]) + "\n```\n"
