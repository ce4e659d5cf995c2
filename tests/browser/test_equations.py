"""The equations in JavaScript (lab/static/equations.js) against the package, in Chromium."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from equations_cases import TOLERANCE, drawn_cases

TESTS = Path(__file__).parents[1]
MODULE = TESTS.parent / "blendmask_lite" / "lab" / "static" / "equations.js"
ASK = """async ([runner, module, cases]) => {
    const load = text => import(`data:text/javascript;base64,${text}`);
    const {largestErrors} = await load(runner);
    return largestErrors(await load(module), cases);
}"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_every_step_of_every_method_equals_the_package_in_the_browser(browser: Any) -> None:
    page = browser.new_page()
    texts = [(TESTS / "equations_runner.mjs").read_bytes(), MODULE.read_bytes()]
    modules = [base64.b64encode(text).decode() for text in texts]
    cases = drawn_cases()[::7]  # Node has compared all; to carry 32 MB into a page takes a minute
    errors = page.evaluate(ASK, [*modules, cases])
    page.close()

    assert len(errors) == 18
    assert max(errors.values()) <= TOLERANCE, errors
