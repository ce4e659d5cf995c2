"""The documents: links between them and the notebooks, and a glossary whose chapters exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from blendmask_lite.cli import _make_parser
from blendmask_lite.course.exercises import all_exercises

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    # The site's own pages are checked where they lie once it is built.
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "site" not in p.parts),
]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)")
CHAPTER = re.compile(r"\]\(\.\./(notebooks/\d\d_\w+\.ipynb)\)")


def text_of(path: Path) -> str:
    """The Markdown of a document or notebook, without code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=nbformat.NO_CONVERT).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(path: Path) -> set[str]:
    """What a link into a document may name: its headings, as GitHub and the site write them."""
    headings = re.findall(r"^#{1,4} +(.+?) *$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken_links(path: Path) -> Iterator[str]:
    for place, anchor in LINK.findall(text_of(path)):
        target = path.parent / place if place else path
        if not target.exists():
            yield place
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
            yield f"{place}#{anchor}"


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_relative_link_leads_somewhere(path):
    assert list(broken_links(path)) == []


def test_a_link_to_nowhere_is_noticed(tmp_path):
    (tmp_path / "words.md").write_text("# Words\n\n### R_K_M, and more!\n\n```\n[no](link)\n```\n")
    links = "[a](words.md#r_k_m-and-more) [b](words.md) [c](https://x.org/y) [d](#here)\n\n# Here\n"
    page = tmp_path / "page.md"
    page.write_text(links + "[e](none.md) [f](words.md#bases) [g](#there)")
    assert list(broken_links(page)) == ["none.md", "words.md#bases", "#there"]


def glossary() -> dict[str, str]:
    """{word: what it says}."""
    parts = re.split(r"^### (.+)$", (ROOT / "docs/glossary.md").read_text(), flags=re.MULTILINE)
    texts = (re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


def test_every_word_of_the_glossary_is_short_and_names_a_chapter_that_exists():
    words = glossary()
    assert 40 <= len(words) <= 60
    assert len(anchors_of(ROOT / "docs/glossary.md")) > len(words)  # no two of one name
    for word, text in words.items():
        chapters = CHAPTER.findall(text)
        assert chapters and all((ROOT / chapter).is_file() for chapter in chapters), word
        assert len(text.split()) <= 60, word


def test_every_chapter_with_something_to_build_has_words_in_the_glossary():
    named = {chapter[10:12] for text in glossary().values() for chapter in CHAPTER.findall(text)}
    assert named >= {f"{number:02d}" for number in range(16)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_title_of_a_chapter_links_to_its_words_in_the_glossary(path):
    title = nbformat.read(path, as_version=nbformat.NO_CONVERT).cells[0].source
    linked = set(re.findall(r"\]\(\.\./docs/glossary\.md#([^)]+)\)", title))
    own = [word for word, text in glossary().items() if f"notebooks/{path.name}" in text]
    assert linked == {re.sub(r"[^\w\- ]", "", word.lower()).replace(" ", "-") for word in own}


@pytest.mark.parametrize(("name", "number"), [("labelling", 10), ("export", 6)])
def test_the_commands_of_a_guide_are_understood(name, number):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    lines = re.findall(r"^blendmask-lite (.+)$", text, re.MULTILINE)
    assert len(lines) == number
    for words in map(shlex.split, lines):
        assert _make_parser(words).parse_args(words).run


def rows_of_the_comparison() -> list[list[str]]:
    """The cells of each feature: its name, ours, ultralytics, torchvision, detectron2, RF-DETR,
    the codes of the sources.
    """
    lines = (ROOT / "docs" / "compared.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return [row for row in rows if len(row) == 7 and row[0].strip("-")]


def test_every_feature_compared_with_other_packages_has_its_guide_and_its_sources():
    rows = rows_of_the_comparison()
    assert len(rows) > 60
    for feature, ours, *others, sources in rows:
        assert ours == "n" or re.search(r"\]\(\S+\)", ours), feature
        for letter, other in zip("UVDR", others, strict=True):
            # S is supervision, which says what it takes from the others.
            assert other == "?" or re.search(rf"\b[{letter}S]\d", sources), (feature, letter)


def test_the_sources_of_the_comparison_are_those_that_it_names():
    text = (ROOT / "docs" / "compared.md").read_text()
    claims, sources = text.split("## Sources")
    listed = re.findall(r"^\| ([A-Z]\d+) \|", sources, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(re.findall(r"\b[UVDRS]\d+\b", claims))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_readme_and_changelog_count_the_exercises(name):
    assert f"{len(all_exercises())} exercises" in (ROOT / name).read_text()


def test_the_handout_has_the_course_in_one_page():
    """At most 60 lines and 430 words, its code in the package, and the equations of chapter 09."""
    text = (ROOT / "docs" / "instructors" / "handout.md").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
    assert len(text.split()) <= 430
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert all(importlib.util.find_spec(name) for name in names)
    assert [f"| {number} |" in text for number in range(1, 5)] == [True] * 4


def test_troubleshooting_is_sorted_by_where_the_symptom_is_seen():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    wanted = ("Installing", "notebook", "Widgets", "Memory", "Ports", "slow", "Colab", "Windows")
    assert all(any(word in title for title in sections) for word in wanted)
    for title, section in list(sections.items())[:-1]:
        assert len(re.findall(r"^\*\*.+?\*\* \S", section, re.MULTILINE)) >= 2, title
    commands = set(re.findall(r"`make ([a-z]+)", text))
    assert commands <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_messages_that_troubleshooting_explains_are_still_said():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## Installing\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    quoted = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\*\*(.+?)\*\*", section, re.M)))
    said = "".join((ROOT / "tools" / name).read_text() for name in (
        "setup.py", "venv_state.py", "commands.py", "find_python.sh",
    )) + (ROOT / "start.py").read_text()  # fmt: skip
    said = re.sub(r'"\s+f?"|\{[^}]*\}|%d\.%d', "", said)
    assert len(quoted) >= 8
    for message in quoted:
        words = re.sub(r"https?://\S+ |\d\.\d+(?=,)", "", message, count=1).strip()
        assert words in said or message in said, message
