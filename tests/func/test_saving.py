"""Saving large outputs keeps no other stage from starting, and loses nothing."""

import hashlib
import os
import threading
from itertools import product

import dvc.output
import pytest
from dvc.exceptions import ReproductionError

from dvc_parallel.run import saving
from tests import wait_until
from tests.support.project import assert_same

DVC_YAML = """
    stages:
      big: {cmd: cat in > big, deps: [in], outs: [big]}
      first: {cmd: cat in > first, deps: [in], outs: [first]}
      second: {cmd: cat first > second, deps: [first], outs: [second]}
"""


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(saving, "LARGE_SIZE", 1)


@pytest.fixture
def while_saving(monkeypatch):
    """Do something while DVC hashes or copies ``big``, and no lock is held."""

    def install(name, action):
        original = getattr(dvc.output, name)
        done = []

        def wrapper(*args, **kwargs):
            saves_big = name != "build" or str(args[1]).endswith("big")
            if saves_big and os.path.exists("big") and not done:
                done.append(True)
                result = original(*args, **kwargs)
                action()
                return result
            return original(*args, **kwargs)

        monkeypatch.setattr(dvc.output, name, wrapper)
        return done

    return install


def test_the_same_content_is_put_into_the_cache_once(make_project, monkeypatch):
    project = make_project("same", DVC_YAML, {"in": "data"})
    original = dvc.output.otransfer
    guard = threading.Lock()
    second = threading.Event()

    def transfer(*args, **kwargs):
        if guard.acquire(blocking=False):
            met = second.wait(1)
            guard.release()
            assert not met
        else:
            second.set()
        return original(*args, **kwargs)

    monkeypatch.setattr(dvc.output, "otransfer", transfer)
    project.reproduce(jobs=2, targets=["big", "first"])
    assert not second.is_set()


def wait_for(name):
    wait_until(lambda: os.path.exists(name), f"{name} does not start")


def test_a_ready_stage_starts_while_another_is_saved(twins, while_saving):
    serial, parallel = twins(DVC_YAML, {"in": "data"})
    serial.reproduce()

    done = while_saving("build", lambda: wait_for("second"))
    assert parallel.reproduce(jobs=2) == ["big", "first", "second"]
    assert done
    assert_same(serial, parallel)


def test_objects_that_gc_removed_meanwhile_are_saved_again(make_project, while_saving):
    project = make_project("gc", DVC_YAML, {"in": "data"})

    done = while_saving("otransfer", lambda: project.dvc("gc", "-w", "-f"))
    project.reproduce(jobs=2, targets=["big"])
    assert done
    assert project.dvc("status", "-q", "big").returncode == 0
    os.unlink(project.path / "big")
    project.dvc("checkout", "big")
    assert project.read("big") == "data"


def test_an_output_that_changes_meanwhile_is_not_recorded(make_project, while_saving):
    project = make_project("changed", DVC_YAML, {"in": "data"})

    def meddle():
        project.dvc("status", "first")  # has the repo lock for a moment
        project.write({"big": "something else"})

    done = while_saving("build", meddle)
    with pytest.raises(ReproductionError) as excinfo:
        project.reproduce(jobs=2, targets=["big"])
    assert done
    assert "changed by another process" in str(excinfo.value.__cause__)
    assert not project.exists("dvc.lock")


@pytest.mark.parametrize("link", ["hardlink", "symlink", "copy", "reflink,copy"])
@pytest.mark.parametrize("shared", ["", "    shared = group\n"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_links_and_modes(twins, link, shared, jobs):
    # NOTE: links to the same data share its mode, whatever comes last; and in a shared
    # cache, older DVC gives copies of the same data another one, all but the first
    dvc_yaml = f"""{DVC_YAML.replace("cat in > first", "sed s/^/3/ in > first")}
      tool:
        cmd: sed s/^/1/ in > tool; chmod 750 tool
        deps: [in]
        outs: [tool]
      secret:
        cmd: sed s/^/2/ in > secret; chmod 600 secret
        deps: [in]
        outs: [secret]
    """
    config = {".dvc/config": f"[cache]\n    type = {link}\n{shared}"}
    serial, parallel = twins(dvc_yaml, {"in": "data", **config})
    for text in ("data", "other", "data"):  # the last is a hit of the run cache
        for project, count in ((serial, None), (parallel, jobs)):
            project.write({"in": text})
            assert len(project.reproduce(jobs=count)) == 5
        assert_same(serial, parallel)
    assert os.path.islink(parallel.path / "big") == (link == "symlink")


def test_folders(twins):
    dvc_yaml = """
        stages:
          big:
            cmd: mkdir -p big/sub; cat in > big/a; cat in > big/sub/b
            deps: [in]
            outs: [big]
          use: {cmd: "cat big/a big/sub/b > use", deps: [big], outs: [use]}
    """
    serial, parallel = twins(dvc_yaml, {"in": "data"})
    for text in ("data", "other", "data"):
        for project, jobs in ((serial, 1), (parallel, 2)):
            project.write({"in": text})
            assert project.reproduce(jobs=jobs) == ["big", "use"]
        assert_same(serial, parallel)


FILES = {"file": "cat in > two", "folder": "mkdir two; cat in > two/a; cp in two/b"}


def object_id(kind):
    """The object of the stage's output that cannot be put into the cache."""
    data = hashlib.md5(b"data").hexdigest()
    if kind == "list":
        rows = ", ".join(f'{{"md5": "{data}", "relpath": "{name}"}}' for name in "ab")
        return hashlib.md5(f"[{rows}]".encode()).hexdigest()
    return data


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs a /sys")
@pytest.mark.parametrize(
    "kind, link, jobs",
    [
        *product(("file", "folder", "list"), ("reflink,copy", "copy", "symlink"), [2]),
        ("file", "reflink,copy", 1),
        ("folder", "reflink,copy", 1),
    ],
)
def test_what_cannot_be_put_into_the_cache_is_not_recorded(
    make_project, kind, link, jobs
):
    dvc_yaml = f"""
        stages:
          one: {{cmd: echo 1 > one, outs: [one]}}
          two: {{cmd: {FILES.get(kind, FILES["folder"])}, deps: [in, one], outs: [two]}}
    """
    config = {".dvc/config": f"[cache]\n    type = {link}\n"}
    project = make_project("p", dvc_yaml, {"in": "before", **config})
    project.reproduce(jobs=jobs)
    before = project.read("dvc.lock")

    # NOTE: nobody makes a file there, not even root
    project.write({"in": "data"})
    prefixes = []
    for folder in ("cache", "cache/files/md5"):
        prefix = project.path / ".dvc" / folder / object_id(kind)[:2]
        if prefix.parent.exists():
            prefix.symlink_to("/sys/kernel")
            prefixes.append(prefix)
    with pytest.raises(ReproductionError) as excinfo:
        project.reproduce(jobs=jobs)
    # NOTE: DVC notices by itself where it links or copies the output from the cache;
    # which copies it makes differs by version
    errors = ["unable to remove", "is not in the cache as recorded"]
    if kind == "list":
        del errors[0]
    elif link == "symlink" or (kind, link) == ("file", "reflink,copy"):
        del errors[1]
    assert any(error in str(excinfo.value.__cause__) for error in errors)
    assert project.read("dvc.lock") == before

    for prefix in prefixes:
        prefix.unlink()
    assert project.reproduce(jobs=jobs) == ["two"]
    with project.repo() as repo:
        assert repo.status() == {}


@pytest.mark.parametrize("text, jobs", [("", 1), ("", 2), ("cmd: 1", 2)])
def test_a_damaged_entry_of_the_run_cache_is_replaced(make_project, jobs, text):
    project = make_project("p", DVC_YAML, {"in": "data"})
    project.reproduce(jobs=jobs, targets=["big"])
    (entry,) = (
        path for path in project.path.rglob(".dvc/cache/runs/*/*/*") if path.is_file()
    )
    before = entry.read_text()
    entry.chmod(0o644)
    entry.write_text(text)
    project.reproduce(jobs=jobs, targets=["big"], force=True)
    assert entry.read_text() == before


def test_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LARGE_SIZE", 100)
    monkeypatch.setattr(saving, "MANY_FILES", 5)
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(b"x" * 99)
    assert not saving.is_large(str(folder))
    assert not saving.is_large(str(folder / "sub" / "file"))
    (folder / "other").write_bytes(b"x")
    assert saving.is_large(str(folder))
    (folder / "other").write_bytes(b"")
    for number in range(4):
        (folder / str(number)).touch()
    assert saving.is_large(str(folder))
    assert not saving.is_large(str(tmp_path / "none"))
