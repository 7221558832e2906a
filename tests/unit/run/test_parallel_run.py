import os

from dvc.lock import Lock

from dvc_parallel.run.parallel_run import WatchedRepoLock


class FakeRepo:
    def __init__(self, lock):
        self.lock = lock

    def _reset(self):
        pass


def test_knows_whether_another_process_had_the_lock(tmp_path):
    lock_file = str(tmp_path / "lock")
    repo = FakeRepo(Lock(lock_file))
    repo.lock.lock()
    told = []
    shared = WatchedRepoLock(repo, before_unlock=lambda: told.append(1))
    shared.unlock()
    shared.lock()
    assert shared.intrusions == 0

    shared.unlock()
    with open(lock_file, "w") as fobj:  # as another process leaves it
        fobj.write(f" {os.getppid()}\n")
    shared.lock()
    assert shared.intrusions == 1
    shared.give_back()
    assert len(told) == 3
