"""Settings of the project: those of Kedro."""
