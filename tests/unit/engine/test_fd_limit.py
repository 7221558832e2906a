import pytest

from dvc_parallel.engine.job_count import OTHERS, PER_JOB, make_room

resource = pytest.importorskip("resource")
INFINITE = resource.RLIM_INFINITY


@pytest.fixture
def limits(mocker):
    """Pretend that there are limits; return what they are set to."""

    def limits(soft, hard, **kwargs):
        mocker.patch("resource.getrlimit", return_value=(soft, hard))
        return mocker.patch("resource.setrlimit", **kwargs)

    return limits


@pytest.mark.parametrize("soft, hard", [(10**6, 10**6), (INFINITE, INFINITE)])
def test_enough(limits, soft, hard):
    setrlimit = limits(soft, hard)
    assert make_room(1025) == 1025
    setrlimit.assert_not_called()


@pytest.mark.parametrize("hard", [10**6, INFINITE])
def test_raised_as_far_as_needed(limits, hard):
    setrlimit = limits(1024, hard)
    assert make_room(1025) == 1025
    needed = 1025 * PER_JOB + OTHERS
    setrlimit.assert_called_once_with(resource.RLIMIT_NOFILE, (needed, hard))


@pytest.mark.parametrize(
    "soft, hard, room", [(1024, 2048, 2048), (1024, 1024, 1024), (10, 10, 0)]
)
def test_fewer_where_it_cannot_be_raised_as_far(limits, caplog, soft, hard, room):
    limits(soft, hard)
    jobs = max(1, (room - OTHERS) // PER_JOB)
    assert make_room(1025) == jobs
    assert f"-j {jobs} instead of -j 1025" in caplog.text


def test_a_limit_that_cannot_be_raised(limits):
    limits(1024, INFINITE, side_effect=ValueError)
    assert make_room(1025) == (1024 - OTHERS) // PER_JOB
