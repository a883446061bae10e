"""Settings of Sphinx: ``make docs`` builds the pages here into ``docs/_build``."""

import fastnn

project = "fastnn"
author = "fastnn contributors"
copyright = "2026, fastnn contributors"
release = version = fastnn.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
