"""Handwritten digits as lines of text, and a linear model of them.

All numbers are whole numbers, so that every machine gets the same bytes.
"""

import json
from operator import mul
from pathlib import Path

DIGITS = range(10)
FEATURES = 8 * 8 + 1  # the pixels, and a constant for the bias


def read(path):
    """Read lines of a label and 64 pixels, each a base-17 digit for 0..16.

    Returns:
        a list of (label, features).
    """
    rows = []
    for line in Path(path).read_text(encoding="ascii").splitlines():
        label, pixels = line.split()
        rows.append((int(label), [*(int(pixel, 17) for pixel in pixels), 1]))
    return rows


def scores(weights, features):
    """Score each digit; the highest score is the model's answer."""
    return [sum(map(mul, row, features)) for row in weights]


def accuracy(weights, rows):
    """Return the share of rows that the model gets right."""
    right = 0
    for label, features in rows:
        found = scores(weights, features)
        right += found.index(max(found)) == label
    return right / len(rows)


def mean(models):
    """Return the mean of models, rounded down."""
    return [
        [sum(column) // len(models) for column in zip(*rows)] for rows in zip(*models)
    ]


def load(path):
    """Read the weights of a model."""
    return json.loads(Path(path).read_text(encoding="ascii"))


def load_all(folder, sessions):
    """Read the models of sessions.

    By name: the folder may still hold those of sessions that are no longer wanted.
    """
    return [load(Path(folder) / f"{session}.json") for session in sessions]


def save(value, path):
    """Write weights or metrics; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")
