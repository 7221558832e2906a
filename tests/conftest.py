import os
import signal
import sys
import textwrap
from multiprocessing import forkserver

import pytest
from dvc.repo import reproduce
from hypothesis import settings

from dvc_parallel.backport import seams
from tests.support import leaks
from tests.support.capabilities import GOES_IN_ORDER
from tests.support.project import Project

if not all(seam.installed for seam in seams.present(seams.IN_DVC)):
    raise pytest.UsageError(
        "the plugin does not get at this DVC, as pytest rewrites its assertions; "
        "use --assert=plain"
    )

# NOTE: a busy machine is no failure of a test
settings.register_profile("no wall times", deadline=None)
settings.load_profile("no wall times")

RUN_SETTINGS = [
    "DVC_PARALLEL_POOLS",
    "DVC_PARALLEL_JOBSERVER",
    "DVC_PARALLEL_LOG_SIZE",
    "DVC_PARALLEL_RUNS_SIZE",
    "DVC_PARALLEL_NOTIFY",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "NO_COLOR",
    "MAKEFLAGS",
    "CUDA_VISIBLE_DEVICES",
]

os.environ["DVC_TEST"] = "true"  # no updater, no analytics
os.environ["DVC_NO_ANALYTICS"] = "true"


@pytest.fixture(scope="session", autouse=True)
def _server():
    """Have the server that forks processes before the first test, not from it on."""
    forkserver.ensure_running()


@pytest.fixture(autouse=True)
def _nothing_leaks():
    # NOTE: the first of the fixtures, so that what the others hold has gone at the end
    before = leaks.held()
    yield
    assert not leaks.leaked(before)


@pytest.fixture(autouse=True)
def _signals_end_what_is_started():
    # NOTE: whoever runs this in the background may have it ignore these
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    """Keep the settings and caches of whoever runs the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
        monkeypatch.setenv(f"DVC_{name}_DIR", str(home / name.lower()))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.com")
    for name in ("DVC_ROOT", "DVC_STAGE", *RUN_SETTINGS):
        monkeypatch.delenv(name, raising=False)
    # NOTE: the workers of DVC's queue start `dvc`
    bin_dir = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SHELL", "/bin/sh")


@pytest.fixture(autouse=True)
def _targets_in_order(monkeypatch):
    """Have DVC go in the same order each time, where it goes in that of a set."""
    if GOES_IN_ORDER:
        return
    get_steps = reproduce._get_steps

    def get_steps_in_order(graph, stages, downstream, single_item):
        places = {stage: place for place, stage in enumerate(graph)}
        ordered = sorted(stages, key=places.get)
        return get_steps(graph, ordered, downstream, single_item)

    monkeypatch.setattr(reproduce, "_get_steps", get_steps_in_order)
    monkeypatch.setenv("PYTHONHASHSEED", "0")


@pytest.fixture
def make_project(tmp_path):
    """Make projects: ``make_project(name, dvc_yaml, files)``."""

    def make(name="project", dvc_yaml="", files=None, **kwargs):
        project = Project(tmp_path / name, **kwargs)
        project.write(files or {})
        if dvc_yaml:
            project.write({"dvc.yaml": textwrap.dedent(dvc_yaml)})
        return project

    return make


@pytest.fixture
def twins(make_project):
    """Make a project twice: for serial DVC, and for a parallel run."""

    def make(dvc_yaml, files=None, **kwargs):
        return [make_project(name, dvc_yaml, files, **kwargs) for name in ("s", "p")]

    return make
