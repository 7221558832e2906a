import json
from collections import defaultdict
from contextlib import ExitStack

import pytest
from dvc.repo import Repo

from dvc_parallel.engine import file_stamp
from dvc_parallel.engine.path_locks import PathLocks


@pytest.fixture
def time_passes(monkeypatch):
    """Have files look as if they had been left alone for a while."""
    monkeypatch.setattr(file_stamp, "SETTLED", -(10**18))


@pytest.fixture
def said():
    """Takes what commands print; ``said.lines`` has it, by stream."""
    lines = defaultdict(list)

    def output(name, line):
        lines[name].append(line)

    output.lines = lines
    return output


@pytest.fixture
def locks():
    """Path locks of a run, in ``rwlock`` of ``tmp_path``."""
    return PathLocks()


@pytest.fixture
def in_file(tmp_path, locks):
    """What these locks have in the file."""

    def in_file():
        locks.flush()
        data = json.loads((tmp_path / "rwlock").read_text())
        return {mode: sorted(paths) for mode, paths in data.items() if paths}

    return in_file


@pytest.fixture
def make_repo(tmp_path, monkeypatch):
    """Make a repo without git in the current folder, with a dvc.yaml."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:

        def make(dvc_yaml):
            repo = stack.enter_context(Repo.init(str(tmp_path), no_scm=True))
            (tmp_path / "dvc.yaml").write_text(dvc_yaml)
            return repo

        yield make
