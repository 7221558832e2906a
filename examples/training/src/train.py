"""Search the best parameters of one model, and let it read the test set.

What is kept are the parameters and what the model has read: they are the same
bytes in each run, which a pickle of the model need not be.
"""

import json
import sys
from pathlib import Path

import numpy as np
import yaml
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

MODELS = {
    "gradient_boosting": GradientBoostingClassifier(),
    "logistic_regression": LogisticRegression(max_iter=2000),
    "random_forest": RandomForestClassifier(n_jobs=1),
    "svm": SVC(),
}


def read(path):
    """Return the pixels, as 0..1, and the digits."""
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1] / 16, rows[:, -1].astype(int)


def search(name, values, folds, seed):
    """Try all combinations of the values on the training set."""
    found = GridSearchCV(
        MODELS[name].set_params(random_state=seed),
        values,
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        n_jobs=1,
    )
    return found.fit(*read("data/train.csv"))


if __name__ == "__main__":
    name = sys.argv[1]
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    model = search(name, params["models"][name], **params["search"])

    pixels, digits = read("data/test.csv")
    Path("models").mkdir(exist_ok=True)
    Path("predictions").mkdir(exist_ok=True)
    np.savetxt(
        f"predictions/{name}.csv",
        np.column_stack([digits, model.predict(pixels)]),
        fmt="%d",
        delimiter=",",
        header="digit,predicted",
        comments="",
    )
    summary = {
        "parameters": model.best_params_,
        "cv_accuracy": round(float(model.best_score_), 4),
    }
    Path(f"models/{name}.json").write_text(
        json.dumps(summary, indent=2) + "\n", encoding="ascii"
    )
    print(f"{name}: accuracy {summary['cv_accuracy']} in cross-validation")
