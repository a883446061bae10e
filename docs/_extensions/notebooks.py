"""Offers every tutorial for download as a Jupyter notebook that runs alone, also without the solutions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

#: Cells with this tag, of code or of text, are left out of the notebooks without solutions.
SOLUTION = "solution"


def for_jupyter(text: str) -> str:
    """Markdown of a page as Jupyter shows it: links lead to other notebooks, and notes are quotes."""
    text = re.sub(r"\]\((\d\d_\w+)\.md", r"](\1.ipynb", text)
    return re.sub(
        r"^:::\{\w+\}\n(.*?)^:::$",
        lambda note: re.sub(r"^", "> ", note[1].rstrip("\n"), flags=re.MULTILINE),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def notebook(source: Path, solutions: bool) -> nbformat.NotebookNode:
    """The page as a notebook: it writes ``lecture.py`` itself, and its links lead to other notebooks."""
    found = read_myst_markdown_notebook(source.read_text("utf-8"))
    cells = []
    asked = False  # whether the last cell is there, and so may ask for a solution
    for cell in found.cells:
        is_solution = SOLUTION in cell.metadata.get("tags", [])
        if is_solution and not solutions:
            if asked and cell.cell_type == "code":
                cells.append(nbformat.v4.new_code_cell("# Your solution"))
            asked = False
            continue
        asked = True
        if is_solution and cell.cell_type == "code":
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
        cell.metadata.pop("mystnb", None)
        if cell.cell_type == "markdown":
            cell.source = for_jupyter(cell.source)
        if cell.cell_type == "code" and "import lecture" in cell.source:
            shared = (source.parent / "lecture.py").read_text("utf-8")
            cells.append(nbformat.v4.new_code_cell("%%writefile lecture.py\n" + shared))
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for number, cell in enumerate(made.cells):  # an identity that does not change from build to build
        cell.id = f"cell-{number}"
    nbformat.validate(made)
    return made


def deal(app: Sphinx, environment: BuildEnvironment, names: list[str]) -> None:
    """Spread neighbors, such as the tutorials, which take longest, over what Sphinx hands to several processes."""
    names[:] = [name for first in range(4) for name in names[first::4]]


def add_downloads(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Write both notebooks beside the page, and a line with links to them below its title."""
    folder, _, name = pagename.rpartition("/")
    if app.builder.format != "html" or folder != "tutorials" or not re.match(r"\d\d_", name):
        return
    target = Path(app.outdir) / folder
    target.mkdir(parents=True, exist_ok=True)
    source = Path(str(app.env.doc2path(pagename)))
    for ending, solutions in ("", True), ("_without_solutions", False):
        nbformat.write(notebook(source, solutions), target / f"{name}{ending}.ipynb")
    line = (
        f'<p class="downloads">Download: <a href="{name}.ipynb" download>notebook</a> · '
        f'<a href="{name}_without_solutions.ipynb" download>without solutions</a></p>'
    )
    context["body"] = context["body"].replace("</h1>", "</h1>\n" + line, 1)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-before-read-docs", deal)
    app.connect("html-page-context", add_downloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
