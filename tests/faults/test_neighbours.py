"""Several runs at once, and other DVC commands beside them.

``DVC_PARALLEL_NEIGHBOURS`` is how many rounds, ``DVC_PARALLEL_SEED`` where to start.
With the first, one test takes a minute more.
"""

import hashlib
import json
import os
import random
import sys
import time
from zlib import crc32

import pytest
from ruamel.yaml import YAML

from tests import HANGS
from tests.support.processes import DvcProcess
from tests.support.project import Project, finish

ROUNDS = int(os.environ.get("DVC_PARALLEL_NEIGHBOURS", "1"))
# NOTE: all workers of a run have to collect the same tests
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
SEED = int(os.environ.get("DVC_PARALLEL_SEED", crc32(RUN.encode())))
ROUNDS_OF_ONE = 10
SOURCES = 3
# Seconds from a round's first command to its last one.
SPAN = 2.0

# mkdir fails where a stage runs twice at the same time.
WORK = """\
set -e
name=$1 out=$2 seconds=$3
shift 3
mkdir marks/$name
echo $name >> ran.log
sleep $seconds
sum=$(find "$@" -type f | LC_ALL=C sort | xargs cat | md5sum)
case $out in
    *.dir) mkdir -p $out; for i in $(seq 220); do echo "$name $i $sum" > $out/$i; done;;
    *) echo "$name $sum" > $out;;
esac
rmdir marks/$name
"""
OTHERS = (
    ["status"],
    ["data", "status"],
    ["data", "status"],
    ["add", "data.bin"],
    ["commit", "-f", "data.bin.dvc"],
    ["commit", "-f", "side"],
    ["gc", "-w", "-f"],
    ["push", "-r", "local"],
    ["push", "-r", "local", "side"],
)
# What others are told where a run has locked what they need: they give up, as DVC does.
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
# It takes no lock, and `dvc commit` writes dvc.lock in place, as DVC does.
HALF_WRITTEN = "'./dvc.lock' validation failed"


class Herd:
    """A project, and what its stages are."""

    def __init__(self, project: Project, rng: random.Random):
        self.project = project
        self.rng = rng
        self.deps: dict[str, list[str]] = {}
        self.outs: dict[str, str] = {}
        self.rounds = 0
        self.recorded: set[str] = set()
        self._write()

    def _write(self) -> None:
        rng, stages, made = self.rng, {}, []
        sources = [f"in{number}.txt" for number in range(SOURCES)]
        for number in range(rng.randint(6, 12)):
            name = f"s{number}"
            pool = [*sources, *made[-6:]]
            kind = rng.choice(["file", "file", "file", "folder", "metrics"])
            out = f"{name}.dir" if kind == "folder" else f"{name}.out"
            self.deps[name] = rng.sample(pool, rng.randint(1, 3))
            self.outs[name] = out
            made.append(out)
            seconds = rng.choice([0, 0.05, 0.2, 0.5])
            stages[name] = {
                "cmd": f"sh work.sh {name} {out} {seconds} {' '.join(self.deps[name])}",
                "deps": self.deps[name],
                "metrics" if kind == "metrics" else "outs": [
                    {out: {"cache": False}} if kind == "metrics" else out
                ],
            }
        stages["side"] = {"cmd": "echo side > side.txt", "outs": ["side.txt"]}
        project = self.project
        with open(project.path / "dvc.yaml", "w") as fobj:
            YAML().dump({"stages": stages}, fobj)
        project.write({"work.sh": WORK, "data.bin": "data", "ran.log": ""})
        project.write({name: name for name in sources})
        (project.path / "marks").mkdir()
        (project.path / "remote").mkdir()
        project.dvc("remote", "add", "local", project.path / "remote")
        project.reproduce(targets=["side"])
        project.dvc("add", "data.bin")

    def wanted(self, target: str) -> set[str]:
        """Stages that come before a target, and itself."""
        makers = {out: name for name, out in self.outs.items()}
        ups = (makers[dep] for dep in self.deps[target] if dep in makers)
        return {target}.union(*map(self.wanted, ups))

    def content(self, name: str) -> dict[str, bytes]:
        """The files that a stage makes."""
        found = {}
        makers = {out: stage for stage, out in self.outs.items()}
        for dep in self.deps[name]:
            if dep in makers:
                found.update(self.content(makers[dep]))
            else:
                found[dep] = (self.project.path / dep).read_bytes()
        data = b"".join(found[path] for path in sorted(found))
        total = f"{hashlib.md5(data).hexdigest()}  -"
        out = self.outs[name]
        if not out.endswith(".dir"):
            return {out: f"{name} {total}\n".encode()}
        return {f"{out}/{i}": f"{name} {i} {total}\n".encode() for i in range(1, 221)}

    def play_round(self) -> None:
        rng, project = self.rng, self.project
        self.rounds += 1
        for number in rng.sample(range(SOURCES), rng.randint(0, SOURCES)):
            project.write({f"in{number}.txt": f"{number} {rng.random()}"})
        targets = [
            rng.sample([*self.deps], rng.randint(1, 3))
            for _ in range(rng.randint(2, 8))
        ]
        runs = [["repro", "-j", rng.randint(2, 4), *some] for some in targets]
        others = rng.choices(OTHERS, k=rng.randint(3, 8))
        commands = rng.sample([*runs, *others], len(runs) + len(others))
        times = sorted(rng.uniform(0, SPAN) for _ in commands)

        begin, started = time.monotonic(), []
        for place, (when, args) in enumerate(zip(times, commands)):
            time.sleep(max(0.0, begin + when - time.monotonic()))
            process = DvcProcess(project, *args, name=f"output{place}")
            started.append((process, args))
        for process, args in started:
            self._check_end(process, args)
        self._check(
            set().union(*(self.wanted(one) for some in targets for one in some))
        )

    def _check_end(self, process: DvcProcess, args: list) -> None:
        text = process.finish()
        excuses = BUSY if args[0] != "repro" else ()
        if args == ["data", "status"]:
            excuses = (*BUSY, HALF_WRITTEN)
        excused = any(words in text for words in excuses)
        assert process.returncode == 0 or excused, f"{args}: {text}"
        assert "Traceback" not in text, f"{args}: {text}"
        assert "unexpected error" not in text, f"{args}: {text}"

    def _check(self, wanted: set[str]) -> None:
        project = self.project
        assert not any(json.loads(project.path_locks()).values())
        assert not os.listdir(project.path / "marks")
        with open(project.path / "dvc.lock") as fobj:
            entries = YAML(typ="safe").load(fobj)["stages"]
        self.recorded |= wanted
        assert {"side", *self.recorded} == {*entries}
        for name in wanted:
            for path, content in self.content(name).items():
                assert (project.path / path).read_bytes() == content, path
        with project.repo() as repo:
            assert repo.status([*wanted, "side", "data.bin.dvc"]) == {}
        ignored = project.read(".gitignore").split()
        assert len(ignored) == len({*ignored}), ignored
        assert {"/side.txt", "/data.bin"} <= {*ignored}


@pytest.mark.parametrize("seed", range(SEED, SEED + -(-ROUNDS // ROUNDS_OF_ONE)))
@pytest.mark.timeout(ROUNDS_OF_ONE * HANGS)
def test_neighbours(tmp_path, seed):
    herd = Herd(Project(tmp_path / "project"), random.Random(seed))
    for _ in range(min(ROUNDS, ROUNDS_OF_ONE)):
        try:
            herd.play_round()
        except AssertionError as exc:
            raise AssertionError(f"in round {herd.rounds}") from exc


# Locks the repo, lets a command end, and says a minute later what is recorded of it.
HOLD = """\
import os, sys, time
from dvc.lock import Lock
lock = Lock(sys.argv[1])
lock.lock()
open("go", "w").close()
while not os.path.exists("a.txt"):
    time.sleep(0.01)
time.sleep(60)
print("recorded" if os.path.exists("dvc.lock") else "waits")
lock.unlock()
"""


@pytest.mark.skipif(
    "DVC_PARALLEL_NEIGHBOURS" not in os.environ,
    reason="takes more than a minute; tests/func has it without the minute",
)
def test_a_repo_that_is_locked_for_a_minute_after_a_command(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          a:
            cmd:
              - echo a >> ran.log; touch runs
              - until test -e go; do sleep 0.05; done; echo a > a.txt
            outs: [a.txt]
          b: {cmd: cat a.txt > b.txt, deps: [a.txt], outs: [b.txt]}
        """,
        files={"hold.py": HOLD},
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("runs")
    lock = project.path / ".dvc" / "tmp" / "lock"
    assert project.run([sys.executable, "hold.py", lock]).stdout == "waits\n"
    output = finish(process)
    assert process.returncode == 0, output
    assert output.count("no result is lost") == 1
    assert project.read("ran.log") == "a\n"
    assert project.read("b.txt") == "a\n"
    assert project.reproduce() == []
