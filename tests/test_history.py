"""History: a dictionary of curves that prints, turns into a data frame, shows itself in a notebook and draws."""

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn as fn


def made(epochs, validation=True):
    """Curves with the least validation loss in the epoch after the middle (of 2 and more)."""
    history = fn.History()
    for epoch in range(1, epochs + 1):
        logs = {"loss": 1 / epoch, "accuracy": 1 - 1 / (epoch + 1)}
        if validation:
            logs |= {"val_loss": 0.5 + abs(epoch - (epochs // 2 + 1)) / 10, "val_accuracy": 0.25 + epoch / 1000}
        history.extend({name: [number] for name, number in logs.items()})
    return history


# The curves.


def test_it_is_a_dictionary_of_curves():
    history = made(3)
    assert history["loss"] == [1, 1 / 2, 1 / 3]
    assert history.history == history.to_dict() == dict(history)
    assert type(history.history) is type(history.to_dict()) is dict
    assert history.epochs == 3 and len(history) == 4 and "val_loss" in history
    with pytest.raises(KeyError, match="'mse' was not recorded; there is 'loss', 'accuracy', 'val_loss'"):
        history["mse"]
    with pytest.raises(KeyError, match="there is nothing yet"):
        fn.History()["loss"]


def test_to_dict_is_a_copy():
    history = made(2)
    history.to_dict()["loss"].append(0.0)
    assert history.epochs == 2


def test_copies_and_pickles():
    history = made(2)
    for twin in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(twin) is fn.History and twin == history
        twin.extend({"loss": [0.0]})
        assert history.epochs == 2


def test_what_an_epoch_lacks_is_nan_there():
    history = fn.History()
    history.extend({"loss": [1.0]})
    history.extend({"loss": [0.5], "learning_rate": [0.1]})
    history.extend({"learning_rate": [0.2]})
    np.testing.assert_array_equal(history["loss"], [1.0, 0.5, math.nan])
    np.testing.assert_array_equal(history["learning_rate"], [math.nan, 0.1, 0.2])


def test_best_epoch():
    assert made(9).best_epoch == 5
    assert made(9, validation=False).best_epoch is None
    assert fn.History().best_epoch is None
    history = fn.History()
    for loss in (math.nan, 0.2, 0.1, 0.1):
        history.extend({"loss": [1.0], "val_loss": [loss]})
    assert history.best_epoch == 3
    history = fn.History()
    history.extend({"loss": [1.0], "val_loss": [math.nan]})
    assert history.best_epoch is None


def test_a_fit_returns_one():
    X, y = fn.datasets.moons(100)
    model = fn.Model([fn.Input(2), fn.Dense(4, "tanh"), fn.Dense(2, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", ["accuracy"])
    history = model.fit(X, y, epochs=3, validation_split=0.2)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history is model.history and history.epochs == 3


# The table.


def test_table():
    assert str(made(2)).splitlines() == [
        "epoch    loss  accuracy  val_loss  val_accuracy",
        "    1  1.0000    0.5000    0.6000        0.2510",
        "    2  0.5000    0.6667    0.5000        0.2520",
        "2 epochs, least val_loss 0.5000 in epoch 2",
    ]
    assert str(made(1, validation=False)).splitlines()[-1] == "1 epoch"
    assert str(fn.History()) == "History: no epochs yet"
    assert repr(made(2, validation=False)) == "<History of 2 epochs: loss=0.5000, accuracy=0.6667>"


def epochs_shown(text):
    return [line.split()[0] for line in text.splitlines()[1:-1]]


def test_a_long_table_is_shortened_in_the_middle():
    first, last = [str(n) for n in range(1, 11)], [str(n) for n in range(91, 101)]
    assert epochs_shown(str(made(100))) == [*first, "...", "51", "...", *last]
    assert epochs_shown(str(made(100, validation=False))) == [*first, "...", *last]
    assert epochs_shown(str(made(20, validation=False))) == [str(n) for n in range(1, 21)]
    assert "..." in epochs_shown(str(made(21, validation=False)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.12345, "0.1235"), (-3, "-3.0000"), (1.5e-5, "1.50e-05"), (2e7, "2.00e+07"), (math.nan, "nan")],
)
def test_numbers_keep_their_digits(value, text):
    from fastnn.history import number_text

    assert number_text(value) == text


def test_a_table_looks_for_the_best_epoch_once(monkeypatch):
    history, looked = made(1000), []
    best = fn.History.best_epoch.fget
    monkeypatch.setattr(fn.History, "best_epoch", property(lambda self: looked.append(1) or best(self)))
    assert "501" in str(history) and "501" in history._repr_html_()
    assert len(looked) <= 5


def test_html_table():
    table = ElementTree.fromstring(made(100)._repr_html_())
    assert table.find("caption").text == "100 epochs, least val_loss 0.5000 in epoch 51"
    assert [cell.text for cell in table.findall("thead/tr/th")] == ["epoch", *made(1)]
    rows = table.findall("tbody/tr")
    assert len(rows) == 23 and {len(row) for row in rows} == {5}
    bold = [[cell.text for cell in row] for row in rows if "bold" in row.get("style", "")]
    assert bold == [["51", "0.0196", "0.9808", "0.5000", "0.3010"]]


def test_html_of_odd_histories():
    assert ElementTree.fromstring(fn.History()._repr_html_()).text == "History: no epochs yet"
    history = fn.History()
    history.extend({"<b>&": [1.0]})
    assert [cell.text for cell in ElementTree.fromstring(history._repr_html_()).findall("thead/tr/th")] == [
        "epoch",
        "<b>&",
    ]


# Data frames.


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    history = made(4)
    for frame in (pandas.DataFrame(history), pandas.DataFrame(history.history)):
        assert list(frame.columns) == list(history)
        assert frame["loss"].tolist() == history["loss"]
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4] and frame.index.name == "epoch"
    assert frame["val_loss"].idxmin() == history.best_epoch
    assert fn.History().to_frame().empty


def test_missing_packages_are_named():
    code = """
import sys
sys.modules["matplotlib"] = sys.modules["pandas"] = None
import fastnn as fn
history = fn.History()
history.extend({"loss": [1.0]})
for method in (history.plot, history.to_frame):
    try:
        method()
    except ImportError as fault:
        print(fault)
"""
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        'pictures need matplotlib: python -m pip install "fastnn[plot]"',
        "to_frame needs pandas: python -m pip install pandas",
    ]


# The picture.


def curves(axes):
    """label -> (x, y) of the curves of an axes."""
    return {line.get_label(): line.get_data() for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_plot_draws_every_curve():
    pytest.importorskip("matplotlib")
    history = made(9)
    figure = history.plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        found = curves(axes)
        assert set(found) == {"training", "validation"}
        for label, key in (("training", name), ("validation", f"val_{name}")):
            np.testing.assert_array_equal(found[label], [range(1, 10), history[key]])
        (marked,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
        np.testing.assert_array_equal(marked.get_data(), [[5], [history[f"val_{name}"][4]]])
        assert f"best epoch 5: validation {history[f'val_{name}'][4]:.4f}" == axes.get_title(loc="left")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    assert figure._repr_png_()[0].startswith(b"\x89PNG")


def test_plot_of_one_epoch_can_be_seen():
    pytest.importorskip("matplotlib")
    for axes in made(1).plot().axes:
        markers = {line.get_label(): line.get_marker() for line in axes.get_lines()}
        assert markers["training"] == markers["validation"] == "o"
        assert axes.get_xticks().tolist() == [1]


def test_plot_without_validation():
    pytest.importorskip("matplotlib")
    figure = made(5, validation=False).plot()
    assert [set(curves(axes)) for axes in figure.axes] == [{"training"}, {"training"}]
    assert not figure.legends and all(len(axes.get_lines()) == 1 for axes in figure.axes)


def test_plot_with_nan():
    pytest.importorskip("matplotlib")
    history = fn.History()
    history.extend({"loss": [1.0], "val_loss": [math.nan]})
    history.extend({"loss": [math.nan], "val_loss": [math.nan]})
    assert set(curves(history.plot().axes[0])) == {"training", "validation"}


def test_plot_of_a_wide_span_is_logarithmic():
    """The axis is, where the largest of both curves is more than 1000 times the least, and the least is above zero."""
    pytest.importorskip("matplotlib")
    for losses, validation, scale in (
        ([1.0, 0.0011], [0.5, 0.5], "linear"),
        ([1.0, 0.0009], [0.5, 0.5], "log"),
        ([0.5, 0.5], [1.0, 0.0009], "log"),
        ([1.0, 0.1], [0.1, 0.0009], "log"),
        ([1.0, 0.0], [0.5, 0.5], "linear"),
        ([1.0, -1e-6], [0.5, 0.5], "linear"),
        ([math.nan, 1.0, 0.0009], [0.5, math.nan, 0.5], "log"),
        ([1.0, 0.5], [math.inf, 0.5], "linear"),
        ([math.nan, math.nan], [math.nan, math.nan], "linear"),
    ):
        history = fn.History()
        for loss, val_loss in zip(losses, validation, strict=True):
            history.extend({"loss": [loss], "accuracy": [0.5], "val_loss": [val_loss], "val_accuracy": [0.5]})
        assert [axes.get_yscale() for axes in history.plot().axes] == [scale, "linear"], (losses, validation)


def test_plot_chooses_quantities():
    pytest.importorskip("matplotlib")
    assert [axes.get_ylabel() for axes in made(3).plot("accuracy").axes] == ["accuracy"]
    assert [axes.get_ylabel() for axes in made(3).plot(["accuracy", "loss", "loss"]).axes] == ["accuracy", "loss"]
    history = fn.History(loss=[1.0], RMSLE=[2.0], Loss=[3.0])
    for name, quantity in (("RMSLE", "RMSLE"), ("rmsle", "RMSLE"), ("Loss", "Loss"), ("loss", "loss")):
        assert [axes.get_ylabel() for axes in history.plot(name).axes] == [quantity]
    with pytest.raises(ValueError, match="'RMSLA'; expected one of 'loss', 'RMSLE', 'Loss'; did you mean 'RMSLE'"):
        history.plot("RMSLA")


def test_plot_into_given_axes():
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    axes = figure.subplots(1, 2)
    assert made(3).plot(axes=axes) is figure
    assert [place.get_ylabel() for place in axes] == ["loss", "accuracy"]
    assert axes[0].get_legend() is not None and axes[1].get_legend() is None
    assert made(3).plot("loss", axes=figure.add_subplot()) is figure


def test_plot_says_what_is_wrong():
    figures = pytest.importorskip("matplotlib.figure")
    axes = figures.Figure().add_subplot()
    for arguments, error, words in (
        ({"names": "acuracy"}, ValueError, "names is 'acuracy'; expected one of 'loss', 'accuracy'; did you mean"),
        ({"names": ["loss", 3]}, ValueError, "names is 3; expected one of"),
        ({"names": []}, TypeError, r"names is \[\]"),
        ({"names": 3}, TypeError, "names is 3; expected a name or a list of names"),
        ({"axes": axes}, ValueError, "axes has 1 axes; expected 2, one for each quantity"),
        ({"axes": 3}, TypeError, "axes is 3; expected matplotlib axes"),
        ({"axes": [axes, 3]}, TypeError, "expected matplotlib axes"),
    ):
        with pytest.raises(error, match=words):
            made(2).plot(**arguments)
    with pytest.raises(ValueError, match="the history has no epochs yet; call fit first"):
        fn.History().plot()
