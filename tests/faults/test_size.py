"""Many commands, stages, dependencies and files, and odd names.

With ``DVC_PARALLEL_SIZE=full``, in numbers that take minutes; ``pytest -s`` shows what
they took.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.project import Project, assert_same

FULL = os.environ.get("DVC_PARALLEL_SIZE") == "full"
PYTHON = sys.executable
LIMIT = 3600

ROOT = Path(__file__).parents[2]
SERIAL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.project import plain_dvc
from dvc.cli import main
with plain_dvc():
    sys.exit(main(["repro", "-q"]))
"""

# Waits until so many others run at the same time.
MEET = """\
mkdir -p meeting; : > meeting/$1
while [ $(ls meeting | wc -l) -lt $2 ]; do sleep 0.2; done
echo $1 > $1.txt
"""
ODD = [
    "with space",
    "it's",
    'a "quote"',
    "$(touch injected)",
    "semi;colon&",
    "größe-数据-🦉",
    "-rf",
    "100%",
    "a#b",
    "x" * 200,
    "line\nbreak",
    "back\\slash",
]


def size(small, full):
    return full if FULL else small


def write(project: Project, stages: dict) -> None:
    with open(project.path / "dvc.yaml", "w") as fobj:
        # NOTE: which is YAML, and quickly written
        json.dump({"stages": stages}, fobj, ensure_ascii=False)


def measure(project: Project, *args, files=None) -> None:
    """Run ``dvc`` to its end; tell how long it took, and how much memory.

    Args:
        files: the soft limit of files that it may have open.
    """
    _measure(
        project, f"dvc {shlex.join(map(str, args))}", project.command(*args), files
    )


def measure_serial(project: Project) -> None:
    """As ``measure``, for a run of DVC without the plugin."""
    if FULL:
        _measure(project, "serial DVC", [PYTHON, "-c", SERIAL])
    else:
        project.reproduce()


def _measure(project: Project, name: str, command: list, files=None) -> None:

    limit = f"ulimit -Sn {files};" if files else ""
    begin = time.monotonic()
    output = project.path.parent / "output"
    with open(output, "w") as fobj:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'{limit} exec "$@"', "sh", *command],
            cwd=project.path,
            stdin=subprocess.DEVNULL,
            stdout=fobj,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output.read_text()[-10_000:]
    seconds, megabytes = time.monotonic() - begin, usage.ru_maxrss / 1024
    cpu = usage.ru_utime + usage.ru_stime
    took = f"{seconds:.1f} s, {cpu:.1f} s of CPU, {megabytes:.0f} MiB"
    sys.stdout.write(f"{name}: {took}\n")


@pytest.fixture
def pair(tmp_path):
    """A project twice, for serial DVC and for a parallel run."""
    return [Project(tmp_path / name) for name in ("serial", "parallel")]


@pytest.mark.timeout(LIMIT)
def test_commands_at_once(tmp_path):
    count = size(30, 1025)
    project = Project(tmp_path / "project")
    project.write({"meet.sh": MEET})
    write(
        project,
        {
            f"s{i}": {"cmd": f"sh meet.sh {i} {count}", "outs": [f"{i}.txt"]}
            for i in range(count)
        },
    )
    measure(project, "repro", "-j", count, files=size(100, 1024))
    assert len(YAML(typ="safe").load(project.read("dvc.lock"))["stages"]) == count


@pytest.mark.timeout(LIMIT)
@pytest.mark.skipif(not FULL, reason="takes minutes")
def test_stages(tmp_path):
    count = 10_000
    project = Project(tmp_path / "project")
    write(
        project,
        {f"s{i}": {"cmd": f"echo {i} > {i}", "outs": [f"{i}"]} for i in range(count)},
    )
    measure(project, "repro", "-q", "-j", 2)
    assert project.read("dvc.lock").count("cmd: ") == count
    measure(project, "repro", "-q", "-j", 2)


@pytest.mark.timeout(LIMIT)
def test_dependencies_of_a_stage(pair):
    count = size(100, 5_000)
    serial, parallel = pair
    for project in pair:
        project.write({f"in/{i}": f"{i}" for i in range(count)})
        deps = [f"in/{i}" for i in range(count)]
        stage = {"cmd": "cat in/* > all", "deps": deps, "outs": ["all"]}
        write(project, {"all": stage, "other": {"cmd": "echo", "deps": deps}})
    measure(parallel, "repro", "-q", "-j", 2)
    measure_serial(serial)
    assert_same(serial, parallel)


@pytest.mark.timeout(LIMIT)
def test_files_of_an_output(pair):
    count = size(300, 100_000)
    serial, parallel = pair
    make = f"{PYTHON} make.py folder"
    script = (
        f"import os, sys\nos.mkdir(sys.argv[1])\nfor i in range({count}):\n"
        "    open(f'{sys.argv[1]}/{i}', 'w').write(str(i))\n"
    )
    for project in pair:
        project.write({"make.py": script})
        write(
            project,
            {
                "many": {"cmd": make, "outs": ["folder"]},
                "one": {
                    "cmd": "ls folder > list",
                    "deps": ["folder"],
                    "outs": ["list"],
                },
            },
        )
    measure(parallel, "repro", "-q", "-j", 2)
    measure_serial(serial)
    assert_same(serial, parallel)


def test_odd_names(pair):
    serial, parallel = pair
    for project in pair:
        project.write({f"in {name}/file": name for name in ODD})
        project.write({"copy.py": "import sys, shutil\nshutil.copy(*sys.argv[1:])\n"})
        stages = {}
        for number, name in enumerate(ODD):
            source, target = f"in {name}/file", f"out {name}"
            quoted = [text.replace("'", "'\"'\"'") for text in (source, target)]
            cmd = "{} copy.py '{}' '{}'".format(PYTHON, *quoted)
            # NOTE: DVC takes each line of a string as a command of its own
            stages[f"s{number}"] = {
                "cmd": [cmd],
                "deps": [source],
                "outs": [target],
            }
        write(project, stages)
    serial.reproduce()
    parallel.reproduce(jobs=4)
    assert_same(serial, parallel)
    assert parallel.read("out it's") == "it's"
    assert not parallel.exists("injected")
