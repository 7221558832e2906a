"""What is said of a stage that has failed, as it came before one that it needs."""

import os
import re

from tests.support.capabilities import needs_keep_going, needs_strace
from tests.support.project import finish

# NOTE: `fetch` goes on only when all others have failed
FETCH = """
    stages:
      fetch:
        cmd: cat go && seq 5 > raw.csv && date > said.csv
        outs: [said.csv]
        meta: {parallel: {priority: 1}}
"""
# Commands that fail, and what is said of each.
SINCE = "has been written since, perhaps by stage 'fetch', and '{}' does not depend "
IS = "is written by stage 'fetch', and '{}' does not depend "
FAILING = {
    "wc -l < raw.csv": f"'raw.csv' {SINCE}",
    "cat said.csv": f"'said.csv' {IS}",
    "cd sub; cat ../said.csv": None,
    "python3 -c \"open('./said.csv')\"": f"'./said.csv' {IS}",
    "echo other.csv not found; exit 1": None,  # nobody makes it
    "echo own not found; date > own; exit 1": None,
    "echo reading said.csv; exit 1": None,
    "test -e said.csv": None,
}


def hints(project, stages, *args):
    """The hints of a run in which they come too early, by their stages."""
    os.mkfifo(project.path / "go")
    run = project.start("repro", "-f", "-j", "10", *args)
    lines, left = [], set(stages)
    for line in run.stdout:
        lines.append(line)
        left -= {name for name in stages if line.startswith(f"{name} | failed")}
        if not left and (project.path / "go").is_fifo():
            (project.path / "go").write_text("")
            (project.path / "go").unlink()
    finish(run)
    found, name = {}, ""
    (begin,) = [at for at, line in enumerate(lines) if FAILED.fullmatch(line)]
    for line in lines[begin:]:
        words = line.split()
        if words and words[0] in stages:
            name = words[0]
        elif words and words[0] == "hint:":
            assert name not in found
            found[name] = line.strip()
    return found


FAILED = re.compile(r"WARNING: \d+ stages? failed:\n")


@needs_keep_going
def test_which_stage_makes_what_was_not_found(make_project):
    stages = {f"s{number}": cmd for number, cmd in enumerate(FAILING)}
    text = "".join(
        f"      {name}: {{cmd: {cmd!r}, outs: [{'own' if 'own' in cmd else name}]}}\n"
        for name, cmd in stages.items()
    ).replace("\\'", "''")
    project = make_project(dvc_yaml=FETCH + text, files={"sub/x": ""})
    found = hints(project, stages, "--keep-going")
    expected = {name: FAILING[cmd] for name, cmd in stages.items() if FAILING[cmd]}
    assert found == {
        name: f"hint: {text.format(name)}on it; `dvc-parallel deps --trace` shows all "
        "files that stages use and do not declare"
        for name, text in expected.items()
    }


@needs_strace
def test_the_last_trace_knows_it(make_project):
    text = "      train: {cmd: cat raw.csv raw.csv, outs: [model]}\n"
    project = make_project(dvc_yaml=FETCH + text, files={"go": ""})
    project.run(["dvc-parallel", "deps", "--trace"], check=False)
    os.unlink(project.path / "go")
    hint = hints(project, {"train"})["train"]
    assert hint.startswith("hint: 'raw.csv' is written by stage 'fetch', and 'train' ")


def test_no_hint_where_a_stage_depends_on_it(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              fetch: {cmd: seq 5 > raw.csv, outs: [raw.csv]}
              train: {cmd: echo raw.csv not found; exit 1, deps: [raw.csv]}
              after: {cmd: date > x.csv, outs: [x.csv]}
        """
    )
    result = project.dvc("repro", "-j", "2", check=False)
    assert "raw.csv not found" in result.stderr
    assert "hint:" not in result.stderr
