"""The upstream series is made from the plugin, and goes with it."""

import shutil
import textwrap
from importlib.metadata import version

import pytest

from patches import make, release, source, take, trial
from patches.series import BASE, SERIES, Copy

pytestmark = pytest.mark.skipif(version("dvc") != BASE, reason=f"is for DVC {BASE}")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A copy of what the series is made from."""
    root = tmp_path / "plugin"
    for name in ("dvc_parallel", "tests/unit"):
        shutil.copytree(source.ROOT / name, root / name)
    monkeypatch.setattr(source, "ROOT", root)
    return root


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A copy of ``patches/parts``."""
    shutil.copytree(make.HERE / "parts", tmp_path / "parts")
    monkeypatch.setattr(make, "HERE", tmp_path)
    return tmp_path / "parts"


@pytest.fixture
def patched(tmp_path, monkeypatch):
    """DVC with the series applied."""

    def installed_dvc(folder):
        with make.released_dvc() as there:
            shutil.copytree(there, folder)

    monkeypatch.setattr(release, "release", installed_dvc)
    folder = tmp_path / "patched"
    release.apply(folder)
    return folder


def test_the_series_is_what_the_plugin_makes():
    make.check()


def test_a_change_of_the_plugin_is_noticed(plugin):
    path = plugin / "dvc_parallel" / "path_locks.py"
    path.write_text(path.read_text() + "\n\nNEW = 1\n")
    with pytest.raises(make.DriftError, match=r"^0002-[^,]*\.patch: not what"):
        make.check()


def test_a_patch_that_is_missing_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(make.OUTPUT, tmp_path / "output")
    monkeypatch.setattr(make, "OUTPUT", tmp_path / "output")
    next((tmp_path / "output").glob("0003-*")).unlink()
    with pytest.raises(make.DriftError, match=r"^0003-[^,]*\.patch: not what"):
        make.check()


def test_nothing_of_the_plugin_is_named_in_the_series():
    for path in make.OUTPUT.glob("*.patch"):
        text = path.read_text()
        assert "dvc_parallel" not in text
        assert "serial DVC" not in text


def copy(plugin, text, **kwargs):
    path = plugin / "dvc_parallel" / "new.py"
    path.write_text(text)
    return Copy("dvc_parallel/new.py", "dvc/repo/parallel/new.py", **kwargs)


def test_modules_are_named_as_in_dvc(plugin):
    text = (
        '"""As :mod:`dvc_parallel.repo_lock`."""\n'
        "from . import plan, signals\n"
        "from .atomic import (\n    atomic_write,\n)\n"
        "def f():\n"
        "    from dvc_parallel.runners import Runner\n"
    )
    assert source.render(copy(plugin, text)) == (
        '"""As :mod:`dvc.repo.shared_lock`."""\n'
        "from . import plan, signals\n"
        "from dvc.utils.atomic import atomic_write\n"
        "def f():\n"
        "    from .runners import Runner\n"
    )


def test_what_dvc_has_no_use_for_is_left_out(plugin):
    text = "A = 1\n@d\ndef f():\n    pass\nclass C:\n    x = 1\n    def g(): pass\n"
    without = ("A", "f", "C.g")
    new = source.render(copy(plugin, text, without=without))
    assert new.split() == ["class", "C:", "x", "=", "1"]


@pytest.mark.parametrize(
    "text, kwargs, message",
    [
        ("import dvc_parallel.state", {}, "dvc_parallel.state, which is not in"),
        ("a = a", {"replace": (("a", "b"),)}, "has 2 times: 'a'"),
        ("a", {"replace": (("b", "c"),)}, "has 0 times: 'b'"),
        ("def f(): pass", {"without": ("g",)}, "has no g"),
    ],
)
def test_what_the_table_does_not_know_of(plugin, text, kwargs, message):
    with pytest.raises(source.SourceError, match=message):
        source.render(copy(plugin, text, **kwargs))


def test_apply_makes_a_new_folder(patched):
    assert (patched / "dvc/repo/parallel/executor.py").exists()
    with pytest.raises(FileExistsError, match="patched is there already"):
        release.apply(patched)


def files(folder):
    return {
        path.relative_to(folder): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_take_takes_what_make_has_made(patched, parts):
    before = files(parts)
    take.take(patched)
    assert files(parts) == before


def amend(folder, name):
    path = folder / name
    path.write_text(path.read_text() + "\nNEW = 1\n")
    make.git(folder, "commit", "--all", "--amend", "--no-edit", "--quiet")


def test_take_takes_edits_of_dvcs_files_and_of_new_ones(patched, parts):
    test = "tests/func/repro/test_repro_parallel.py"
    amend(patched, "dvc/prompt.py")
    amend(patched, test)
    take.take(patched)
    part = make.of_part(SERIES[-1], "")
    assert "+NEW = 1\n" in (part / "changes.diff").read_text()
    assert (part / "files" / test).read_text().endswith("\nNEW = 1\n")


def test_take_says_where_to_edit_what_comes_from_the_plugin(patched, parts):
    before = files(parts)
    amend(patched, "dvc/repo/parallel/plan.py")
    with pytest.raises(make.DriftError, match=r"comes from dvc_parallel/plan\.py"):
        take.take(patched)
    assert files(parts) == before


def test_take_wants_the_commits_of_the_series(patched, parts):
    make.git(patched, "commit", "--allow-empty", "--quiet", "--message", "other")
    with pytest.raises(make.DriftError, match=r"is 'rwlock: .*, not 'lockfile: "):
        take.take(patched)


def test_trial_tells_what_fails_only_with_the_series(tmp_path):
    """With a project whose tests fail for this reason or that."""
    tests = """
        import os, pytest
        def test_good(): pass
        def test_bad(): assert False
        def test_broken(): assert not os.path.exists("new")
        @pytest.mark.parametrize("x", ["a b"])
        def test_parallel(x): assert not os.path.exists("{config}")
    """
    project = tmp_path / "project"
    (project / "tests").mkdir(parents=True)
    config = tmp_path / "config"
    (project / "tests" / "test_x.py").write_text(
        textwrap.dedent(tests).format(config=config)
    )
    (project / "tests" / "conftest.py").write_text(
        f"import os; os.environ['DVC_SYSTEM_CONFIG_DIR'] = {str(tmp_path)!r}"
    )
    make.start(project)
    outcome = trial.Trial(project, ["-n0", "tests"], lint=False)
    (project / "new").write_text("")
    make.git(project, "add", "--all")
    make.git(project, "commit", "--quiet", "--message", "the series")

    outcome.run("last", trial.MODES[:1])
    assert outcome.failed == {"tests/test_x.py::test_broken"}
    outcome.run("last", trial.MODES)
    parallel = "tests/test_x.py::test_parallel[a b]"
    assert outcome.failed == {"tests/test_x.py::test_broken", parallel}
