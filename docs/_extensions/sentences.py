"""Long sentences that a cell prints get a class, by which the style sheet breaks them; tables keep their lines."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

#: Characters of a line that fit beside the menu.
WIDTH = 93


def are_sentences(text: str) -> bool:
    """Whether a line is too long, and nothing is set in columns or as an arrow of a debugger."""
    lines = text.rstrip().split("\n")
    return max(map(len, lines)) > WIDTH and not any("  " in line.strip() or line.startswith("->") for line in lines)


def mark(app: Sphinx, doctree: nodes.document) -> None:
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and are_sentences(block.astext()):
            block["classes"].append("sentences")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", mark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
