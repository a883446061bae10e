"""The terms of the glossary in the index, so that a search for one of them finds its row first."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

PAGE = "reference/glossary"


def terms(cell: nodes.Element) -> list[str]:
    """The words of a cell such as "weighted sum, logit", without formulas."""
    words = "".join("" if isinstance(part, nodes.math) else part.astext() for part in cell[0].children)
    return [term for word in words.split(",") if (term := word.strip())]


class IndexTerms(SphinxTransform):
    """Give each row of the glossary's tables a place, and its terms an entry in the index that leads there."""

    default_priority = 700  # before Sphinx collects the entries

    def apply(self, **options: Any) -> None:
        if self.env.docname != PAGE:
            return
        for table in list(self.document.findall(nodes.table)):
            entries = []
            for row in (row for body in table.findall(nodes.tbody) for row in body.children):
                found = terms(row[0])
                place = "term-" + nodes.make_id(found[0])
                row["ids"].append(place)
                entries += [("single", term, place, "main", None) for term in found]
            table.parent.insert(table.parent.index(table), addnodes.index(entries=entries))


def read_again(app: Sphinx, environment: BuildEnvironment, *changes: set[str]) -> list[str]:
    """The page, at every build: where others change, Sphinx forgets the entries of those that do not."""
    return [PAGE]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(IndexTerms)
    app.connect("env-get-outdated", read_again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
