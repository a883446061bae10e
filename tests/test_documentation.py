"""What the documentation says, run: examples in docstrings, the README's code, the moves from other libraries."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from asv_bench import report

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.stem for path in (ROOT / "fastnn").glob("*.py") if not path.stem.startswith("__"))

#: Public modules that need no examples in their docstrings: files and pictures are shown elsewhere.
WITHOUT_EXAMPLES = {"constraints", "files", "plots"}


def blocks(page: str) -> list[str]:
    """The Python code of a Markdown file that is shown and not executed when the page is built."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(code: str, names: dict, page: str) -> None:
    exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"fastnn.{name}")
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, globs={"fn": fn, "np": np, "__name__": "__main__"})
    tests = [test for test in tests if test.examples]
    assert tests or name not in set(fn.__all__) - WITHOUT_EXAMPLES
    output: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def public_objects():
    for name in fn.__all__:
        value = getattr(fn, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
            for key, member in vars(value).items() if inspect.isclass(value) else ():
                is_method = inspect.isfunction(member) or isinstance(member, (property, staticmethod, classmethod))
                if is_method and not key.startswith("_"):
                    yield f"{name}.{key}", getattr(value, key)


@pytest.mark.parametrize(
    ("name", "value"), list(public_objects()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_name_says_what_it_is(name, value):
    assert inspect.getdoc(value), f"{name} has no docstring"


def test_the_code_in_the_readme(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("README.md")
    assert len(code.splitlines()) <= 12
    names: dict = {}
    run(code, names, "README.md")
    assert names["history"]["val_accuracy"][-1] > 0.85
    assert names["probabilities"].shape == (1797, 10)
    assert "parameters" in capsys.readouterr().out
    assert np.array_equal(fn.load("digits.safetensors").predict(names["X"]), names["probabilities"])


def network() -> dict:
    """What the pages about other libraries take for granted."""
    X, y = fn.datasets.digits()
    return {"X": X, "y": y, "np": np, "fn": fn}


def both_sides(page: str) -> tuple[dict, dict, str]:
    """The names that the other library's code leaves, those of fastnn's, and the code that takes weights along."""
    theirs, ours, along = blocks(page)
    there, here = network(), network()
    run(theirs, there, page)
    run(ours, here, page)
    return there, here, along


@pytest.mark.filterwarnings("default")
def test_move_from_keras():
    keras = pytest.importorskip("keras")
    there, here, along = both_sides("docs/how-to/from_keras.md")
    assert abs(there["accuracy"] - here["accuracy"]) < 0.08
    assert there["probabilities"].shape == here["probabilities"].shape
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((64,)), dense(32, "relu"), dense(10, "softmax")])
    run(along, network() | {"keras_model": model}, "from_keras.md")


@pytest.mark.filterwarnings("default")
def test_move_from_pytorch():
    torch = pytest.importorskip("torch")
    there, here, along = both_sides("docs/how-to/from_pytorch.md")
    assert abs(there["losses"][-1] - here["losses"][-1]) < 0.15 * there["losses"][-1] + 0.05
    names = {"torch_model": there["model"], "probabilities": there["probabilities"], "nn": torch.nn}
    run(along, network() | names, "from_pytorch.md")


EXPORT = "docs/how-to/export.md"


def exported() -> dict:
    """What the page about other programs takes for granted, with a network of several kinds of layers."""
    names = network()
    layers = [fn.Dense(32, "relu"), fn.Dropout(0.2), fn.Dense(16, use_bias=False), fn.Activation("leaky_relu")]
    model = fn.Model([fn.Input(64), *layers, fn.Dense(10, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    model.fit(names["X"], names["y"], epochs=2, verbose=0)
    return names | {"model": model}


def test_take_a_network_to_pytorch():
    pytest.importorskip("torch")
    run(blocks(EXPORT)[0], exported(), EXPORT)


def test_take_a_network_to_onnx(monkeypatch, tmp_path):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    monkeypatch.chdir(tmp_path)
    names = exported()
    X, model = names["X"], names["model"]
    _, graph, session = blocks(EXPORT)
    run(graph, names, EXPORT)
    (found,) = ReferenceEvaluator("digits.onnx").run(None, {"x": X})
    np.testing.assert_allclose(found, model.predict(X), rtol=0, atol=1e-5)
    if importlib.util.find_spec("onnxruntime"):
        run(session, names, EXPORT)


@pytest.mark.parametrize("page", ["docs/how-to/from_keras.md", "docs/how-to/from_pytorch.md"])
def test_the_side_of_fastnn_runs_where_the_other_library_is_missing(page):
    names = network()
    run(blocks(page)[1], names, page)
    assert names["probabilities"].shape == (1797, 10)


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")))
def test_shown_code_is_python(page):
    if "_build" in page:
        return
    for code in blocks(page):
        ast.parse(code)


def script(path: str):
    """A Python file of the documentation as a module."""
    specification = importlib.util.spec_from_file_location(Path(path).stem, ROOT / "docs" / path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check_site():
    return script("check_site.py")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('<a href="other.html#here">right</a> <a href="#top">right</a> <a href="https://example.org">right</a>', ""),
        ('<a href="missing.html">wrong</a>', "missing.html, which is not there"),
        ('<a href="other.html#there">wrong</a>', "no such place"),
        ('<a href="#there">wrong</a>', "no such place"),
        ('<img src="missing.png">', "missing.png, which is not there"),
        ('<script src="https://example.org/a.js"></script>', "from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "from elsewhere"),
    ],
)
def test_links_that_lead_nowhere_are_found(check_site, tmp_path, line, problem):
    (tmp_path / "index.html").write_text(f'<p id="top">{line}</p>', "utf-8")
    (tmp_path / "other.html").write_text('<p id="here"></p>', "utf-8")
    found, pages, _ = check_site.problems(tmp_path)
    assert pages == 2
    assert [problem in text for text in found] == ([True] if problem else [])
    assert check_site.main(str(tmp_path)) == (1 if problem else 0)


def test_style_sheets_that_load_from_elsewhere_are_found(check_site, tmp_path):
    (tmp_path / "index.html").write_text("", "utf-8")
    (tmp_path / "a.css").write_text("@import url(https://example.org/b.css);", "utf-8")
    assert check_site.main(str(tmp_path)) == 1


def test_a_browser_sees_what_is_wrong(tmp_path, capsys, monkeypatch):
    check_browser = script("check_browser.py")
    if not any(map(shutil.which, check_browser.BROWSERS)):
        pytest.skip("no browser is installed")
    monkeypatch.setattr(check_browser, "WAIT", 1)
    monkeypatch.setattr(check_browser, "QUERIES", {"dropout": "layers.html"})
    start = "<!doctype html><head></head>"
    other, found = (f'<li><a href="{page}">found</a><p>text</p></li>' for page in ("other.html", "layers.html#Dropout"))
    results = f'<ul id="search-results">{other * 4}{found}</ul>'
    (tmp_path / "search.html").write_text(start + results, "utf-8")
    assert check_browser.main(str(tmp_path)) == 0, capsys.readouterr().err
    loud = '<img src="none.png"><script>console.warn("oh"); no()</script>'
    (tmp_path / "wide.html").write_text(start + '<p style="width: 900px">far', "utf-8")
    (tmp_path / "loud.html").write_text(start + loud, "utf-8")
    tex = results.replace(found, other + found).replace("text", "\\(x^2\\)")
    (tmp_path / "search.html").write_text(start + tex, "utf-8")
    assert check_browser.main(str(tmp_path)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "wide" in line] == ["wide.html at 390 pixels: is 908 pixels wide"]
    assert sum("no is not defined" in line for line in lines) == sum(line.endswith(": oh") for line in lines) == 2
    assert sum("cannot load" in line and "none.png" in line for line in lines) == 2
    assert sum("layers.html is not among the first" in line for line in lines) == 2
    assert sum("shows a formula as TeX" in line for line in lines) == 2


@pytest.fixture(scope="module")
def notebooks():
    pytest.importorskip("myst_nb", reason="the extra docs is not installed")
    return script("_extensions/notebooks.py")


def test_the_page_of_benchmarks_has_the_kept_figures():
    assert report.page(report.kept()) == report.PAGE.read_text("utf-8"), "run python -m asv_bench.report"


def extension(name: str):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    return script(f"_extensions/{name}.py")


def test_the_reading_order_has_every_file_once_and_says_how_long_it_is():
    page = (ROOT / "docs" / "explanation" / "reading_the_source.md").read_text("utf-8")
    read, lines = [], []
    for cell in re.findall(r"^\| \d+ \| (.*?) \|", page, re.MULTILINE):
        folder, files = ROOT, []
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", cell):
            folder = ROOT / Path(name).parent if "/" in name.rstrip("/") and name.endswith(".py") else folder
            files += sorted((ROOT / name).glob("*.py")) if name.endswith("/") else [folder / Path(name).name]
        read += files
        lines.append(sum(len(file.read_text("utf-8").splitlines()) for file in files))
    source = {*(ROOT / "fastnn").glob("*.py"), *(ROOT / "kernels").rglob("*.py")} - {ROOT / "fastnn" / "__init__.py"}
    assert sorted(read) == sorted(file for file in source if file.read_text("utf-8"))
    for rows, said in re.findall(r"Rows 1 to (\d+), some ([\d,]+) lines", page):
        assert abs(sum(lines[: int(rows)]) - int(said.replace(",", ""))) < 250, (rows, sum(lines[: int(rows)]))
    assert "Rows 1 to 6, some" in page


def test_arguments_in_a_docstring_become_a_list():
    lines = ["Trains.", "", "X, y : the rows; rate : a share, as in", "``fit``; beta : β₁; s : s in 0..1."]
    extension("public_names").list_arguments(None, "method", "fit", None, None, lines)
    assert lines[2:7] == [
        ":Parameters:",
        "    - **X, y** – The rows.",
        "    - **rate** – A share, as in ``fit``.",
        "    - **beta** – β₁.",
        "    - **s** – s in 0..1.",
    ]


def test_signatures_are_short():
    rows = "~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.float32]]"
    given = f"(f: ~collections.abc.Callable[[...], float], rows: list[{rows}] = <factory>)"
    signature, returns = extension("public_names").make_readable(None, "", "", None, None, given, None)
    assert (
        signature
        == "(f: ~collections.abc.Callable[..., float], rows: list[~numpy.typing.NDArray[~numpy.float32]] = ...)"
    )
    assert returns is None


def test_terms_of_the_glossary_are_words():
    nodes = pytest.importorskip("docutils.nodes")
    words = nodes.paragraph("", "", nodes.Text("dense layer, linear layer, "), nodes.math("", "Wx + b"))
    assert extension("glossary").terms(nodes.entry("", words)) == ["dense layer", "linear layer"]


def test_long_sentences_that_a_cell_prints_are_told_from_tables():
    are_sentences = extension("sentences").are_sentences
    assert are_sentences("X has " + "many words " * 10)
    assert not are_sentences("X has few words")
    assert not are_sentences("name    value   " * 10)
    assert not are_sentences("> file.py\n-> status = step(" + "x, " * 40)


TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[0-9][0-9]_*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_downloads_are_what_jupyter_can_show(notebooks, page):
    whole, without = (notebooks.notebook(page, solutions).cells for solutions in (True, False))
    for cells in (whole, without):
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert ":::" not in text
        assert not re.search(r"\]\([^)]*\.md\b", text), "a notebook has no such page beside it"
    secret = [cell.source for cell in whole if "solution" in cell.metadata.get("tags", ())]
    assert secret and not any(source in cell.source for source in secret for cell in without)
    places = sum(cell.source == "# Your solution" for cell in without)
    assert places == (0 if "assignment" in page.stem else 2)  # of an assignment, the task has the place


@pytest.mark.parametrize(
    "page", [page for page in TUTORIALS if "assignment" not in page.stem], ids=lambda page: page.stem
)
def test_chapters_are_built_alike(notebooks, page):
    """A question first, a picture within four cells of code, claims that are asserted, two exercises with solutions."""
    cells = notebooks.notebook(page, True).cells
    assert re.search(r"\*\*[^*]+\?[^*]*\*\*", cells[0].source), "no question in bold in the first paragraph"
    code = [cell for cell in cells if cell.cell_type == "code" and "%%writefile" not in cell.source]
    assert any("plt.show()" in cell.source for cell in code[:4])
    assert sum("assert " in cell.source for cell in code) >= 5
    exercises = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown").partition("## Exercises")[2]
    assert re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE) == ["1", "2"]
    solutions = [cell for cell in code if "solution" in cell.metadata.get("tags", ())]
    assert len(solutions) == 2 and all("assert " in cell.source for cell in solutions) and code[-2:] == solutions
    assert all("hide-cell" in cell.metadata["tags"] for cell in solutions)
