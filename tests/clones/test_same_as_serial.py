"""Random pipelines: workers with clones leave what serial DVC leaves."""

import os

from hypothesis import given
from hypothesis import strategies as st

from tests.support.clone_runs import compare_with_serial, random_runs
from tests.support.clone_workers import reproduce

EXAMPLES = int(os.environ.get("DVC_PARALLEL_CLONE_EXAMPLES", "2"))


@random_runs(EXAMPLES)
@given(data=st.data(), jobs=st.integers(2, 5))
def test_runs_after_changes(tmp_path, workers, with_remote, data, jobs):
    def run(project, **flags):
        return reproduce(project, workers, jobs, **flags)

    compare_with_serial(tmp_path, with_remote, data, run)
