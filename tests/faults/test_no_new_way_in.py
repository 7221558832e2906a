"""What a run makes is as private as the user wants it, and nobody else gets at it."""

import os
import shlex
import stat
import sys

import psutil
import pytest

from dvc_parallel.scheduling.jobserver import Server
from tests.support.capabilities import HAS_DASK
from tests.support.project import finish

PYTHON = sys.executable
if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

needs_dask = pytest.mark.skipif(
    not HAS_DASK, reason="needs the extra dvc-parallel[dask]"
)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize(
    "umask, folder, file", [("077", 0o700, 0o600), ("022", 0o755, 0o644)]
)
def test_files_are_made_with_the_umask(make_project, umask, folder, file):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: echo one | tee one.txt, outs: [one.txt]}
          two: {cmd: echo two, deps: [one.txt]}
        """
    )
    before = set(project.path.rglob("*"))
    dvc = shlex.join(project.command())
    own = f"{PYTHON} -m dvc_parallel"
    script = (
        f"umask {umask} && {dvc} repro -j 2 && {own} report && {own} report -o t.json"
    )
    project.run(["sh", "-c", script])
    made = set(project.path.rglob("*")) - before
    ours = [p for p in made if "/.dvc/tmp/parallel" in str(p)]
    names = {path.name for path in ours}
    assert {"journal.jsonl", "report.html", "durations.json", "0000-one.log"} <= names
    for path in (*ours, project.path / "dvc.lock", project.path / "t.json"):
        assert mode(path) == (folder if path.is_dir() else file), path


def test_the_jobserver_is_private():
    server = Server(2, fifo=True)
    try:
        path = server.environment()["MAKEFLAGS"].rpartition(":")[2]
        assert mode(path) == 0o600
        assert mode(os.path.dirname(path)) == 0o700
    finally:
        server.close()
    assert not os.path.exists(os.path.dirname(path))


def reachable(process):
    """Sockets with an address: no others can be found by another process."""
    # NOTE: as psutil calls it from 6.0.0 on, and before
    name = "net_connections" if hasattr(process, "net_connections") else "connections"
    try:
        return [found for found in getattr(process, name)("all") if found.laddr]
    except psutil.NoSuchProcess:  # a command has started another, for a moment
        return []


@pytest.mark.parametrize(
    "runner, settings",
    [
        ("local", {"DVC_PARALLEL_JOBSERVER": "1"}),
        pytest.param("dask", {}, marks=needs_dask),
    ],
)
def test_nothing_listens(make_project, tmp_path, runner, settings):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: touch one.runs; until test -e go; do sleep 0.05; done}
          two: {cmd: touch two.runs; until test -e go; do sleep 0.05; done}
        """
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**os.environ, **settings, "TMPDIR": str(temporary)}
    process = project.start("repro", "-j", 2, "--runner", runner, env=env)
    project.wait_for("one.runs", "two.runs")
    dvc = psutil.Process(process.pid)
    processes = [dvc, *dvc.children(recursive=True)]
    assert len(processes) >= 3
    sockets = [socket for process in processes for socket in reachable(process)]
    made = {path.name: mode(path) for path in temporary.iterdir()}
    project.write({"go": ""})
    output = finish(process)
    assert process.returncode == 0, output
    # NOTE: not even one for other processes of this machine
    assert sockets == []
    assert made
    assert set(made.values()) == {0o700}, made
    assert not list(temporary.iterdir())


NAMES = [
    "$(touch pwned)",
    "`touch pwned`",
    "a; touch pwned",
    "a' touch pwned '",
    '"a b"',
]


def test_names_never_reach_a_shell(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          out:
            foreach: ${names}
            do:
              cmd: python3 make.py ${key}
              outs: ["${item}"]
        """,
        files={
            "params.yaml": "names:\n"
            + "".join(f"  n{key}: {name!r}\n" for key, name in enumerate(NAMES)),
            "make.py": f"import sys; open({NAMES!r}[int(sys.argv[1][1:])], 'w')",
        },
    )
    # NOTE: what may be in the name of a stage, too, by DVC's rules
    project.dvc("repro", "-j", 2)
    project.own("plan", "--force")
    project.own("validate", "-j", 2)
    project.own("report")
    assert not list(project.path.rglob("pwned"))
    for name in NAMES:
        assert project.exists(name)
