"""Progress: one line in a terminal, a bar in a notebook, plain lines elsewhere if asked for."""

import io
import os
import re
import subprocess
import sys
import types
from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn as fn
from fastnn import progress
from fastnn.history import number_text
from fastnn.progress import Progress


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    """Show each state, however quickly it comes."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)


@pytest.fixture
def terminal(monkeypatch, at_once):
    fake = FakeTerminal()  # pytest sets sys.stderr anew after the fixtures
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stderr=fake, modules=sys.modules))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return fake


@pytest.fixture
def notebook(monkeypatch, at_once):
    """What a notebook was asked to display: a list of (new or changed, content)."""
    asked = []

    class Handle:
        def update(self, content, raw):
            assert raw
            asked.append(("changed", content))

    def display(content, raw, display_id):
        assert raw and display_id
        asked.append(("new", content))
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return asked


def states(terminal):
    """What the line showed, one state after another; the last is what is left."""
    return [state.rstrip() for state in terminal.getvalue().split("\r")][1:]


def work(title="fit", verbose="auto", steps=4):
    with Progress(title, verbose) as shown:
        for step in range(1, steps + 1):
            shown.show(step / steps, f"epoch {step}/{steps}")


# A terminal.


def test_line_in_a_terminal(terminal):
    work()
    found = states(terminal)
    assert found[:3] == [
        "fit █████░░░░░░░░░░░░░░░  25 %  epoch 1/4",  # too early to say how long it takes
        "fit ██████████░░░░░░░░░░  50 %  epoch 2/4  0 s left",
        "fit ███████████████░░░░░  75 %  epoch 3/4  0 s left",
    ]
    assert found[-2:] == ["", ""]  # blanks over the line, then back to its beginning
    assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize("columns", [8, 30, 45, 60])
def test_line_never_wraps(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    work()
    assert max(map(len, states(terminal))) < columns


def test_line_without_block_characters(terminal):
    terminal.encoding = "ascii"
    work()
    assert states(terminal)[0].startswith("fit #####--------------- ")
    terminal.getvalue().encode("ascii")


def test_line_covers_a_longer_one_before_it(terminal):
    with Progress("fit", "auto") as shown:
        shown.show(0.1, "a text that is longer than the next one")
        shown.show(0.2, "short")
        first, second = terminal.getvalue().split("\r")[1:]
        assert "short" in second and len(second.rstrip()) < len(second) == len(first)


def test_a_quick_work_shows_nothing(terminal, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 60.0)
    work()
    assert terminal.getvalue() == ""


def test_line_is_taken_away_after_an_error(terminal):
    with pytest.raises(KeyboardInterrupt), Progress("fit", "auto") as shown:
        shown.show(0.5, "epoch 1")
        raise KeyboardInterrupt
    assert states(terminal)[-1] == ""


def test_time_left_does_not_count_what_came_before(terminal, monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 102.0])  # at the start; then, after compiling, at each state
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock, 103.0))
    work()
    assert states(terminal)[1].endswith("50 %  epoch 2/4  2 s left")


def test_a_terminal_that_cannot_go_back_is_none(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    work()
    assert terminal.getvalue() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_in_a_real_terminal():
    import pty

    code = """
from fastnn import progress
progress.DELAY = progress.INTERVAL = 0
print("before")
with progress.Progress("fit", "auto") as shown:
    shown.show(0.5, "half")
print("after")
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not part:
                break
            text += part
    os.close(ours)
    assert process.returncode == 0
    before, line, blank, after = re.split(r"\r(?!\n)", text.decode())
    assert before.strip() == "before" and blank.strip() == "" and after.strip() == "after"
    assert line == "fit ██████████░░░░░░░░░░  50 %  half" and len(blank) == len(line)


# A notebook.


def test_bar_in_a_notebook(notebook):
    work("<fit>")
    kinds, contents = zip(*notebook, strict=True)
    assert kinds == ("new", "changed", "changed", "changed", "changed")
    first = ElementTree.fromstring(contents[0]["text/html"])
    bar = first.find("progress")
    assert (bar.get("value"), bar.get("max")) == ("0.250", "1")
    assert first.text.strip() == "<fit>" and "25 %  epoch 1/4" in bar.tail
    last = ElementTree.fromstring(contents[-1]["text/html"])
    assert last.find("progress") is None
    assert (
        re.fullmatch(r"<fit>  epoch 4/4  [\d.]+ s", contents[-1]["text/plain"])
        and last.text == contents[-1]["text/plain"]
    )


def test_stopped_in_a_notebook(notebook):
    with pytest.raises(KeyboardInterrupt), Progress("fit", 1) as shown:
        shown.show(0.5, "epoch 1/2")
        raise KeyboardInterrupt
    assert re.fullmatch(r"fit  epoch 1/2  stopped at 50 %  [\d.]+ s", notebook[-1][1]["text/plain"])


def test_a_quick_work_leaves_nothing_in_a_notebook(notebook, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 60.0)
    work()
    assert notebook == []


def test_lines_in_a_notebook_if_asked_for(notebook, capsys):
    with Progress("fit", 2) as shown:
        shown.show(0.5, "epoch 1/2")
        shown.epoch(1, 2, {"loss": 0.5})
    assert notebook == [] and capsys.readouterr().out == "epoch 1/2  loss 0.5000\n"


def test_ipython_in_a_terminal_is_no_notebook(notebook, terminal, monkeypatch):
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    work()
    assert notebook == [] and "50 %" in terminal.getvalue()


# Elsewhere.


@pytest.mark.parametrize(("verbose", "lines"), [("auto", False), (0, False), (False, False), (1, True), (2, True)])
def test_plain_lines_where_there_is_neither(verbose, lines, capsys, at_once):
    with Progress("fit", progress.check_verbose(verbose)) as shown:
        assert shown.lines == lines
        shown.show(0.5, "epoch 1/10")
        shown.epoch(1, 10, {"loss": 0.25, "val_loss": 1e-6})
    assert capsys.readouterr() == ("epoch  1/10  loss 0.2500  val_loss 1.00e-06\n" if lines else "", "")


def test_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    work()


def test_verbose_is_checked():
    for wrong in (3, -1, "yes", None, 1.5, np.array([1, 2]), [0, 1]):
        with pytest.raises(ValueError, match=r'verbose is .*; expected "auto"'):
            progress.check_verbose(wrong)


# Compiling.


@pytest.mark.parametrize("verbose", [1, 2])
def test_compiling_is_said_once_on_the_standard_error(verbose, capsys):
    from fastnn.kernels import jit

    with Progress("fit", verbose):
        jit.on_compile("one")
        jit.on_compile("two")
    jit.on_compile("three")  # when nothing is shown any more
    assert capsys.readouterr().err.count("compiling kernels") == 1


def test_compiling_in_a_notebook(notebook):
    from fastnn.kernels import jit

    with Progress("fit", "auto") as shown:
        jit.on_compile("one")
        assert "compiling kernels" in notebook[0][1]["text/html"]
        shown.show(1.0, "done")
    assert [kind for kind, _ in notebook] == ["new", "changed", "changed"]


def test_an_evaluation_within_a_fit_leaves_the_fit_listening(capsys):
    from fastnn.kernels import jit

    with Progress("fit", 2):
        with Progress("evaluate", 0):
            pass
        jit.on_compile("one")
    assert capsys.readouterr().err.count("compiling kernels") == 1


def test_works_that_overlap_leave_nobody_listening(capsys):
    from fastnn.kernels import jit

    first, second = Progress("fit", 2), Progress("fit", 2)  # of two threads
    first.__enter__()
    second.__enter__()
    first.__exit__(None)
    jit.on_compile("one")
    second.__exit__(None)
    assert capsys.readouterr().err.count("compiling kernels") == 1
    with Progress("fit", 0):
        jit.on_compile("two")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.43, "0.4 s"),
        (7, "7 s"),
        (12.3, "12 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_a_fit_in_a_notebook(notebook):
    X, y = fn.datasets.moons(200)
    model = fn.Model([fn.Input(2), fn.Dense(4, "tanh"), fn.Dense(2, "softmax")], seed=0, name="moons")
    model.compile("adam", "cross_entropy")
    history = model.fit(X, y, epochs=3, validation_split=0.2)
    losses = f"loss {history['loss'][-1]:.4f}  val_loss {history['val_loss'][-1]:.4f}"
    assert notebook[-1][1]["text/plain"].startswith(f"moons  epoch 3/3  {losses}  ")


def test_within_an_epoch_the_loss_is_the_mean_so_far(terminal):
    X, y = fn.datasets.moons(200)
    model = fn.Model([fn.Input(2), fn.Dense(4, "tanh"), fn.Dense(2, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    batches = []
    by_batch = fn.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(logs["loss"]))
    model.fit(X, y, batch_size=20, epochs=2, callbacks=[by_batch])
    for count, epoch in ((3, 1), (13, 2)):  # the third batch of each epoch
        mean = sum(batches[count - 3 : count]) / 3
        assert f"epoch {epoch}/2  loss {mean:.4f}" in states(terminal)[count - 1]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_line_has_the_figures_of_before_the_callbacks(terminal, optimizer):
    """A callback may add to the logs whatever later callbacks read."""
    pytest.importorskip("scipy")
    model = fn.Model([fn.Input(3), fn.Dense(1)], seed=0)
    model.compile(optimizer, "mse")
    change = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(loss="low", val_loss=None))
    history = model.fit([[1.0, 2.0, 3.0], [1.0, 0.0, 1.0]], [1.0, 2.0], epochs=2, callbacks=[change])
    assert any(f"2/2  loss {number_text(history['loss'][-1])}" in state for state in states(terminal))


def test_lbfgs_shows_its_iterations(terminal):
    pytest.importorskip("scipy")
    model = fn.Model([fn.Input(3), fn.Dense(1)], seed=0)
    model.compile("lbfgs", "mse")
    model.fit([[1.0, 2.0, 3.0], [1.0, 0.0, 1.0], [0.0, 1.0, 2.0]], [1.0, 2.0, 3.0], epochs=3)
    assert any(re.search(r"\d+ %  iteration \d/3  loss \d", state) for state in states(terminal))


def test_lbfgs_shows_small_losses_too(terminal):
    pytest.importorskip("scipy")
    model = fn.Model([fn.Input(3), fn.Dense(1)], seed=0, dtype="float64")
    model.compile("lbfgs", "mse")
    X, y = [[1.0, 2.0, 3.0], [1.0, 0.0, 1.0], [0.0, 1.0, 2.0]], [1.0, 2.0, 3.0]
    model.fit(X, y, epochs=30, validation_data=(X, y))
    assert any(re.search(r"iteration \d+/30  loss \d\.\d\de-\d+  val_loss \d\.", state) for state in states(terminal))
