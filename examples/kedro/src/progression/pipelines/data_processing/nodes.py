"""From tables as they came to one of measurements."""

import pandas as pd

NAMES = {
    "s1": "cholesterol",
    "s2": "ldl",
    "s3": "hdl",
    "s4": "cholesterol_by_hdl",
    "s5": "log_triglycerides",
    "s6": "glucose",
}


def _without_outliers(table: pd.DataFrame, columns: list) -> pd.DataFrame:
    low, high = table[columns].quantile(0.001), table[columns].quantile(0.999)
    return table[((table[columns] >= low) & (table[columns] <= high)).all(axis=1)]


def clean_patients(patients: pd.DataFrame) -> pd.DataFrame:
    patients["female"] = patients.pop("sex") == 2
    return _without_outliers(patients, ["bmi", "bp"])


def clean_serum(serum: pd.DataFrame) -> pd.DataFrame:
    return _without_outliers(serum.rename(columns=NAMES), list(NAMES.values()))


def join(patients: pd.DataFrame, serum: pd.DataFrame) -> pd.DataFrame:
    return patients.merge(serum, on="patient").drop(columns="patient")
