"""Draws the picture at the top of the README: python docs/picture.py"""

import io
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import fastnn as fn

X, y = fn.datasets.spirals(900, classes=3, turns=1.1, noise=0.03, seed=0)
layers = [fn.Input(2), fn.Dense(64, "tanh"), fn.Dense(64, "tanh"), fn.Dense(3, "softmax")]
model = fn.Model(layers, seed=0)
model.compile(fn.Adam(fn.OneCycle(0.02)), loss="cross_entropy", metrics=["accuracy"])
history = model.fit(X, y, epochs=100, validation_split=0.25, verbose=0)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(1.15, 1), layout="constrained")
fn.plots.decision_boundary(model, X, y, axes=left)
left.set_title("What it learned", fontsize=10)
history.plot("loss", axes=[right])
right.set_title("", loc="left")  # where the loss was least
right.set_title(f"{history['val_accuracy'][-1]:.1%} of the held-out points are right", fontsize=10)
drawn = io.BytesIO()
figure.savefig(drawn, dpi=200)
image = Image.open(drawn).convert("RGB").quantize(96)  # a quarter of the bytes, and no difference to the eye
image.save(Path(__file__).parent / "_static" / "spirals.png", optimize=True)
