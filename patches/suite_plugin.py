"""A pytest plugin for DVC's own tests.

With ``PARALLEL_JOBS`` set, each test runs stages in parallel: DVC's tests give each one
a folder for the system's config, and the option goes into a file there.  With
``FAILED_TESTS`` set, that file says at the end which tests have failed, one a line.
"""

import os
from pathlib import Path

import pytest

JOBS = os.environ.get("PARALLEL_JOBS")
FAILED = os.environ.get("FAILED_TESTS")

failed: set[str] = set()


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


def pytest_runtest_logreport(report):
    if report.failed:
        failed.add(report.nodeid)


def pytest_collectreport(report):
    if report.failed:
        failed.add(report.nodeid)


def pytest_sessionfinish(session):
    # NOTE: the workers of pytest-xdist tell their controller
    if FAILED and not hasattr(session.config, "workerinput"):
        Path(FAILED).write_text("".join(f"{test}\n" for test in sorted(failed)))
