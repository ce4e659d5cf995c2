"""Dead links of a folder of HTML pages, and whatever a page would load from the network."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["find_dead_links"]

# An address of the network in a style sheet: of another sheet, a font or a picture.
FETCHED = re.compile(r"""(?:@import|url\()\s*(?:url\()?\s*["']?((?:https?:)?//[^"')\s;]+)""")
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src"}


@dataclass
class Page(HTMLParser):
    """What one page offers and asks for.

    Attributes:
        anchors: ids that links may lead to.
        links: addresses that a reader may follow.
        loads: addresses that the browser fetches by itself.
        sheets: those of them that are style sheets.
        style: the text of the page's own style sheets.
    """

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)
    style: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, links and resources."""
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and "stylesheet" in values.get("rel", ""):
            self.sheets.append(values.get("href", ""))
            self.loads.append(values.get("href", ""))
        elif tag in LOADED and values.get(LOADED[tag]):
            self.loads.append(values[LOADED[tag]])

    def handle_data(self, data: str) -> None:
        """Keep what stands in a `style`."""
        if self.lasttag == "style":
            self.style += data


def find_dead_links(folder: Path, *, leaves_out: Collection[str] = ()) -> list[str]:
    """One line a problem: a missing page, picture or anchor, or a resource from the network.

    Args:
        folder: of the built site. Links to other sites are not followed.
        leaves_out: names of folders in it whose pages may lead anywhere.
    """
    pages = {path.resolve(): _read(path) for path in sorted(folder.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        if name.parts[0] in leaves_out:
            continue
        for address in [*page.loads, *_fetched(path, page)]:
            if address.startswith(("http:", "https:", "//")):
                problems.append(f"{name}: loads {address} from the network")
        for address in page.links + page.loads:
            problem = _problem(path, address, pages)
            if problem:
                problems.append(f"{name}: {address}: {problem}")
    return problems


def _fetched(path: Path, page: Page) -> list[str]:
    """Addresses of the network in a page's style sheets, its own and those beside it."""
    sheets = [(path.parent / unquote(urlsplit(sheet).path)).resolve() for sheet in page.sheets]
    texts = [sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.is_file()]
    return FETCHED.findall("\n".join([page.style, *texts]))


def _problem(path: Path, address: str, pages: dict[Path, Page]) -> str:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such place on that page"
    return ""


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page
