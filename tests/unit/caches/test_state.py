import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.state import State, StateNoop
from dvc_objects.fs import localfs

from dvc_parallel.caches.path_facts import state_kept_open


@pytest.fixture
def state(tmp_path):
    state = State(str(tmp_path), str(tmp_path / "state"))
    yield state
    state.close()


def connection(database):
    return getattr(database._local, "con", None)


def test_connections_stay_open_until_the_end(state, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with state_kept_open(state):
        state.save(str(path), localfs, HashInfo("md5", "abc"))
        state.save_link(str(path), localfs)
        open_ones = [connection(state.hashes), connection(state.links)]
        assert all(open_ones)
        state.close()
        assert [connection(state.hashes), connection(state.links)] == open_ones
    assert connection(state.hashes) is None
    assert connection(state.links) is None
    assert state.get(str(path), localfs)[1] == HashInfo("md5", "abc")


def test_each_thread_closes_its_own(state):
    seen = []

    def work(close):
        state.hashes.get("key")
        seen.append(connection(state.hashes) is not None)
        close()
        seen.append(connection(state.hashes) is None)

    with state_kept_open(state) as close:
        state.hashes.get("key")
        thread = threading.Thread(target=work, args=(close,))
        thread.start()
        thread.join()
        assert connection(state.hashes) is not None
    assert seen == [True, True]


def test_no_state(tmp_path):
    with state_kept_open(StateNoop()) as close:
        close()


def test_connections_are_closed_one_after_the_other():
    """Of two that are closed at a time, sqlite takes none for the last.

    Its log would stay beside the database, and each later run would read that.
    """
    both, met = threading.Barrier(2), []

    def close_database():
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
            met.append(True)

    state = SimpleNamespace(hashes=SimpleNamespace(close=close_database))
    with state_kept_open(state) as close:
        threads = [threading.Thread(target=close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not met
