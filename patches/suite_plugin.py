"""A pytest plugin that tells which of DVC's own tests have failed.

With ``FAILED_TESTS`` set, that file says so at the end, one a line.
"""

import os
from pathlib import Path

FAILED = os.environ.get("FAILED_TESTS")

failed: set[str] = set()


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
