"""Settings of the static site: `make site` writes the pages beside a copy of this file."""

import sys
from pathlib import Path

import jupyter_server_mathjax

ROOT = Path(__file__).resolve().parents[3]  # of build/site/source
sys.path.insert(0, str(ROOT))

project = "blendmask_lite"
author = "the blendmask_lite authors"
html_title = "blendmask_lite"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
if tags.has("draft"):  # noqa: F821  # Sphinx defines it
    html_sidebars: dict[str, list[str]] = {"**": []}  # the contents beside each page take a fifth
else:
    extensions.append("sphinx.ext.viewcode")

# Pages
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
# The notebooks come executed, and widgets as pictures: a page without a kernel asks for neither.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_number_source_lines = False

# Reference: signatures in the code's own words, docstrings in Google's style
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
autodoc_default_options = {
    "members": True,
    "exclude-members": "set",  # matplotlib writes one into every figure class
}
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

# The site needs no network: MathJax 2 comes from a package and is copied into it.
html_static_path = ["_static"]
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
mathjax_path = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full"
mathjax2_config = {
    # MyST marks whole pages as no formulas; Sphinx marks each formula with the class "math".
    "tex2jax": {
        "inlineMath": [["\\(", "\\)"]],
        "displayMath": [["\\[", "\\]"]],
        "processClass": "math|tex2jax_process|mathjax_process",
    },
    "HTML-CSS": {
        "availableFonts": [],
        "imageFont": None,
        "preferredFont": None,
        "webFont": "STIX-Web",
        "undefinedFamily": "STIXGeneral,'Arial Unicode MS',serif",
    },
    "showMathMenu": False,
}

html_theme = "sphinx_book_theme"
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the side bar has a search field already
    "search_bar_text": "Search the course and the reference",
}
html_css_files = ["course.css"]
html_js_files = [("live.js", {"defer": "defer"})]
html_search_scorer = str(Path(__file__).with_name("search_order.js"))
html_show_sourcelink = False
