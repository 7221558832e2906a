"""Random runs in clones, compared with serial DVC."""

import shutil
from itertools import count

from dvc.exceptions import ReproductionError
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st

from tests.support.project import Project, assert_same
from tests.support.random_project import pipelines

numbers = count()


def random_runs(examples):
    """Settings for tests that run some random pipelines."""
    return settings(
        max_examples=examples,
        phases=[phase for phase in Phase if phase is not Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def compare_with_serial(folder, with_remote, data, run):
    """Run a random pipeline, again after changes, beside serial DVC.

    Args:
        folder: for projects.
        with_remote: gives them a remote.
        data: of Hypothesis.
        run: runs stages of a project on workers, as ``Project.reproduce``.
    """
    pipeline = data.draw(pipelines())
    order = data.draw(st.permutations(pipeline.steps))
    number = next(numbers)
    twins = [Project(folder / f"{kind}{number}") for kind in ("s", "p")]
    with_remote(*twins)
    serial, parallel = twins
    for round_ in range(data.draw(st.integers(1, 3))):
        for project in twins:
            pipeline.write_to(project, order, frozen=round_ > 0)
        flags = data.draw(
            st.fixed_dictionaries(
                {},
                optional={"force": st.just(True), "run_cache": st.just(False)},
            )
        )
        note(f"reproduce({flags})")
        expected = outcome(serial.reproduce, **flags)
        result = outcome(run, parallel, **flags)
        if isinstance(expected, str):
            # NOTE: a frozen stage lacks its output. What ran beside it differs
            assert isinstance(result, str)
            break
        assert result == expected
        assert_same(serial, parallel)

        changed = data.draw(st.sampled_from(["in0.txt", "in1.txt", "one/readme"]))
        removed = data.draw(st.sampled_from([None, *pipeline.steps]))
        note(f"changed {changed}, removed {removed}")
        for project in twins:
            project.write({changed: f"{changed}, {round_}\n"})
            if removed and removed.out and project.exists(removed.out):
                path = project.path / removed.out
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for project in twins:
        shutil.rmtree(project.path)


def outcome(func, *args, **kwargs):
    try:
        return func(*args, **kwargs)
    except ReproductionError as exc:
        return str(exc)
