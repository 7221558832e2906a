"""A preload of Dask workers that are started for a run: what is typed in the terminal
is for DVC, which tells them."""

import os


def dask_setup(_worker) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
