"""The reference of the public names: a table of them, a list for each function's arguments, and no name left out."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.autosummary import Autosummary
from sphinx.util import logging

import fastnn

logger = logging.getLogger(__name__)

#: Modules that are public, but not in ``fastnn.__all__``.
FURTHER_MODULES = ("estimators",)

#: "x : what it is; y : what that is", as the docstrings have it.
NAMES = r"\*{0,2}[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*"
ARGUMENTS = re.compile(rf"^({NAMES}) : ")
NEXT_ARGUMENT = re.compile(rf"; (?={NAMES} : )")


def public_names() -> dict[str, list[str]]:
    """The full names of all public classes, functions and constants, by module."""
    modules = [name for name in fastnn.__all__ if inspect.ismodule(getattr(fastnn, name))]
    found = {}
    for module in sorted({*modules, *FURTHER_MODULES}):
        names = importlib.import_module(f"fastnn.{module}").__all__
        found[module] = [f"fastnn.{module}.{name}" for name in names]
    listed = {name.rpartition(".")[2] for names in found.values() for name in names}
    missing = set(fastnn.__all__) - listed - set(found) - {"__version__"}
    if missing:
        raise ValueError(f"public in fastnn, but not in __all__ of their module: {', '.join(sorted(missing))}")
    return found


def undocumented(environment: BuildEnvironment) -> list[str]:
    """The public names that no page of the reference describes."""
    described = environment.domains["py"].objects  # type: ignore[attr-defined]
    return [name for names in public_names().values() for name in names if name not in described]


def check_names(app: Sphinx, environment: BuildEnvironment) -> None:
    """A warning, which ends the build, for each public name that is missing."""
    for name in undocumented(environment):
        logger.warning("the reference does not have %s", name)


class PublicNames(Autosummary):
    """The names of a module that users import, each with its first sentence and a link."""

    def run(self) -> list[Any]:
        module = self.content[0]
        names = [name for name in public_names()[module] if name.rpartition(".")[2] != "get"]
        self.content = StringList([f"~{name}" for name in names], "public names")
        return super().run()


def list_arguments(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Turn each paragraph "x : what it is; y, z : what they are" into a list of the arguments."""
    if what == "module":
        return
    found: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        if not ARGUMENTS.match(paragraph):
            found += [*paragraph.split("\n"), ""]
            continue
        found.append(":Parameters:")
        for part in NEXT_ARGUMENT.split(" ".join(paragraph.split())):
            names, _, text = part.partition(" : ")
            is_symbol = re.match(r"(?!a )\w\W", text) or not text[0].isascii()  # "s in 0..1", "β₁ and β₂"
            text = text if is_symbol else text[0].upper() + text[1:]
            found.append(f"    - **{names.replace('*', chr(92) + '*')}** – {text.removesuffix('.')}.")
        found.append("")
    lines[:] = found


#: How autodoc writes a type or a default, and how a reader would.
READABLE = (
    (
        re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([\w.~]+)\]\]"),
        r"~numpy.typing.NDArray[\1]",
    ),
    (re.compile(r"Callable\[\[\.\.\.\], "), "Callable[..., "),
    (re.compile(r"<factory>"), "..."),
)


def make_readable(
    app: Sphinx, what: str, name: str, item: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The signature with short types."""

    def readable(text: str | None) -> str | None:
        for pattern, words in READABLE:
            text = text and pattern.sub(words, text)
        return text

    return readable(signature), readable(returns)


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autosummary")
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", list_arguments)
    app.connect("autodoc-process-signature", make_readable)
    app.connect("env-check-consistency", check_names)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
