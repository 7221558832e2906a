"""A pytest plugin that has every repo of DVC's own tests run stages in parallel.

DVC's tests give each test a folder for the system's config; the option goes into
a file there.  Load it with ``-p parallel_jobs``, and set ``PARALLEL_JOBS``.
"""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    folder = os.environ.get("DVC_SYSTEM_CONFIG_DIR")
    assert folder, "DVC's tests no longer set the folder of the system's config"
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "config")
    with open(path, "w") as fobj:
        fobj.write(f"[core]\n    parallel_jobs = {os.environ['PARALLEL_JOBS']}\n")
    try:
        return (yield)
    finally:
        os.unlink(path)
