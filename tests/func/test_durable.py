"""What an entry of dvc.lock names is on the disk before the entry is."""

import os
import re
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from dvc_parallel.engine import durable

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

DVC_YAML = """
    stages:
      file: {cmd: cp in file, deps: [in], outs: [file]}
      folder: {cmd: mkdir folder && cp in folder/a && echo b > folder/b, deps: [in],
               outs: [folder]}
      metrics: {cmd: "echo 'x: 1' > m.yaml", deps: [in],
                metrics: [m.yaml: {cache: false}]}
      last: {cmd: cat file folder/a m.yaml > last, deps: [file, folder, m.yaml],
             outs: [last]}
"""


@pytest.fixture
def events(monkeypatch):
    """What is written out, synced, renamed; the latter with what is in the file."""
    events = []

    def path_of(fd):
        return os.readlink(f"/proc/self/fd/{fd}")

    def call(name, fd, *args):
        events.append((name, path_of(fd)))

    def fsync(fd):
        events.append(("fsync", path_of(fd)))

    original = os.replace

    def replace(src, dst, **kwargs):
        text = Path(src).read_text() if dst.endswith("dvc.lock") else ""
        events.append(("replace", dst, text))
        original(src, dst, **kwargs)

    monkeypatch.setattr(durable, "_call", call)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return events


def named(text):
    """The files in the cache that dvc.lock names."""
    entries = parse_yaml(text, "dvc.lock")["stages"]
    return {out["md5"] for entry in entries.values() for out in entry.get("outs", ())}


def in_cache(project, paths):
    folder = str(project.path / ".dvc" / "cache")
    return {
        os.path.basename(os.path.dirname(path)) + os.path.basename(path)
        for path in paths
        if path.startswith(folder)
    }


def places(events, call, name):
    return [
        place
        for place, event in enumerate(events)
        if event[0] == call and event[1].endswith(name)
    ]


def last_replaced(events):
    """Which of the files that stages have in common was replaced last."""
    names = [os.path.basename(path) for call, path, *_ in events if call == "replace"]
    return [name for name in names if name in ("dvc.lock", ".gitignore")][-1]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_disk_that_keeps_the_order(make_project, events, monkeypatch, jobs):
    monkeypatch.setattr(durable, "keeps_order", lambda _: True)
    project = make_project("project", DVC_YAML, {"in": "in"})
    project.reproduce(jobs=jobs)
    data = [path for call, path, *_ in events if call == "sync_file_range"]
    replaced = places(events, "replace", "dvc.lock")
    assert len(replaced) == 4
    for place in replaced:
        before = [path for call, path, *_ in events[:place] if "range" in call]
        assert named(events[place][2]) <= in_cache(project, before)
    files = (project.path / ".dvc" / "cache" / "files").rglob("*")
    objects = [str(path) for path in files if path.is_file()]
    assert in_cache(project, objects) <= in_cache(project, data)
    # NOTE: they are moved into the run cache
    assert len([path for path in data if ".dvc/cache/." in path]) == 4
    assert {path for path in data if path.endswith("/.gitignore")}

    # only one sync for each stage, when dvc.lock has been replaced; and one for each
    # line that has come before another one in .gitignore
    synced = [
        place
        for place in places(events, "fsync", project.path.name)
        if last_replaced(events[:place]) != ".gitignore"
    ]
    assert all(one < other for one, other in zip(replaced, synced))
    assert all(one > other for one, other in zip(replaced[1:], synced))
    others = [path for call, path, *_ in events if call == "fsync"]
    others = [path for path in others if path.startswith(f"{project.path}/")]
    # NOTE: some dulwich syncs the index of git
    not_these = re.compile("/parallel|/[.]git/")
    assert [path for path in others if not not_these.search(path)] == []


def test_a_disk_of_which_nothing_is_known(make_project, events, monkeypatch):
    monkeypatch.setattr(durable, "keeps_order", lambda _: False)
    project = make_project("project", DVC_YAML, {"in": "in"})
    project.reproduce(jobs=3)
    replaced = places(events, "replace", "dvc.lock")
    last = 0
    for place in replaced:
        before = [event[:2] for event in events[last:place]]
        assert "syncfs" in [call for call, _ in before]
        call, path = before[-1]
        assert call == "fsync"
        assert "/.dvc/tmp/dvc.lock" in path
        last = place
    assert "sync_file_range" not in [event[0] for event in events]


def test_a_cache_on_another_disk(make_project, events, monkeypatch, tmp_path):
    """Its changes are in no order with those of dvc.lock."""
    other = tmp_path / "cache"
    other.mkdir()
    original = os.stat

    class Elsewhere:
        def __init__(self, status):
            self._status = status

        def __getattr__(self, name):
            return 12345 if name == "st_dev" else getattr(self._status, name)

    def stat(path, *args, **kwargs):
        status = original(path, *args, **kwargs)
        return Elsewhere(status) if str(path).startswith(str(other)) else status

    monkeypatch.setattr(durable, "keeps_order", lambda _: True)
    project = make_project("project", DVC_YAML, {"in": "in"})
    project.write({".dvc/config": f"[cache]\n    dir = {other}\n"})
    monkeypatch.setattr(durable.os, "stat", stat)
    project.reproduce(jobs=3)
    replaced = places(events, "replace", "dvc.lock")
    last = 0
    for place in replaced:
        between = [path for call, path, *_ in events[last:place] if call == "fsync"]
        assert any(path.startswith(str(other)) for path in between)
        last = place
