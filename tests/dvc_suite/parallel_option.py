"""A pytest plugin that has DVC's own tests run stages in parallel.

With ``PARALLEL_JOBS`` set, that is ``core.parallel_jobs`` of every repo: DVC's tests
give each test a folder for the system's config, and the option goes into a file there.
"""

import os

import pytest

JOBS = os.environ.get("PARALLEL_JOBS")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call():
    if not JOBS:
        yield
        return
    folder = os.environ.get("DVC_SYSTEM_CONFIG_DIR")
    assert folder, "DVC's tests no longer set the folder of the system's config"
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "config")
    with open(path, "w") as fobj:
        fobj.write(f"[core]\n    parallel_jobs = {JOBS}\n")
    yield
    os.unlink(path)
