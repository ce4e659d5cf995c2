"""The site in a browser: a page for every notebook, formulas and search without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .jupyter import Watched

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["notebooks", "docs", "api"]  # chapters, guides, modules, as the search lists them


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site without outputs and source code: `make site` itself has both."""
    html = tmp_path_factory.mktemp("site") / "html"
    tool = [sys.executable, str(ROOT / "tools" / "make_site.py"), "--draft"]
    built = subprocess.run(
        [*tool, "--output", str(html)], capture_output=True, text=True, timeout=900
    )
    # Its exit status tells of warnings, dead links and what would come from the network.
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return html


def test_site_has_a_page_for_every_notebook_and_the_reference(site):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{path.stem}.html").exists()
    assert "attention-weighted bases" in (site / "api" / "model.html").read_text()


@pytest.mark.browser
def test_formulas_and_search_of_the_site_work_without_a_network(site, browser):
    watched = Watched(browser)
    page = watched.page
    page.goto((site / "notebooks" / "14_beyond.html").as_uri())
    page.wait_for_selector("div.math .MathJax", timeout=60_000)  # PQ = SQ x RQ, typeset
    page.goto((site / "search.html").as_uri() + "?q=centerness")
    page.wait_for_selector("#search-results li a[href*='03_fcos_targets']", timeout=60_000)
    page.wait_for_selector("#search-results li a[href^='api/']", timeout=60_000)  # the last ones
    found = "elements => elements.map(each => each.getAttribute('href').split('/')[0])"
    places = page.eval_on_selector_all("#search-results li > a", found)
    ranks = [KINDS.index(place) for place in places if place in KINDS]
    assert set(ranks) == {0, 1, 2} and ranks == sorted(ranks)
    assert watched.requests
    assert [
        each for each in watched.requests if not each.startswith(("file:", "data:", "about:"))
    ] == []
    watched.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["genindex", "api/index", "api/model", "index"])
def test_page_fits_a_phone(site, browser, name):
    watched = Watched(browser)
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    watched.close()
