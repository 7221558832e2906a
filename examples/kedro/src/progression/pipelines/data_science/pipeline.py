from kedro.pipeline import Pipeline, node

from .nodes import evaluate, split, train_forest, train_ridge, write_report


def create_pipeline(**kwargs):
    return Pipeline(
        [
            node(
                split, ["measurements", "params:split"], ["train", "test"], name="split"
            ),
            node(
                train_ridge,
                ["train", "params:ridge.alpha"],
                "ridge_model",
                name="train_ridge",
            ),
            node(
                train_forest,
                ["train", "params:forest"],
                "forest_model",
                name="train_forest",
            ),
            node(
                evaluate, ["ridge_model", "test"], "ridge_scores", name="evaluate_ridge"
            ),
            node(
                evaluate,
                ["forest_model", "test"],
                "forest_scores",
                name="evaluate_forest",
            ),
            node(
                write_report,
                ["ridge_scores", "forest_scores", "measurements"],
                "report",
                name="report",
            ),
        ]
    )
