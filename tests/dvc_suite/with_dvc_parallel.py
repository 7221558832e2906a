"""A pytest plugin that has DVC's own tests run with dvc-parallel in place."""

import inspect
import re
from importlib import import_module

import pytest
from parallel_option import JOBS

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
