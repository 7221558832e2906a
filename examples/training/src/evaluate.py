"""Compare the models on the test set; show what the best of them mixes up."""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml
from sklearn.metrics import accuracy_score, f1_score


def measure(name):
    """Return what one model is worth."""
    rows = np.loadtxt(f"predictions/{name}.csv", int, delimiter=",", skiprows=1)
    digits, predicted = rows.T
    model = json.loads(Path(f"models/{name}.json").read_text("ascii"))
    return {
        "accuracy": round(float(accuracy_score(digits, predicted)), 4),
        "macro_f1": round(float(f1_score(digits, predicted, average="macro")), 4),
        "cv_accuracy": model["cv_accuracy"],
    }


if __name__ == "__main__":
    # NOTE: a folder may still hold the files of a model that is no longer wanted
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    metrics = {name: measure(name) for name in sorted(params["models"])}
    best = max(metrics, key=lambda name: metrics[name]["cv_accuracy"])

    Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "ascii")
    shutil.copyfile(f"predictions/{best}.csv", "confusion.csv")
    for name, values in metrics.items():
        print(f"{name:20} accuracy {values['accuracy']:.4f}")
