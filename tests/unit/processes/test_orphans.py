import os
import re
import sys
from functools import partial

import pytest
from shortuuid import uuid

from dvc_parallel.engine.lock_wait import Wait
from dvc_parallel.processes import orphans, watchdog
from tests import HANGS

if sys.platform != "linux":
    pytest.skip("needs /proc and file locks", allow_module_level=True)

# Is a run that goes on until its stdin ends.
RUN = """
import sys
from dvc_parallel.processes import orphans
folder, run_id = sys.argv[1:]
file = orphans.announce(orphans.folder_of(folder), run_id)
print(1, flush=True)
input()
"""


@pytest.fixture
def folder(tmp_path):
    return orphans.folder_of(str(tmp_path))


@pytest.fixture
def found():
    return []


def test_what_a_killed_run_has_left_is_killed(start, tmp_path, folder, found):
    run_id = uuid()
    run = start(command=[sys.executable, "-c", RUN, str(tmp_path), run_id])
    command = start(run_id)
    orphans.clear(folder, found.append)
    assert (found, command.poll(), os.listdir(folder.path)) == ([], None, [run_id])

    run.kill()
    run.wait()
    orphans.clear(folder, found.append)
    assert found == [[command.pid]]
    assert command.wait(HANGS) == -9
    assert not os.listdir(folder.path)


def test_a_run_of_this_process_goes_on(start, folder, found):
    run_id = uuid()
    file = orphans.announce(folder, run_id)
    command = start(run_id)
    orphans.clear(folder, found.append)
    assert command.poll() is None
    file.remove()
    assert not os.listdir(folder.path)


def test_a_run_that_could_not_kill_all_leaves_that_to_the_next(folder, found):
    run_id = uuid()
    orphans.announce(folder, run_id).release()
    assert os.listdir(folder.path) == [run_id]
    orphans.clear(folder, found.append)
    assert (found, os.listdir(folder.path)) == ([], [])


def test_a_wait_for_what_does_not_end_is_told(folder, found, monkeypatch, mocker):
    orphans.announce(folder, uuid()).release()
    clock = iter([0, 0, 1, 11, 12, 72])
    ends = iter([False] * 4 + [True])
    monkeypatch.setattr(orphans, "Wait", partial(Wait, clock=lambda: next(clock)))
    monkeypatch.setattr(watchdog, "kill_all", lambda *_args, **_: next(ends))
    monkeypatch.setattr(watchdog, "processes_of", lambda _run_id: iter([8, 7]))
    say = mocker.patch.object(orphans, "say")
    orphans.clear(folder, found.append)
    assert found == [[7, 8]]
    told = [re.search(r"\(for (\d+ \w+)\): 7, 8;", c.args[0]) for c in say.mock_calls]
    assert [match[1] for match in told] == ["11 s", "1 min"]
    assert not os.listdir(folder.path)


def test_there_may_be_nothing(tmp_path, folder, found):
    orphans.clear(folder, found.append)
    assert not found


def test_no_file_where_none_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    assert orphans.announce(orphans.folder_of(str(tmp_path / "file")), uuid()) is None
