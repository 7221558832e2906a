"""From measurements to models, and to a report of how good they are."""

import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

TARGET = "progression"


def split(measurements: pd.DataFrame, options: dict) -> tuple:
    return train_test_split(
        measurements, test_size=options["test_size"], random_state=options["seed"]
    )


def _xy(table: pd.DataFrame) -> tuple:
    return table.drop(columns=TARGET), table[TARGET]


def train_ridge(train: pd.DataFrame, alpha: float) -> Ridge:
    return Ridge(alpha=alpha).fit(*_xy(train))


def train_forest(train: pd.DataFrame, options: dict) -> RandomForestRegressor:
    forest = RandomForestRegressor(options["trees"], random_state=options["seed"])
    return forest.fit(*_xy(train))


def evaluate(model, test: pd.DataFrame) -> dict:
    features, target = _xy(test)
    predicted = model.predict(features)
    return {
        "r2": round(r2_score(target, predicted), 3),
        "mean_absolute_error": round(mean_absolute_error(target, predicted), 1),
    }


def write_report(ridge: dict, forest: dict, measurements: pd.DataFrame) -> str:
    lines = ["| model | R² | mean absolute error |", "|---|---|---|"]
    for name, scores in (("ridge", ridge), ("forest", forest)):
        lines.append(f"| {name} | {scores['r2']} | {scores['mean_absolute_error']} |")
    return "\n".join([f"{len(measurements)} patients", "", *lines, ""])
