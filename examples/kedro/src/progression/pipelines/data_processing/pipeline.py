from kedro.pipeline import Pipeline, node

from .nodes import clean_patients, clean_serum, join


def create_pipeline(**kwargs):
    return Pipeline(
        [
            node(clean_patients, "patients", "clean_patients", name="clean_patients"),
            node(clean_serum, "serum", "clean_serum", name="clean_serum"),
            node(join, ["clean_patients", "clean_serum"], "measurements", name="join"),
        ]
    )
