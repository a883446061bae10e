"""The columns of a data frame: what was trained with is what is asked for."""

import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import files

pandas = pytest.importorskip("pandas")

FRAME = pandas.DataFrame(np.random.default_rng(0).standard_normal((12, 3)), columns=["age", "height", "weight"])
Y = np.arange(12) % 2


def trained(frame=FRAME, **options):
    model = fn.Model([fn.Input(3), fn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy")
    model.fit(frame, Y, verbose=0, **options)
    return model


#: name -> (the frame, words of the error).
OTHERS = {
    "order": (FRAME[["height", "age", "weight"]], "X has its columns in another order than trained with"),
    "missing": (FRAME[["age", "height"]], "X has no column 'weight'; expected ['age', 'height', 'weight']"),
    "further": (FRAME.assign(id=0), "X has the column 'id', which was not trained with"),
    "renamed": (
        FRAME.rename(columns={"age": "years"}),
        "X has no column 'age' and the column 'years', which was not trained with",
    ),
}

#: What takes X.
ASK = {
    "predict": lambda model, X: model.predict(X),
    "evaluate": lambda model, X: model.evaluate(X, Y),
    "fit": lambda model, X: model.fit(X, Y),
    "train_on_batch": lambda model, X: model.train_on_batch(X, Y),
    "activations": lambda model, X: model.activations(X),
    "gradients": lambda model, X: model.gradients(X, Y),
}


@pytest.mark.parametrize("action", ASK)
@pytest.mark.parametrize("name", OTHERS)
def test_other_columns_are_refused(name, action):
    frame, words = OTHERS[name]
    model = trained()
    step = model.step
    with pytest.raises(ValueError, match=r"expected \['age', 'height', 'weight'\]") as caught:
        ASK[action](model, frame)
    assert words in str(caught.value) and model.step == step
    if name in ("order", "further"):
        assert "X[model.columns] has them in order, X.to_numpy() passes them by their places" in str(caught.value)
        assert np.array_equal(model.predict(frame[model.columns]), model.predict(FRAME))


def test_arrays_and_the_same_columns_are_taken():
    model = trained()
    assert model.columns == ["age", "height", "weight"]
    for X in (FRAME, FRAME.to_numpy(), FRAME.to_numpy().tolist()):
        assert model.predict(X).shape == (12, 1)
    model.fit(FRAME.to_numpy(), Y, verbose=0)
    assert model.columns == ["age", "height", "weight"]


def test_without_names_all_columns_are_taken():
    for frame in (FRAME.to_numpy(), FRAME.set_axis([0, 1, 2], axis=1)):
        model = trained(frame)
        assert model.columns is None
        model.predict(FRAME[["height", "age", "weight"]])


def test_columns_to_validate_on_are_those_to_train_on():
    with pytest.raises(ValueError, match=r"validation_data\[0\] has its columns in another order"):
        trained(validation_data=(OTHERS["order"][0], Y))
    assert trained(validation_data=(FRAME, Y)).columns == trained(validation_split=0.25).columns


def test_what_was_not_trained_with_is_not_remembered():
    model = fn.Model([fn.Input(3), fn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy")
    with pytest.raises(ValueError, match="X has 12 rows and y has 11"):
        model.fit(FRAME, Y[:11])
    assert model.columns is None
    model.train_on_batch(FRAME, Y)
    assert model.columns == ["age", "height", "weight"]


def test_names_are_copied_and_saved(tmp_path):
    model = trained()
    model.save(tmp_path / "m")
    for twin in (model.copy(), pickle.loads(pickle.dumps(model)), fn.load(tmp_path / "m")):
        assert twin.columns == model.columns
        with pytest.raises(ValueError, match="in another order"):
            twin.predict(OTHERS["order"][0])


@pytest.mark.parametrize("value", ["abc", ["a", "b"], [1, 2, 3], {"a": 1}])
def test_names_in_a_file_are_checked(value):
    with pytest.raises(fn.ModelFileError, match=r"the model's columns are .*; expected 3 names"):
        files.column_names(value, 3)
    assert files.column_names(None, 3) is None


def test_names_that_are_no_text_count_as_their_text():
    spectra = FRAME.set_axis([400, 410.5, pandas.Timestamp("2026-01-01")], axis=1)
    model = fn.Model([fn.Input(3), fn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy")
    model.fit(spectra, Y, verbose=0)
    assert model.columns == ["400", "410.5", "2026-01-01 00:00:00"]
    others = spectra[spectra.columns[::-1]]
    with pytest.raises(ValueError, match=r"X\.set_axis\(X\.columns\.map\(str\), axis=1\)\[model\.columns\] has them"):
        model.predict(others)
    in_order = others.set_axis(others.columns.map(str), axis=1)[model.columns]
    assert np.array_equal(model.predict(in_order), model.predict(spectra))
    assert np.array_equal(model.predict(FRAME.set_axis(range(3), axis=1)), model.predict(spectra))  # as an array


def test_names_that_stand_twice_are_not_told_to_be_picked():
    twice = FRAME.set_axis(["a", "a", "b"], axis=1)
    model = fn.Model([fn.Input(3), fn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy")
    model.fit(twice, Y, verbose=0)
    with pytest.raises(ValueError, match=r"\(a list\): X\.to_numpy\(\) passes them by their places$"):
        model.predict(FRAME.set_axis(["a", "b", "a"], axis=1))
