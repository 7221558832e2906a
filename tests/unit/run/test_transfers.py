import threading

from dvc_parallel.run.transfers import Transfers


def test_others_wait_only_for_what_they_share():
    transfers = Transfers()
    events = []

    def transfer(oids, name):
        with transfers.of(oids):
            events.append(name)

    with transfers.of({"a", "b"}):
        assert transfers.free({"c"})
        assert not transfers.free({"b", "c"})
        transfer({"c"}, "other")
        waits = threading.Thread(target=transfer, args=({"b", "c"}, "same"))
        waits.start()
        transfer({"d"}, "another")
        assert events == ["other", "another"]
    waits.join()
    assert events == ["other", "another", "same"]
    assert transfers.free({"a", "b", "c", "d"})


def test_a_failure_sets_free():
    transfers = Transfers()
    try:
        with transfers.of({"a"}):
            raise OSError
    except OSError:
        pass
    assert transfers.free({"a"})
