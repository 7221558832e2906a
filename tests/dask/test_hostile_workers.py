"""Workers that somebody else has taken over: they say what they like, but run nothing
where DVC runs."""

import os
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import msgpack
import pytest
from distributed import protocol
from distributed.protocol import Serialized, ToPickle

from dvc_parallel.remote.dask.connection import refuse_pickles, text_of
from dvc_parallel.remote.dask.fitness import Failed, _answer_of
from tests.support.project import finish

# What it makes runs in each process that unpickles it, and is the same there.
EVIL = """
    import os, pathlib
    pathlib.Path({folder!r}, str(os.getpid())).touch()
    class Evil(Exception):
        def __reduce__(self):
            scope = {{"scope": {{"code": code}}}}
            return eval, ("(exec(scope['code'], scope), scope['Evil']())[1]", scope)
"""

HOSTILE = """
    import pathlib
    from distributed.protocol import to_serialize
    from dvc_parallel.remote.dask import dask_worker, protocol

    code = pathlib.Path({evil!r}).read_text()
    exec(code)
    perform = dask_worker.perform

    def returns(*args):
        perform(*args)
        return Evil()

    def raises(*args):
        raise Evil()

    def says(**kwargs):
        return {{"status": "OK", "result": to_serialize(Evil())}}

    def replies(request):
        return to_serialize(Evil())

    def dask_setup(worker):
        if {kind!r} == "returns":
            dask_worker.perform = returns
        elif {kind!r} == "raises":
            dask_worker.perform = raises
        elif {kind!r} == "says":
            worker.handlers["run"] = says
        else:
            worker.handlers[protocol.EXCHANGE] = replies
"""
slow = pytest.mark.skipif(
    not os.environ.get("DVC_PARALLEL_DASK"),
    reason="takes long; set DVC_PARALLEL_DASK=1",
)


@pytest.fixture
def evil(tmp_path):
    """Code of an exception, and the folder where it leaves the IDs of processes."""
    folder = tmp_path / "ran"
    folder.mkdir()
    path = tmp_path / "evil.py"
    path.write_text(dedent(EVIL).format(folder=str(folder)))
    return path, folder


@pytest.mark.parametrize(
    "kind, says",
    [
        ("returns", ""),
        pytest.param("raises", "Dask cannot run a command: ", marks=slow),
        pytest.param("says", "cannot report its version of dvc", marks=slow),
        pytest.param("replies", "was lost: it has not answered", marks=slow),
    ],
)
def test_nothing_that_they_send_is_unpickled(
    make_cluster, make_project, monkeypatch, tmp_path, evil, kind, says
):
    code, folder = evil
    preload = tmp_path / "hostile.py"
    preload.write_text(dedent(HOSTILE).format(evil=str(code), kind=kind))
    monkeypatch.setenv("DASK_DVC_PARALLEL__LEASE", "1s")
    cluster = make_cluster()
    cluster.start_worker("a", "--preload", str(preload))
    cluster.wait_for_workers(1)
    project = make_project(dvc_yaml="stages: {one: {cmd: echo 1 > one, outs: [one]}}")
    run = project.start("repro", "-j", 2, "--runner", cluster.runner)
    output = finish(run)
    assert run.returncode == (255 if says else 0), output
    assert says in output
    ran_in = {int(path.name) for path in folder.iterdir()}
    assert cluster.processes["a"].pid in ran_in
    assert run.pid not in ran_in


def evil_exception(evil):
    code, folder = evil
    scope = {"code": code.read_text()}
    exec(scope["code"], scope)
    for path in folder.iterdir():
        path.unlink()
    return scope["Evil"]()


def test_a_thread_that_unpickles_nothing(evil):
    """What Dask has for pickles of its own is read by whoever gets the message."""
    frames = protocol.dumps({"x": ToPickle(evil_exception(evil))})

    def read():
        refuse_pickles()
        with pytest.raises(Exception, match="DVC unpickles nothing"):
            protocol.loads(frames, deserialize=False)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read).result()
    assert not [*evil[1].iterdir()]
    protocol.loads(frames, deserialize=False)
    assert [*evil[1].iterdir()]


def test_what_an_exception_says_is_read_without_it(evil):
    pickled = protocol.pickle.dumps(evil_exception(evil))
    assert "Evil" in text_of(Serialized({}, [pickled]))
    assert not [*evil[1].iterdir()]
    assert "KilledWorker" in text_of(
        Serialized({}, [protocol.pickle.dumps(KeyError("KilledWorker"))])
    )
    assert text_of(None) == text_of(Serialized({}, [b"\x80garbage"])) == "unknown"


@pytest.mark.parametrize(
    "reply, text",
    [
        (None, "TypeError"),
        ({"status": "error"}, "KeyError"),
        ({"status": "error", "exception_text": "OSError(2)"}, "OSError"),
        ({"status": "OK", "result": 3}, "AttributeError"),
        ({"status": "OK", "result": Serialized({"serializer": "pickle"}, [])}, "not a"),
        (
            {
                "status": "OK",
                "result": Serialized({"serializer": "msgpack"}, [msgpack.packb([1])]),
            },
            "not a text",
        ),
    ],
)
def test_answers_are_texts(reply, text):
    answer = _answer_of(reply)
    assert isinstance(answer, Failed)
    assert text in answer.text
