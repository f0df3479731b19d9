"""Sphinx: the pages of this folder and the reference made of the docstrings. ``scripts/docs`` builds it."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import frontier_tx

project = "Frontier and Frontlas"
author = "the contributors"
version = release = frontier_tx.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "a gateway for long connections", "page_width": "70rem", "sidebar_width": "16rem"}
# Tables and headings of the pages link to each other by their own anchors.
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Names of Twisted and of the standard library stand in the docstrings as they are, without links.
nitpicky = False
# An error may be imported from where it is caught as well as from where it is made: either page explains it.
suppress_warnings = ["ref.python"]


def setup(app: Sphinx) -> None:
    """Diagrams in Mermaid stand on the pages as their text."""
    app.add_lexer("mermaid", TextLexer)
