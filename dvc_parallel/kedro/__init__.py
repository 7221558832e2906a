"""Kedro: one stage of DVC for each node of a Kedro project.

    plugin -> {update -> {dvc_yaml, free_inputs} -> stages, node_run} -> fingerprint
        -> {datasets, parameters} -> project

``plugin`` is what Kedro loads with each of its commands; it imports the rest, and Kedro
itself, when one of ours runs. No other room imports this one.
"""

FOLDER = ".kedro-dvc"
"""What this room keeps in a Kedro project: fingerprints, which belong to git, and data
that has no place of its own in the catalog, which belongs to DVC."""

PICKLES = f"{FOLDER}/memory"
MARKERS = f"{FOLDER}/markers"


class KedroError(Exception):
    """What is wrong with a Kedro project, in one line that says what to do."""
