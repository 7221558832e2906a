"""What stages use: recorded, shown, and used for the next run."""

import json
import os
import sys

import pytest

from dvc_parallel.processes import measuring

PYTHON = sys.executable
MB = 1_000_000

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="much of it is not known on this system"
)


def logs(project):
    command = [PYTHON, "-m", "dvc_parallel", "logs", "--json"]
    stages = json.loads(project.run(command).stdout)["stages"]
    return {stage["name"]: stage["used"] for stage in stages}


@pytest.fixture
def looks(monkeypatch, tmp_path):
    """Create a file once a look has found a large command; return its path."""
    path = tmp_path / "looked"
    look = measuring.Meter._look

    def look_and_tell(meter):
        look(meter)
        if any(command.memory > 60 * MB for command in meter._commands):
            path.touch()

    monkeypatch.setattr(measuring, "AFTER", 0)
    monkeypatch.setattr(measuring, "EVERY", 0.05)
    monkeypatch.setattr(measuring.Meter, "_look", look_and_tell)
    return path


def test_what_a_stage_uses_is_recorded(make_project, looks):
    wait = f"until [ -e {looks} ]; do sleep 0.01; done"
    grow = f"x = bytearray({60 * MB}); print(1, flush=True); input()"
    project = make_project(
        dvc_yaml=f"""
        stages:
          long:
            cmd:
              - |
                sleep 300 & sleeper=$!
                {PYTHON} -c '{grow}' < fifo > out &
                exec 9> fifo; until [ -s out ]; do sleep 0.01; done
                {wait}; exec 9>&-; kill $sleeper
              - {PYTHON} -c 'open("big", "wb").write(bytes({2 * MB}))'
            outs: [big]
          none: {{cmd: "true"}}
          data: {{cmd: exit 3, deps: [big]}}
        """
    )
    os.mkfifo(project.path / "fifo")
    with pytest.raises(Exception, match="data"):
        project.reproduce(jobs=2)
    used = logs(project)
    long = used["long"]
    assert 60 * MB < long["memory"] < 300 * MB
    assert long["cpu"] > 0
    assert long["seconds"] > 0
    assert set(long) == {
        *("seconds", "cpu", "cores", "memory", "process", "read", "written"),
        "out_of_memory",
    }
    assert used["none"]["out_of_memory"] is used["data"]["out_of_memory"] is False
    report = project.run([PYTHON, "-m", "dvc_parallel", "report", "--json"]).stdout
    assert json.loads(report)["used"]["memory"] == long["memory"]
    assert json.loads(report)["used"]["largest"] == "long"
