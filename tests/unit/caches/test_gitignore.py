import os
import subprocess
from unittest.mock import Mock

import pytest
from dulwich.ignore import IgnoreFilterManager
from hypothesis import given
from hypothesis import strategies as st
from scmrepo.git import Git
from scmrepo.git.backend.dulwich import DulwichBackend

from dvc_parallel.caches.gitignore import IgnoreFiles

NAMES = st.sampled_from(["a", "b", "ab", "a b", "a.c", "ü", "sub", "[x]", "#n", "!e"])
LINES = st.one_of(
    NAMES.map("/{}".format),
    st.builds("{}/{}".format, NAMES.map("/{}".format), NAMES),
    st.sampled_from(
        ["/sub/", "sub", "*", "!a", "!/a", "/a*", "/a?c", "*.c", "/**/b", "a/", "/a/*"]
    ),
    st.sampled_from(["/a ", "/a b ", "/a\\ ", "\\#n", "/\\[x\\]", "# c", "", "/", "!"]),
    st.sampled_from(["/a\r", "/b/\r", "/ab\t"]),
)
FILES = st.lists(LINES, max_size=6).map("\n".join)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    path = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "-q", path], check=True)
    for folder in ("a", "sub/a", "sub/b"):
        (path / folder).mkdir(parents=True)
    return path


def ask(repo, files, path):
    backend = Git(str(repo)).dulwich
    original = type(backend).is_ignored
    try:
        return files.is_ignored(original, backend, path), original(backend, path)
    finally:
        backend.close()


@given(st.lists(st.tuples(FILES, FILES, PATHS), min_size=1, max_size=3))
def test_ignores_what_git_ignores(repo, steps):
    files = IgnoreFiles()
    # What a file has is replaced, and then something is added.
    steps = [
        (f"{top}\n{more}", f"{sub}\n{more}", path)
        for top, sub, path in steps
        for more in ("", sub)
    ]
    for time, (top, sub, path) in enumerate(steps):
        for folder, text in ((repo, top), (repo / "sub", sub)):
            (folder / ".gitignore").write_bytes(text.encode())
            os.utime(folder / ".gitignore", (time, time))  # faster than its clock
        for name in (path, f"{path}/", f"sub/{path}"):
            found, expected = ask(repo, files, os.path.join(repo, name))
            assert found == expected, name


def test_a_line_that_was_added_and_removed(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    files, path = IgnoreFiles(), str(tmp_path / "a")
    assert ask(tmp_path, files, path) == (False, False)
    (tmp_path / ".gitignore").write_text("/a\n")
    assert ask(tmp_path, files, path) == (True, True)
    (tmp_path / ".gitignore").write_text("/b\n/c\n")
    assert ask(tmp_path, files, path) == (False, False)
    (tmp_path / ".gitignore").write_text("/b\n/a")
    assert ask(tmp_path, files, path) == (True, True)
    (tmp_path / ".gitignore").write_text("/b\n/ab\n")
    assert ask(tmp_path, files, path) == (False, False)
    (tmp_path / ".gitignore").unlink()
    assert ask(tmp_path, files, path) == (False, False)


def test_few_lines_are_matched(tmp_path, mocker):
    from dulwich.ignore import Pattern

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("".join(f"/{i}\n" for i in range(1000)))
    backend = Git(str(tmp_path)).dulwich
    files, original = IgnoreFiles(), type(backend).is_ignored
    made = mocker.spy(Pattern, "__init__")
    assert files.is_ignored(original, backend, str(tmp_path / "500"))
    assert not files.is_ignored(original, backend, str(tmp_path / "5000"))
    assert made.call_count == 1


def test_case_is_left_to_git(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(
        ["git", "-C", tmp_path, "config", "core.ignorecase", "true"], check=True
    )
    (tmp_path / ".gitignore").write_text("/a\n")
    assert ask(tmp_path, IgnoreFiles(), str(tmp_path / "A")) == (True, True)


def test_symlinks_are_left_to_git(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "other").write_text("/a\n")
    (tmp_path / ".gitignore").symlink_to("other")
    found, expected = ask(tmp_path, IgnoreFiles(), str(tmp_path / "a"))
    assert found == expected


@pytest.mark.parametrize(
    "lines, ignored",
    [("/a !a", False), ("!a /a", True), ("/a !a /a", True), ("* !a /b !/b", False)],
)
def test_the_last_line_counts(repo, lines, ignored):
    (repo / ".gitignore").write_text(lines.replace(" ", "\n"))
    name = "b" if "/b" in lines else "a/x"
    (repo / "a" / ".gitignore").unlink(missing_ok=True)
    assert ask(repo, IgnoreFiles(), str(repo / name)) == (ignored, ignored)


def test_a_file_that_cannot_be_read_leaves_nothing(tmp_path, mocker):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("/b\n")
    mocker.patch("dvc_parallel.caches.gitignore.is_settled", return_value=True)
    files, path = IgnoreFiles(), str(tmp_path / "a")
    assert ask(tmp_path, files, path) == (False, False)
    (tmp_path / ".gitignore").write_text("/a\n")
    gitignore = str(tmp_path / ".gitignore")
    for name in ("os.stat", "builtins.open"):
        mocker.patch(name, side_effect=PermissionError("no"))
        for _ in range(2):
            with pytest.raises(PermissionError):
                files.matching(gitignore, b"a")
        mocker.stopall()
        mocker.patch("dvc_parallel.caches.gitignore.is_settled", return_value=True)
    assert ask(tmp_path, files, path) == (True, True)


@pytest.fixture
def home(tmp_path, monkeypatch):
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.mark.usefixtures("time_passes")
@pytest.mark.parametrize(
    "name,text,is_ignored",
    [
        ("repo/.git/info/exclude", "a", True),
        ("home/.config/git/ignore", "a", True),
        ("home/.gitconfig", "[core]\nignorecase=true", True),
        ("repo/.git/description", "a", False),
    ],
)
def test_settings_of_git_are_read_while_they_do_not_change(
    tmp_path, home, mocker, name, text, is_ignored
):
    top = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", top], check=True)
    (top / ".gitignore").write_text("A\n")
    read = mocker.spy(IgnoreFilterManager, "from_repo")
    files = IgnoreFiles()
    backend = Git(str(top)).dulwich
    try:
        for _ in range(2):
            backend._reset()
            assert not files.is_ignored(type(backend).is_ignored, backend, top / "a")
        assert read.call_count == 1
        write(tmp_path / name, text)
        backend._reset()
        found = files.is_ignored(type(backend).is_ignored, backend, top / "a")
    finally:
        backend.close()
    assert found == is_ignored
    assert read.call_count == 1 + is_ignored


@pytest.mark.usefixtures("time_passes")
def test_settings_that_name_other_files_are_read_each_time(tmp_path, home):
    top = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", top], check=True)
    write(home / ".gitconfig", f"[core]\nexcludesFile = {home / 'mine'}\n")
    files = IgnoreFiles()
    assert ask(top, files, str(top / "a")) == (False, False)
    (home / "mine").write_text("a\n")
    assert ask(top, files, str(top / "a")) == (True, True)


@pytest.mark.usefixtures("time_passes")
def test_a_path_is_matched_again_when_a_line_may_have_changed_that(tmp_path, home):
    top = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", top], check=True)
    (top / "sub").mkdir()
    files, path = IgnoreFiles(), str(top / "sub" / "a")
    original = Mock(side_effect=DulwichBackend.is_ignored)
    backend = Git(str(top)).dulwich
    for folder, text in (
        (top, "*.c\n"),
        (top, "*.c\n/sub/a\n"),
        (top / "sub", "!a\n"),
        (top / "sub", "b\n/a/\n"),
        (top, "/x\n*.c\n"),
    ):
        write(folder / ".gitignore", text)
        _, expected = ask(top, IgnoreFiles(), path)
        before = original.call_count
        for _ in range(3):
            backend._reset()
            assert files.is_ignored(original, backend, path) == expected, text
        assert original.call_count == before + 1
    # A folder is matched by other lines than a file
    (top / "sub" / "a").mkdir()
    _, expected = ask(top, IgnoreFiles(), path)
    before = original.call_count
    backend._reset()
    assert files.is_ignored(original, backend, path) == expected
    assert original.call_count == before + 1
    backend.close()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
