"""A pytest plugin that has DVC's own tests run with dvc-parallel in place.

With ``PARALLEL_JOBS`` set, every repo runs stages in parallel: DVC's tests give each
test a folder for the system's config, and the option goes into a file there.
"""

import inspect
import os
import re
from importlib import import_module

import pytest

JOBS = os.environ.get("PARALLEL_JOBS")
IN_ORDER = re.compile(r"call_args_list (==|in) ")


def pytest_collection_finish():
    from dvc_parallel.backport import seams

    for seam in seams.present(seams.IN_DVC):
        import_module(seam.module)
        assert seam.installed, f"{seam} is not patched"


def pytest_collection_modifyitems(items):
    for item in items:
        # NOTE: DVC itself has taken this out of them later
        ordered = item.name in ("test_repro_keep_going", "test_repro_ignore_errors")
        if JOBS and ordered and IN_ORDER.search(inspect.getsource(item.function)):
            item.add_marker(pytest.mark.skip("wants stages in a serial order"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
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
