"""What model.summary() prints: the layers, and what a training step takes."""

import re

import numpy as np
import pytest

import fastnn as fn
from fastnn.summary import bytes_text


def network():
    layers = [fn.Input(20), fn.Dense(64, "relu", trainable=False), fn.Dropout(0.25), fn.Dense(3, "softmax")]
    return fn.Model(layers, seed=7, name="net")


def memory(text):
    """name -> what the summary says it takes."""
    return dict(re.findall(r"^  (\S.*?)  +(\S+ \w+)$", text, re.MULTILINE))


def test_layers(capsys):
    network().summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        "net: float32, seed 7",
        "",
        "layer      output  parameters  FLOPs a row",
        "input       (20,)           0            0",
        "dense_1     (64,)       1,344        2,688  relu, frozen",  # 20·64 + 64; 2·20·64 + 64 + 64
        "dropout_1   (64,)           0            0  rate 0.25",
        "dense_2      (3,)         195          390  softmax",  # 64·3 + 3; 2·64·3 + 3 + 3
    ]
    assert "parameters: 1,539, 195 of them trained" in lines
    assert lines[-1].endswith("to predict one row: 3,078")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("optimizer", "slots"), [("sgd", 0), (fn.SGD(momentum=0.9), 1), ("adam", 2)])
def test_memory_is_what_the_engine_takes(optimizer, slots, dtype, capsys):
    model = fn.Model([fn.Input(20), fn.Dense(64, "tanh"), fn.Dropout(0.5), fn.Dense(3, "softmax")], seed=0, dtype=dtype)
    model.compile(optimizer, "cross_entropy", ["accuracy"], device="cpu")
    model.fit(np.ones((100, 20)), np.arange(100) % 3, batch_size=50, verbose=0)
    capsys.readouterr()
    model.summary(batch_size=50)
    found = memory(capsys.readouterr().out)
    runner = model._runners["training"]
    taken = {
        "parameters": model.arenas.parameters.nbytes,
        "gradients": model.arenas.gradients.nbytes,
        f"optimizer ({type(model.optimizer).__name__})": sum(slot.nbytes for slot in model.arenas.slots),
        "activations": runner.activations.nbytes,
        "their derivatives": runner.derivatives.nbytes,
    }
    assert len(model.arenas.slots) == slots
    taken["together"] = sum(taken.values())
    assert found == {name: bytes_text(size) for name, size in taken.items()}


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_of_a_batch_whose_blocks_take_turns(threads, capsys):
    model = fn.Model([fn.Input(4), fn.Dense(64, "tanh"), fn.Dense(3)], seed=0)
    model.compile("sgd", "mse", device="cpu", threads=threads)
    model.fit(np.ones((9000, 4)), np.ones((9000, 3)), batch_size=9000, verbose=0)
    capsys.readouterr()
    model.summary(batch_size=9000)
    found = memory(capsys.readouterr().out)
    runner = model._runners["training"]
    assert runner.arena_rows < 9000 and len(runner.parts) > 0
    assert found["activations"] == bytes_text(runner.activations.nbytes)
    assert found["their derivatives"] == bytes_text(runner.derivatives.nbytes)
    assert found["gradients of parts of the rows"] == bytes_text(runner.parts.nbytes)


def test_flops_are_the_plans(capsys):
    model = network()
    model.compile("adam", "cross_entropy")
    for rows in (32, 1000):
        model.summary(rows)
        text = capsys.readouterr().out
        assert f"memory of a training step on {rows:,} rows" in text
        assert f"FLOPs of that step: {model.plan.step_flops(rows):,};" in text


def test_before_compile(capsys):
    network().summary()
    assert memory(capsys.readouterr().out)["optimizer (none yet)"] == "0 bytes"


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size is 0; expected a whole number of at least 1"):
        network().summary(0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_499, "999.5 kB"),
        (999_500, "1.0 MB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_bytes(size, text):
    assert bytes_text(size) == text
