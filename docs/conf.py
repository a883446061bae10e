"""Settings of Sphinx: ``make docs`` runs every page here and builds the site in ``docs/_build/html``."""

import sys
from pathlib import Path

import fastnn

sys.path.insert(0, str(Path(__file__).parent))

project = "fastnn"
author = "fastnn contributors"
copyright = "2026, fastnn contributors; text and pictures CC BY 4.0, code BSD-3-Clause"
release = version = fastnn.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
    "_extensions.glossary",
    "_extensions.notebooks",
    "_extensions.public_names",
    "_extensions.sentences",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "fastnn"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["fastnn.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# Formulas between dollar signs.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Every cell runs at every build: a cache would look at the cells, and not at the library that they call.
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
# The library's note that it compiles for the first time, and progress lines.
nb_output_stderr = "remove"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

copybutton_exclude = ".linenos, .gp, .go"


def readable_results(app, page, *context):
    if page == "search":
        app.add_js_file("search.js")


def setup(app):
    app.connect("html-page-context", readable_results)
    # It names the folder of MathJax, and says nothing of processes side by side.
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
