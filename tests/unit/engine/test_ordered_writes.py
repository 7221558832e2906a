import json
import os
from contextlib import contextmanager
from functools import partial
from itertools import permutations

import pytest
from dvc.fs import localfs
from dvc.utils.serialize import load_yaml, modify_yaml
from hypothesis import given
from hypothesis import strategies as st
from scmrepo.git import Git

from dvc_parallel.engine.lockfile import Lockfiles
from dvc_parallel.engine.ordered_writes import VARIABLE, SerialOrder
from dvc_parallel.run.gitignore_lines import add_entry_to_gitignore

NAMES = ["d", "a", "c", "b"]


def record(path, name, modify=modify_yaml, value="x"):
    with modify(path) as data:
        if not data:
            data.update({"schema": "2.0"})
        data["stages"] = data.get("stages", {})
        data["stages"].update({name: {"cmd": value}})


@pytest.fixture
def lock(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    return str(tmp_path / "dvc.lock")


def make_order(tmp_path, stages=(*NAMES, "e", "f")):
    return SerialOrder(str(tmp_path), stages, Lockfiles(str(tmp_path)))


def read(path):
    with open(path) as fobj:
        return fobj.read()


@pytest.mark.parametrize("known", [[], ["c"], ["a", "z"]])
@pytest.mark.parametrize("finished", list(permutations(range(4))))
def test_lockfile_in_serial_order(tmp_path, lock, known, finished):
    for name in known:
        record(lock, name, value="old")
    before = read(lock) if known else None
    for name in NAMES:
        record(lock, name)
    expected = read(lock)

    if before is None:
        os.unlink(lock)
    else:
        (tmp_path / "dvc.lock").write_text(before)
    order = make_order(tmp_path)
    for rank in finished:
        modify = partial(order.modify_lockfile, fs=None, rank=rank)
        record(lock, NAMES[rank], modify)
    assert read(lock) == expected


def test_entries_of_other_processes_stay(tmp_path, lock):
    order = make_order(tmp_path)
    record(lock, "z", partial(order.modify_lockfile, fs=None, rank=5))
    record(lock, "other")
    record(lock, "a", partial(order.modify_lockfile, fs=None, rank=1))
    assert list(load_yaml(lock)["stages"]) == ["a", "z", "other"]


def test_any_path_and_what_takes_a_round_trip(tmp_path, lock):
    order = make_order(tmp_path)
    with order.modify_lockfile(tmp_path / "dvc.lock", localfs, 0) as data:
        data.update({"schema": "2.0", "datasets": [], "stages": {}})
    assert load_yaml(lock)["datasets"] == []


def test_lockfile_is_untouched_after_an_error(tmp_path, lock):
    record(lock, "a")
    before = read(lock)
    order = make_order(tmp_path)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with order.modify_lockfile(lock, None, 0) as data:
            data["stages"]["b"] = 1
            raise ZeroDivisionError
    assert read(lock) == before


@pytest.mark.parametrize(
    "before", [None, b"", b"/z\n", b"# a comment\n/z", b"/z\r\n", b"# caf\xe9\n/z\n"]
)
@pytest.mark.parametrize("finished", list(permutations(range(4))))
def test_gitignore_in_serial_order(tmp_path, before, finished):
    append = Git(str(make_repo(tmp_path)))._add_entry_to_gitignore
    path = tmp_path / ".gitignore"

    def start():
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)

    start()
    # NOTE: a name may have a line break
    entries = [f"/{name}{i}" for name in NAMES for i in (1, "\nbreak")]
    for entry in entries:
        append(entry, str(path))
    expected = path.read_bytes()

    start()
    order = make_order(tmp_path)
    for rank in finished:
        for entry in entries[2 * rank : 2 * rank + 2]:
            order.ignore(partial(append, entry), str(path), rank)
    assert path.read_bytes() == expected


def test_a_line_comes_into_a_gitignore_where_it_belongs(tmp_path, monkeypatch):
    gitignore = str(tmp_path / ".gitignore")

    # NOTE: whoever has added it dies then
    make_order(tmp_path).ignore(partial(append, "c"), gitignore, 2)
    with monkeypatch.context() as patch:
        patch.setattr("dvc_parallel.engine.ordered_writes.atomic_write", None)
        with pytest.raises(TypeError):
            make_order(tmp_path).ignore(partial(append, "a"), gitignore, 1)
    assert read(gitignore) == "c\n"
    make_order(tmp_path).ignore(partial(append, "a"), gitignore, 1)
    assert read(gitignore) == "a\nc\n"


def make_repo(path):
    Git.init(str(path)).close()
    return path


STAGES = [f"dvc.yaml:{name}" for name in "fbdace"]


class NamesOnly:
    """A dvc.lock of which there are only the names of its entries."""

    def __init__(self, names=()):
        self.names = list(names)

    @contextmanager
    def modify(self, _path, _fs, place):
        names = []
        yield names
        for name in names:
            later = [other for other in place(name) if other in self.names]
            index = self.names.index(later[0]) if later else len(self.names)
            self.names.insert(index, name)


def append(line, gitignore):
    with open(gitignore, "a") as fobj:
        fobj.write(f"{line}\n")


def finish(order, gitignore, stage):
    """Add what a stage adds: two lines, and an entry."""
    rank = STAGES.index(stage)
    for number in (1, 2):
        order.ignore(partial(append, f"/{stage}{number}"), gitignore, rank)
    with order.modify_lockfile("dvc.lock", None, rank) as names:
        names.append(stage)


RUNS = st.lists(
    st.tuples(st.permutations(STAGES), st.integers(0, 5), st.booleans()), max_size=4
)


@given(
    known=st.lists(st.sampled_from(STAGES), unique=True, max_size=3),
    runs=RUNS,
    last=st.permutations(STAGES),
)
def test_what_interrupted_runs_have_left_out(tmp_path_factory, known, runs, last):
    folder = tmp_path_factory.mktemp("repo")
    gitignore = str(folder / ".gitignore")
    lockfiles = NamesOnly(known)
    for stage in known:
        for number in (1, 2):
            append(f"/{stage}{number}", gitignore)
    done = set(known)
    for finished, count, is_cut_off in [*runs, (last, len(STAGES), False)]:
        order = SerialOrder(str(folder), STAGES, lockfiles)
        for stage in [stage for stage in finished if stage not in done][:count]:
            finish(order, gitignore, stage)
            done.add(stage)
        if is_cut_off and done != set(known):  # in the middle of taking note
            with (folder / "parallel" / "order.jsonl").open("a") as fobj:
                fobj.write('\n{"file": ".git')
    expected = [*known, *(stage for stage in STAGES if stage not in known)]
    assert lockfiles.names == expected
    assert read(gitignore).split() == [f"/{s}{n}" for s in expected for n in (1, 2)]

    order.come_to_end()
    assert not (folder / "parallel" / "order.jsonl").exists()


def test_a_stage_that_no_interrupted_run_had_is_new(tmp_path):
    lockfiles, gitignore = NamesOnly(), str(tmp_path / ".gitignore")
    for stages, rank in (("ac", 1), ("abc", 1)):
        order = SerialOrder(str(tmp_path), list(stages), lockfiles)
        order.ignore(partial(append, stages[rank]), gitignore, rank)
        with order.modify_lockfile("dvc.lock", None, rank) as names:
            names.append(stages[rank])
        if stages == "ac":  # by plain DVC
            append("a", gitignore)
            lockfiles.names.append("a")
    assert lockfiles.names == read(gitignore).split() == ["c", "a", "b"]


def test_a_run_of_some_stages_does_not_forget_what_others_have_left_out(tmp_path):
    lockfiles = NamesOnly()
    for stages, rank in ((STAGES, 3), (STAGES[:1], 0), (STAGES, 2)):
        order = SerialOrder(str(tmp_path), stages, lockfiles)
        with order.modify_lockfile("dvc.lock", None, rank) as names:
            names.append(stages[rank])
        if stages != STAGES:
            order.come_to_end()
    assert lockfiles.names == [STAGES[place] for place in (2, 3, 0)]


def test_with_one_job(tmp_path):
    tmp_dir, path = str(tmp_path / ".dvc" / "tmp"), str(tmp_path / "dvc.lock")
    os.makedirs(tmp_dir)
    lockfiles = NamesOnly()
    order = SerialOrder(tmp_dir, STAGES, lockfiles)
    with order.modify_lockfile(path, None, 2) as names:
        names.append("d")
    order = SerialOrder(tmp_dir, lockfiles=lockfiles)
    for name in "xbc":
        with lockfiles.modify(path, None, partial(order.successors, path)) as names:
            names.append(name)
    assert lockfiles.names == ["b", "d", "x", "c"]


def test_dvc_in_a_command(tmp_path, monkeypatch):
    gitignore = str(tmp_path / ".gitignore")
    order = make_order(tmp_path)

    def add_in_command(rank, line):
        for name, value in order.environment(rank).items():
            monkeypatch.setenv(name, value)
        add_entry_to_gitignore(lambda _scm, *args: append(*args), None, line, gitignore)

    add_in_command(3, "b1")  # nobody has added anything yet
    order.ignore(partial(append, "c"), gitignore, 2)
    add_in_command(3, "b2")
    add_in_command(1, "a1")
    order.ignore(partial(append, "a2"), gitignore, 1)
    order.ignore(partial(append, "d"), gitignore, 0)
    add_in_command(2, "c2")
    assert read(gitignore).split() == ["b1", "d", "a1", "a2", "c", "c2", "b2"]


@pytest.mark.parametrize("value", ["", "1", "x:/", "9:{tmp}", "-1:{tmp}", "0:/none"])
def test_odd_environment_of_a_command(tmp_path, monkeypatch, value):
    make_order(tmp_path)._append({"stages": STAGES})
    monkeypatch.setenv(VARIABLE, value.replace("{tmp}", str(tmp_path)))
    gitignore = str(tmp_path / ".gitignore")
    add_entry_to_gitignore(lambda _scm, *args: append(*args), None, "a", gitignore)
    assert read(gitignore) == "a\n"


LINE = {"file": "../../dvc.lock", "stage": "a", "number": 0, "text": "a"}
GARBLED = [
    *(b"", b"\n\n", b"\0", b"[" * 9999, b"\xff", b"null", b"[]", b"7"),
    *(b'{"stages": 1}', b'{"stages": [1]}', json.dumps(LINE).encode()[:-1]),
    *(json.dumps({**LINE, key: None}).encode() for key in LINE),
    *(json.dumps({**LINE, "number": nr}).encode() for nr in (-1, 1e9, True, 10**30)),
]


@pytest.mark.parametrize("garbled", GARBLED)
def test_what_makes_no_sense_is_left_out(tmp_path, garbled):
    path = tmp_path / "parallel" / "order.jsonl"
    path.parent.mkdir()
    path.write_bytes(garbled)
    lockfiles = NamesOnly()
    for rank in (2, 1):
        order = SerialOrder(str(tmp_path), STAGES, lockfiles)
        with order.modify_lockfile("dvc.lock", None, rank) as names:
            names.append(STAGES[rank])
    assert lockfiles.names == STAGES[1:3]


@pytest.mark.parametrize("what", ["file", "folder", "fifo", "directory", "loop"])
def test_nothing_is_opened_that_is_not_ours(tmp_path, what, caplog):
    other = tmp_path / "other"
    other.mkdir()
    header = json.dumps({"stages": STAGES})
    (other / "order.jsonl").write_text(header)
    ours = tmp_path / "parallel"
    path = ours / "order.jsonl"
    if what == "folder":
        ours.symlink_to(other)
    else:
        ours.mkdir()
    if what == "file":
        path.symlink_to(other / "order.jsonl")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)

    gitignore, lockfiles = str(tmp_path / ".gitignore"), NamesOnly()
    order = SerialOrder(str(tmp_path), STAGES, lockfiles)
    for rank in (2, 1):
        finish(order, gitignore, STAGES[rank])
    assert lockfiles.names == STAGES[1:3]
    assert (other / "order.jsonl").read_text() == header
    assert caplog.text.count("in another order") == 1
