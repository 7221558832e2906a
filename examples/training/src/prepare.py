"""Split the digits that come with scikit-learn into a training and a test set.

A row is 64 pixels of 0..16, and the digit.
"""

from pathlib import Path

import numpy as np
import yaml
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if __name__ == "__main__":
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["data"]
    pixels, digits = load_digits(return_X_y=True)
    train, test = train_test_split(
        np.column_stack([pixels, digits]),
        test_size=params["test_size"],
        random_state=params["seed"],
        stratify=digits,
    )

    folder = Path("data")
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        np.savetxt(folder / f"{name}.csv", rows, fmt="%d", delimiter=",")
        print(f"{name}: {len(rows)} digits")
