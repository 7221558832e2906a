"""Users who share a cache, or a workspace: DVC lets each go on, so do we."""

import itertools
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.capabilities import HAS_FOLDER_OF_FILES
from tests.support.project import Project

PYTHON = sys.executable
if sys.platform != "linux" or os.geteuid() != 0:
    pytest.skip("needs to be root, to be other users", allow_module_level=True)

TEAM = 2000
ALICE, BOB = 1001, 1002
WAYS = {"plain": [], "one": ["-j", "1"], "four": ["-j", "4"]}

# Starts commands as other users.  What it imports is there for all of them: they may
# not get at the interpreter, nor would they have the time.
START = """
import json, os, sys
import dvc.cli
os.chdir(sys.argv[1])
print(dvc.cli.main(["repro", "-q", *sys.argv[2:]]), flush=True)
for line in sys.stdin:
    uid, gid, umask, folder, env, args = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(umask)
        for module in list(sys.modules.values()):
            # NOTE: a process of the user's own finds it out as it starts
            if type(vars(module).get("umask")) is int:
                module.umask = umask
        os.chdir(folder)
        os.environ.update(env)
        code = dvc.cli.main(args)
        sys.stdout.flush()
        os._exit(code)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""

DVC_YAML = """
stages:
  one: {cmd: "cat data > one; echo $WHO >> one", deps: [data], outs: [one]}
  two:
    cmd: cat data > two; echo $WHO >> two
    deps: [data]
    outs: [two: {cache: false}]
  three: {cmd: "mkdir -p three; cp one three/", deps: [one], outs: [three]}
"""


@pytest.fixture(scope="module")
def home():
    """A folder that other users get at."""
    with tempfile.TemporaryDirectory(prefix="dvc-parallel-teams-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


class Starter:
    def __init__(self, folder, flags=(), args=()):
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [PYTHON, *flags, "-c", START, str(folder), *args],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        assert self._end()[0] == 0

    def run(self, *step):
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        return self._end()

    def _end(self):
        said = []
        for line in self._process.stdout:
            if line.strip().lstrip("-").isdecimal():
                return int(line), "".join(said)
            said.append(line)
        raise AssertionError("".join(said))

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def starters(home):
    project = project_in(home / "first", 0)
    starters = {
        "plain": Starter(project, flags=["-S"]),
        "ours": Starter(project, args=["--force", "-j", "4"]),
    }
    yield starters
    for starter in starters.values():
        starter.close()


@pytest.fixture
def repro(starters, home):
    def repro(uid, way, folder, umask):
        env = {
            "HOME": str(home),
            "WHO": str(uid),
            "USER": str(uid),
            "LOGNAME": str(uid),
            **{
                f"DVC_{name}_DIR": str(folder.parent / f"{uid}-{name}_DIR")
                for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")
            },
        }
        starter = starters["plain" if way == "plain" else "ours"]
        args = ["repro", "--force", *WAYS[way]]
        return starter.run(uid, TEAM, umask, str(folder), env, args)

    return repro


def opened(folder, uid):
    """Have it as a folder that a team works in."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, TEAM)
        os.chmod(path, 0o2775 if path.is_dir() else 0o664)
    return folder


def made(folder):
    """Modes and owners of what DVC has made."""
    return {
        str(path.relative_to(folder)): (
            oct(stat.S_IMODE(path.lstat().st_mode)),
            path.lstat().st_uid,
            path.lstat().st_gid,
        )
        for path in folder.rglob("*")
        if "tmp/parallel" not in str(path)
        and "_DIR/" not in f"{path}/"
        # NOTE: as they come into being with the file that lists them
        and path.name not in ("dvc.lock", ".gitignore", "rwlock")
    }


def project_in(folder, uid, cache=None):
    project = Project(folder, scm=False)
    config = ["[core]", "no_scm = true", "[cache]", "shared = group"]
    if cache:
        config.append(f"dir = {cache}")
    project.write(
        {".dvc/config": "\n".join(config), "dvc.yaml": DVC_YAML, "data": "data"}
    )
    return opened(folder, uid)


def cache_in(folder):
    """A cache that users may write to where DVC does, and nowhere else."""
    cache = folder / "cache"
    (cache / "files").mkdir(parents=True)
    (cache / "runs").mkdir()
    opened(cache, 0)
    if HAS_FOLDER_OF_FILES:
        os.chmod(cache, 0o755)
    return cache


def new_cache(folder, repro, first, second):
    """As ``one_cache``, where the first user makes all that is in it."""
    folder.mkdir()
    os.chmod(folder, 0o777)
    cache = folder / "cache"
    cache.mkdir()
    opened(cache, ALICE)
    return by_turns(folder, cache, repro, first, second)


def one_cache(folder, repro, first, second):
    """Two workspaces with one cache, and users who let nobody write to their files."""
    folder.mkdir()
    os.chmod(folder, 0o777)
    return by_turns(folder, cache_in(folder), repro, first, second)


def by_turns(folder, cache, repro, first, second):
    for uid, way in ((ALICE, first), (BOB, second)):
        code, said = repro(uid, way, project_in(folder / str(uid), uid, cache), 0o022)
        assert code == 0, said
    return made(folder)


def one_workspace(folder, repro, first, second):
    """Two users of one workspace."""
    folder.mkdir()
    os.chmod(folder, 0o777)
    workspace = project_in(folder / "workspace", ALICE)
    for uid, way in ((ALICE, first), (BOB, second)):
        code, said = repro(uid, way, workspace, 0o002)
        assert code == 0, said
    return made(folder)


@pytest.mark.parametrize("layout", [new_cache, one_cache, one_workspace])
def test_users_do_not_shut_each_other_out(home, repro, layout):
    expected = None
    for first, second in itertools.product(WAYS, WAYS):
        folder = home / f"{layout.__name__}-{first}-{second}"
        found = layout(folder, repro, first, second)
        expected = expected or found
        different = {
            name: f"{expected.get(name)} != {found.get(name)}"
            for name in {*expected, *found}
            if expected.get(name) != found.get(name)
        }
        assert not different, (first, second)
