"""What is read from traces: recorded ones, and those of the strace that is here."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from dvc_parallel.commands.trace.strace import Strace, decoded
from dvc_parallel.commands.trace.used_files import UsedFiles
from dvc_parallel.engine.runner import Command
from tests.support.capabilities import STRACE, needs_strace

ROOT = "/w"


def used_files(root=ROOT):
    def place(path):
        return os.path.relpath(path, root) if path.startswith(f"{root}/") else None

    return UsedFiles(place)


def hexed(text):
    r"""A recorded trace, with paths between ` and ` as -xx has them."""

    def code(match):
        return "".join(f"\\x{byte:02x}" for byte in os.fsencode(match[1]))

    return re.sub(r"`([^`]*)`", code, textwrap.dedent(text))


def read(tmp_path, text, folder=ROOT):
    path = tmp_path / "trace"
    path.write_text(hexed(text))
    used = used_files()
    lost = Strace(()).read(str(path), folder, used)
    used.settle(lambda _: True, lambda _: False)
    return used, lost


def understood(tmp_path, text, folder=ROOT):
    used, lost = read(tmp_path, text, folder)
    assert lost == (0, "")
    return used


def test_opened_files_go_by_their_real_paths_and_by_those_asked_for(tmp_path):
    used = understood(
        tmp_path,
        """\
        7 openat(AT_FDCWD<`/w`>, "`in`", O_RDONLY|O_CLOEXEC) = 3<`/w/in`>
        7 openat(AT_FDCWD<`/w`>, "`link/in`", O_RDONLY) = 3<`/w/real/in`>
        7 openat(AT_FDCWD<`/w`>, "`data`", O_RDONLY) = 3<`/cache/ab/cd`>
        7 openat(5<`/w/sub`>, "`x`", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 4<`/w/sub/x`>
        7 open("`/w/old`", O_RDONLY|O_LARGEFILE) = 3<`/w/old`>
        7 creat("`new`", 0666) = 3<`/w/new`>
        7 openat2(AT_FDCWD<`/w`>, "`two`", {flags=O_RDONLY}, 24) = 3<`/w/two`>
        """,
    )
    assert used.reads == {
        "in": set(),
        "real/in": {"link/in"},
        "data": set(),
        "old": set(),
        "two": set(),
    }
    assert used.left == {"sub/x", "new"}


def test_what_is_not_there_or_not_read(tmp_path):
    used = understood(
        tmp_path,
        """\
        7 openat(AT_FDCWD<`/w`>, "`no`", O_RDONLY) = -1 ENOENT (No such file)
        7 newfstatat(AT_FDCWD<`/w`>, "`file/no`", 0x7ffe, 0) = -1 ENOTDIR (Not a folder)
        7 openat(AT_FDCWD<`/w`>, "`secret`", O_RDONLY) = -1 EACCES (Permission denied)
        7 openat(AT_FDCWD<`/w`>, "`handle`", O_RDONLY|O_PATH) = 3<`/w/handle`>
        7 openat(AT_FDCWD<`/w`>, "`.`", O_RDWR|O_TMPFILE, 0600) = 3<`/w/#12`>(deleted)
        7 openat(AT_FDCWD<`/w`>, "`/proc/self/fd/4`", O_RDONLY) = 5<`/w/x`>(deleted)
        7 openat(AT_FDCWD<`/w`>, "`sub`", O_RDONLY|O_DIRECTORY) = 3<`/w/sub`>
        7 newfstatat(3<`/w/sub`>, "", {st_mode=S_IFREG}, AT_EMPTY_PATH) = 0
        7 statx(AT_FDCWD<`/w`>, "`there`", 0, STATX_ALL, {stx_mask=0}) = 0
        7 access("`/w/ok`", R_OK) = 0
        7 unlink("`never`") = -1 ENOENT (No such file or directory)
        7 stat(NULL, 0x7ffe) = -1 EFAULT (Bad address)
        7 openat(AT_FDCWD<`/w`>, 0xdead, O_RDONLY) = -1 EFAULT (Bad address)
        """,
    )
    assert used.reads == {}
    assert used.writes == set()
    assert used.missing == {"no", "file/no"}
    assert used.listed == {"sub"}
    assert used.looks == {"there", "ok"}


def test_renames_links_and_removals(tmp_path):
    used = understood(
        tmp_path,
        """\
        7 openat(AT_FDCWD<`/w`>, "`t`", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3<`/w/t`>
        7 rename("`t`", "`out`") = 0
        7 renameat2(AT_FDCWD<`/w`>, "`a`", AT_FDCWD<`/w`>, "`b`", RENAME_EXCHANGE) = 0
        7 linkat(AT_FDCWD<`/w`>, "`in`", AT_FDCWD<`/w`>, "`hard`", 0) = 0
        7 symlinkat("`any >\\"text`", AT_FDCWD<`/w`>, "`soft`") = 0
        7 symlink("``", "`empty`") = -1 ENOENT (No such file or directory)
        7 openat(AT_FDCWD<`/w`>, "`gone`", O_RDWR|O_TRUNC) = 3<`/w/gone`>
        7 unlinkat(AT_FDCWD<`/w`>, "`gone`", 0) = 0
        7 truncate("`short`", 0) = 0
        7 mkdir("`folder`", 0777) = 0
        7 rename("`lost`", "`found`") = -1 ENOENT (No such file or directory)
        """,
    )
    assert set(used.reads) == {"a", "b", "in"}
    assert used.left == {"out", "a", "b", "hard", "soft", "short"}
    assert used.writes == used.left | {"t", "gone"}
    assert used.missing == {"lost"}


def test_folders_of_processes(tmp_path):
    """Relative paths of calls that do not say from where."""
    gone = "= -1 ENOENT (No such file or directory)"
    used = understood(
        tmp_path,
        f"""\
        7 vfork( <unfinished ...>
        8 chdir("`/w/a`") = 0
        8 stat("`x`", 0x7ffe) {gone}
        8 execve("`/bin/true`", ["`t`"], 0x7ffe /* 3 vars */ <unfinished ...>
        7 <... vfork resumed>)              = 8
        8 <... execve resumed>)             = 0
        8 +++ exited with 0 +++
        7 stat("`x`", 0x7ffe) {gone}
        7 clone3({{flags=CLONE_VM|CLONE_FS|CLONE_THREAD, tls=0x7f}} <unfinished ...>
        9 chdir("`/w/b`") = 0
        7 <... clone3 resumed> => {{parent_tid=[9]}}, 88) = 9
        7 stat("`y`", 0x7ffe) {gone}
        9 +++ exited with 0 +++
        7 fork() = 8
        8 fchdir(3<`/w/c`>) = 0
        8 stat("`z`", 0x7ffe <unfinished ...>
        7 stat("`z`", 0x7ffe) {gone}
        8 <... stat resumed>) {gone}
        8 +++ killed by SIGKILL +++
        """,
    )
    assert used.missing == {"a/x", "x", "b/y", "c/z", "b/z"}


@pytest.mark.parametrize(
    "line",
    [
        "what?",
        '7 openat(AT_FDCWD<`/w`>, "`x`", O_RDONLY) = 3<`/w/x`',
        '7 openat(AT_FDCWD<`/w`>, "`x`, O_RDONLY) = 3<`/w/x`>',
        "7 <... openat resumed>) = 3<`/w/x`>",
        "7 openat(bad) = 3<`/w/x`>",
        '7 openat(AT_FDCWD<`/w`>, "`x`", O_RDONLY) = -1',
        "strace: Process 12 attached",
    ],
)
def test_a_line_that_is_not_understood_is_counted(tmp_path, line):
    used, (count, first) = read(tmp_path, f"{line}\n")
    assert (count, first) == (1, hexed(line))
    assert not used.reads


def test_the_last_line_may_not_be_complete(tmp_path):
    text = '7 openat(AT_FDCWD<`/w`>, "`x`", O_RDO'
    assert understood(tmp_path, text).reads == {}


def test_text_of_a_command_is_not_taken_for_a_call(tmp_path):
    name = '", O_RDONLY) = 3<`/w/no`>\n7 unlink("`other`") = 0'
    trick = "".join(f"\\x{byte:02x}" for byte in name.encode())
    used = understood(
        tmp_path, f'7 openat(AT_FDCWD<`/w`>, "{trick}", O_RDONLY) = 3<`/w/`{trick}>\n'
    )
    assert list(used.reads) == [name]
    assert used.writes == set()


def test_escapes():
    assert decoded(r"\xc3\xa4\n\t\\\"\303\0z") == os.fsdecode(b'\xc3\xa4\n\t\\"\xc3\0z')


PYTHON = sys.executable
SCRIPT = """\
import os, threading
fd = os.open("sub", os.O_RDONLY)
os.close(os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
os.rename("x", "y", src_dir_fd=fd, dst_dir_fd=fd)
os.chdir("sub")
t = threading.Thread(target=lambda: open("../in").read())
t.start(); t.join()
os.mkdir("deep")
with open("deep/z", "w") as f: f.write("z")
os.rename("deep", "deeper")
with open("deeper/z") as f: f.read()
"""


@pytest.fixture
def traced(tmp_path):
    """What a shell command reads, leaves, and writes besides."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "in").write_text("1\n")
    (folder / "link").symlink_to("in")
    (folder / "run").write_text("#!/bin/sh\ncat in\n")
    (folder / "run").chmod(0o755)
    (folder / "script.py").write_text(SCRIPT)
    strace, reason = Strace.find()
    assert strace, reason

    def run(cmd, status=0):
        path = str(tmp_path / "trace")
        command = strace.wrap(Command(cmd, shell=True), path)
        # NOTE: not a pipe, as strace has it until all of its processes have ended
        with open(tmp_path / "errors", "w+") as errors:
            done = subprocess.run(
                command.args, cwd=folder, stdout=errors, stderr=errors, check=False
            )
            errors.seek(0)
            assert done.returncode == status, errors.read()
        used = used_files(str(folder))
        assert strace.read(path, str(folder), used) == (0, "")
        used.settle(lambda name: name != "db", lambda name: (folder / name).is_dir())
        return used, set(used.reads), used.left, used.writes - used.left

    return run


@needs_strace
@pytest.mark.parametrize(
    "cmd, reads, left, others",
    [
        ("cat in > out", {"in"}, {"out"}, set()),
        ("cat in > tmp; mv tmp out", {"in"}, {"out"}, {"tmp"}),
        ("cat in > tmp; cat tmp > out; rm tmp", {"in"}, {"out"}, {"tmp"}),
        ("cat link > out", {"in"}, {"out"}, set()),
        ("cp in out; cp --reflink=auto out sub", {"in"}, {"out", "sub/out"}, set()),
        ("ln -s in new; ln in hard", {"in"}, {"new", "hard"}, set()),
        ("cd sub; cat ../in > 'a b'; cd ..; cat 'sub/a b'", {"in"}, {"sub/a b"}, set()),
        ("echo 1 > 'ü\"\n>'; cat 'ü\"\n>'", set(), {'ü"\n>'}, set()),
        ("echo >> in", set(), {"in"}, set()),
        ("./run > out", {"run", "in"}, {"out"}, set()),
        ("(cat in; exec ./run) | wc > out", {"run", "in"}, {"out"}, set()),
        (
            "mkdir new; cat in > new/x; mv new old",
            {"in"},
            {"old/x"},
            {"new/x"},
        ),
        (
            f"{PYTHON} script.py",
            {"script.py", "in"},
            {"sub/y", "sub/deeper/z"},
            {"sub/x", "sub/deep/z"},
        ),
        ("exec 3<> db; exec 4<> new", {"db"}, {"new"}, set()),
        ("test -e in && ls sub", set(), set(), set()),
    ],
)
def test_what_commands_do(traced, cmd, reads, left, others):
    _, *found = traced(cmd)
    assert found == [reads, left, others]


@needs_strace
def test_what_commands_look_for(traced):
    used, *_ = traced("cat nothing; test -e in; test -e sub/no", status=1)
    assert used.missing >= {"nothing", "sub/no"}
    assert used.looks == {"in"}


@needs_strace
@pytest.mark.parametrize("cmd, status", [("exit 3", 3), ("kill -9 $$", -9)])
def test_a_command_ends_as_it_does(traced, cmd, status):
    traced(cmd, status)


@needs_strace
def test_a_command_ends_when_its_first_process_does(traced, tmp_path):
    os.mkfifo(tmp_path / "go")
    traced(f"(read x < {tmp_path}/go) > /dev/null 2>&1 & cat in")
    with open(tmp_path / "go", "w") as go:
        go.write("\n")


def test_without_strace(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Strace.find() == (None, "strace is not installed")
    fake = tmp_path / "strace"
    fake.write_text("#!/bin/sh\necho strace: ptrace: no >&2; exit 1\n")
    fake.chmod(0o755)
    assert Strace.find() == (None, f"{fake} cannot trace: strace: ptrace: no")
    fake.write_text('#!/bin/sh\ncase "$*" in *seccomp*) exit 1;; esac\n')
    found, _ = Strace.find()
    assert found
    assert "--seccomp-bpf" not in found.prefix
    assert STRACE is None or "-f" in found.prefix
