"""Both ends of what coordinator and worker have to do with each other, without Dask."""

import asyncio
import queue
import sys
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("msgpack", reason="needs the extra dvc-parallel[dask]")

from dvc_parallel.engine.runner import (
    ANYWHERE,
    Command,
    CommandLostError,
    RunnerClosedError,
)
from dvc_parallel.engine.usage import USAGE, usage_of
from dvc_parallel.processes.watchdog import uptime
from dvc_parallel.remote import dask
from dvc_parallel.remote.dask.channel import Begun, Channel, Task
from dvc_parallel.remote.dask.protocol import (
    Announcement,
    Ended,
    Printed,
    Request,
    Terms,
    result_of,
)
from dvc_parallel.remote.dask.session import Session, SessionOverError
from tests import HANGS, is_alive, wait_until

if sys.platform != "linux":
    pytest.skip("workers are on Linux", allow_module_level=True)

WINDOW = 1000


class Net:
    """A session and its channel, with what is between them."""

    def __init__(self, lease=60.0, hold=0.2):
        self.terms = Terms("run", lease, hold, WINDOW, ("", ""), {})
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.wanted = True
        self.vouched = 0
        self.is_asleep = False  # whether the coordinator is
        self.session = Session(self.terms, self.loop, lambda _: self.wanted, self.vouch)
        self.signals = []
        self.announced = threading.Event()
        self.is_down = self.repeats = False
        self.repeated = ()
        self.lose_requests = self.lose_replies = lambda: False
        announcement = Announcement("run", "one", self.session.id, "tcp://w", "w")
        self.channel = self.call(self.make_channel, announcement)
        self.talk = None

    async def ask(self, _address, request):
        if self.is_down or self.is_asleep or self.lose_requests():
            raise OSError
        reply = await self.session.exchange(request)
        if self.is_down or self.lose_replies():
            raise OSError
        if self.repeats:
            self.repeated, news = reply.news, self.repeated + reply.news
            reply = replace(reply, news=news)
        return reply

    async def vouch(self, session):
        assert session == self.session.id
        if self.is_down:
            raise OSError
        self.vouched += 1

    async def last_word(self, session):
        if self.is_asleep:
            raise OSError
        return self.vouched

    async def make_channel(self, announcement):
        return Channel(announcement, self.terms, self.signals, self.ask, self.last_word)

    def call(self, function, *args):
        return asyncio.run_coroutine_threadsafe(function(*args), self.loop).result(
            HANGS
        )

    def start(self, work, key="one"):
        """Have the session do some work; return the task, as it is waited for."""
        task = Task(work, ANYWHERE)
        self.errors = queue.SimpleQueue()

        def perform():
            try:
                self.session.perform(key, work, self.announced.set)
            except SessionOverError as exc:
                self.errors.put(exc)
            else:
                self.errors.put(None)

        self.worker = threading.Thread(target=perform)
        self.worker.start()
        assert self.announced.wait(HANGS)
        self.announced.clear()
        return task

    def permit(self, task, key="one"):
        async def permit():  # noqa: RUF029
            self.channel.permit(key, task)
            if self.talk is None:
                self.talk = asyncio.ensure_future(self.channel.talk())

        self.call(permit)

    def read(self, task):
        """What a task prints, until its end; and its last news."""
        printed = []
        while True:
            news = task.inbox.get(timeout=HANGS)
            if isinstance(news, Printed):
                printed.append((news.stream, news.data))
                self.channel.consumed(task, news)
                self.loop.call_soon_threadsafe(self.channel.tell)
            elif not isinstance(news, Begun):
                return printed, news

    def close(self):
        self.session._end("test")
        wait_until(lambda: self.session._over)

        async def finish():
            self.channel.lose("test")
            if self.talk:
                await self.talk

        self.call(finish)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def make_net(monkeypatch):
    monkeypatch.setattr(dask.channel, "PAUSE", 0.01)
    nets = []

    def make(**kwargs):
        nets.append(Net(**kwargs))
        return nets[-1]

    yield make
    for net in nets:
        net.close()


def counter(every):
    """Tells each time whether it is one of so many."""
    count = 0

    def lose():
        nonlocal count
        count += 1
        return count % every == 0

    return lose


CHUNKS = [(("stdout", "stderr")[n % 3 == 0], b"%d" % n * 50) for n in range(200)]


def chatter(output, runner):
    for chunk in CHUNKS:
        output(*chunk)
    return 7


@pytest.mark.parametrize("requests, replies", [(10**6, 10**6), (3, 10**6), (10**6, 3)])
def test_output_comes_whole_and_in_order(make_net, requests, replies):
    net = make_net()
    net.lose_requests, net.lose_replies = counter(requests), counter(replies)
    task = net.start(chatter)
    net.permit(task)
    printed, end = net.read(task)
    assert printed == CHUNKS
    assert result_of(end) == 7
    # NOTE: the task ends once the coordinator has got all of it
    assert net.errors.get(timeout=HANGS) is None


def test_what_comes_twice_counts_once(make_net):
    net = make_net()
    net.repeats = True
    task = net.start(chatter)
    net.permit(task)
    printed, end = net.read(task)
    assert printed == CHUNKS
    assert result_of(end) == 7


def test_errors_come_as_they_are(make_net):
    net = make_net()

    def fail(output, runner):
        raise FileNotFoundError(2, "no such file", "python4")

    task = net.start(fail)
    net.permit(task)
    _, end = net.read(task)
    with pytest.raises(FileNotFoundError, match="python4"):
        result_of(end)


def test_what_is_no_plain_data_is_told_in_words(make_net):
    net = make_net()
    task = net.start(lambda *_: threading.Lock())
    net.permit(task)
    _, end = net.read(task)
    with pytest.raises(RuntimeError, match="lock"):
        result_of(end)


def test_nothing_runs_without_permission(make_net):
    net = make_net()
    done = []
    net.start(lambda *_: done.append(1))
    net.wanted = False
    assert "no longer wanted" in str(net.errors.get(timeout=HANGS))
    assert not done


def request(net, received=0, consumed=0, heard=0):
    return Request(
        net.session.id,
        heard,
        received,
        frozenset(["one"]),
        {"one": consumed},
        (),
        False,
    )


def test_who_prints_much_has_to_wait(make_net):
    net = make_net(hold=0.1)
    net.start(chatter)
    news = []

    def exchange(consumed):
        received = news[-1][0] if news else 0
        reply = net.call(net.session.exchange, request(net, received, consumed))
        news.extend(reply.news)
        return bool(reply.news)

    def total():
        return sum(len(item.data) for _, item in news if isinstance(item, Printed))

    while exchange(0):
        pass
    longest = max(len(data) for _, data in CHUNKS)
    assert WINDOW < total() <= WINDOW + longest
    while not isinstance(news[-1][1], Ended):
        exchange(total())
    assert [(item.stream, item.data) for _, item in news[:-1]] == CHUNKS


def test_a_newer_request_releases_an_older_one(make_net):
    net = make_net(hold=60)

    async def both():
        older = asyncio.ensure_future(net.session.exchange(request(net)))
        await asyncio.sleep(0)
        newer = asyncio.ensure_future(net.session.exchange(request(net)))
        reply = await asyncio.wait_for(older, HANGS)
        assert not newer.done()
        newer.cancel()
        return reply

    assert net.call(both).news == ()


WAITS = "trap 'echo got it; exit 3' INT; echo begun; while :; do sleep 0.05; done"


def command(output, runner):
    return runner.run(Command(["/bin/sh", "-c", WAITS]), output)


def wait_for_output(net, task):
    assert isinstance(task.inbox.get(timeout=HANGS), Begun)
    assert task.inbox.get(timeout=HANGS).data == b"begun\n"


def test_signals_come_once_though_requests_come_again(make_net):
    net = make_net()
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    sent = []
    signal, net.session._runner.signal = net.session._runner.signal, sent.append
    net.signals.append(2)
    net.lose_replies = counter(2)
    net.loop.call_soon_threadsafe(net.channel.tell)

    def has_sent():
        net.loop.call_soon_threadsafe(net.channel.tell)
        return net.channel._heard >= 4 and sent

    wait_until(has_sent)
    assert sent == [2]
    signal(2)
    printed, ended = net.read(task)
    said, (stream, used) = printed
    assert said == ("stdout", b"got it\n")
    assert stream == USAGE
    assert usage_of(used).seconds > 0
    assert result_of(ended) == 3


def test_a_signal_before_the_first_command(make_net, tmp_path):
    """Nobody waits until all data is there for a command that may not run."""
    net = make_net()
    has_data = threading.Event()
    errors = queue.SimpleQueue()

    def get_data_and_run(output, runner):
        output("command", b"touch ran")
        has_data.wait(HANGS)
        output("stdout", b"x" * 2 * WINDOW)
        output("stdout", b"x")
        try:
            runner.run(Command(["touch", str(tmp_path / "ran")]), output)
        except RunnerClosedError as exc:
            errors.put(exc)
            raise

    task = net.start(get_data_and_run)
    net.permit(task)
    assert isinstance(task.inbox.get(timeout=HANGS), Begun)
    assert task.inbox.get(timeout=HANGS).data == b"touch ran"
    net.signals.append(2)
    net.loop.call_soon_threadsafe(net.channel.tell)
    _, end = net.read(task)
    with pytest.raises(RunnerClosedError):
        result_of(end)
    assert not has_data.is_set()
    has_data.set()
    assert errors.get(timeout=HANGS)
    assert net.errors.get(timeout=HANGS) is None
    assert not (tmp_path / "ran").exists()


def test_a_signal_after_the_last_command(make_net):
    """What commands have made is kept, as without a cluster."""
    net = make_net()
    is_saved = threading.Event()

    def run_and_save(output, runner):
        status = runner.run(Command(["true"]), output)
        output("stdout", b"done\n")
        is_saved.wait(HANGS)
        return status

    task = net.start(run_and_save)
    net.permit(task)
    assert isinstance(task.inbox.get(timeout=HANGS), Begun)
    assert task.inbox.get(timeout=HANGS).stream == USAGE
    assert task.inbox.get(timeout=HANGS).data == b"done\n"
    net.signals.append(2)
    net.loop.call_soon_threadsafe(net.channel.tell)
    replies = net.channel._heard

    def was_told():
        net.loop.call_soon_threadsafe(net.channel.tell)
        return net.channel._heard >= replies + 2

    wait_until(was_told)
    is_saved.set()
    assert result_of(net.read(task)[1]) == 0


def test_commands_end_when_the_coordinator_is_silent(make_net):
    net = make_net(lease=3.0)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    (pid,) = net.session._runner._running
    net.is_down = True
    heard = net.channel._heard_at
    _, lost = net.read(task)
    assert isinstance(lost, CommandLostError)
    assert "worker 'w' was lost" in str(lost)
    # NOTE: not before all that runs there has been killed
    assert time.monotonic() >= heard + 3.0
    assert not is_alive(pid)
    assert "has not answered" in str(net.errors.get(timeout=HANGS))


@pytest.fixture
def _looks_often(monkeypatch):
    monkeypatch.setattr(dask.session, "LOOK", 0.05)


@pytest.mark.usefixtures("_looks_often")
def test_they_go_on_while_the_coordinator_sleeps(make_net):
    """It cannot be heard then, but could reach the session."""
    net = make_net(lease=1.5, hold=0.05)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    slept = net.session._lease_end
    net.is_asleep = True
    wait_until(lambda: net.session._lease_end > slept + 1.5)
    # NOTE: as of a clock that went on while it slept
    net.channel._heard_at -= 100
    net.is_asleep = False
    heard = net.channel._heard
    wait_until(lambda: net.channel._heard > heard or net.channel.over)
    assert net.channel.over is None
    net.signals.append(9)
    net.loop.call_soon_threadsafe(net.channel.tell)
    assert result_of(net.read(task)[1]) == -9


@pytest.mark.usefixtures("_looks_often")
def test_nobody_vouches_for_a_task_that_dask_has_given_up(make_net):
    """As it does when DVC is dead; its commands end with the lease at the latest."""
    net = make_net(lease=1.5, hold=0.05)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    net.is_asleep = True
    wait_until(lambda: net.vouched)
    net.wanted = False
    (pid,) = net.session._runner._running
    wait_until(lambda: not is_alive(pid))
    assert net.session._ending == "DVC has not answered for too long"


def test_commands_end_with_a_worker_that_has_closed_its_loop(make_net, monkeypatch):
    net = make_net()
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    (pid,) = net.session._runner._running
    closed = asyncio.new_event_loop()
    closed.close()
    with monkeypatch.context() as context:
        context.setattr(net.session, "_loop", closed)
        net.session._end("test")
    assert not is_alive(pid)


@pytest.mark.usefixtures("_looks_often")
def test_what_dask_has_given_up_goes_on_if_the_coordinator_comes_back(make_net):
    net = make_net(lease=30.0, hold=0.05)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    net.is_asleep = True
    # NOTE: for longer than one that is about to end is silent
    wait_until(lambda: uptime() - net.session._heard_at > 0.3)
    net.wanted = False
    wait_until(lambda: net.session._kept)
    net.is_asleep = False
    heard = net.channel._heard
    wait_until(lambda: net.channel._heard > heard + 2)
    net.signals.append(9)
    net.loop.call_soon_threadsafe(net.channel.tell)
    assert result_of(net.read(task)[1]) == -9


def test_a_lease_goes_on_while_the_machine_of_the_worker_sleeps(make_net, monkeypatch):
    """Others may have begun anew by then what ran there."""
    net = make_net(lease=60.0)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    (pid,) = net.session._runner._running
    clock = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock_id: clock(clock_id) + 100)
    wait_until(lambda: not is_alive(pid))
    assert net.session.is_over


def test_they_go_on_while_it_is_heard(make_net):
    net = make_net(hold=0.05)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    replies, lease_end = net.channel._heard, net.session._lease_end
    wait_until(lambda: net.channel._heard >= replies + 3)
    assert net.session._lease_end > lease_end
    # NOTE: that is the one who kills, and is told of it
    assert net.session._supervisor._lease_end > lease_end
    net.signals.append(9)
    net.loop.call_soon_threadsafe(net.channel.tell)
    assert result_of(net.read(task)[1]) == -9


def test_a_session_ends_when_dask_wants_none_of_its_tasks(make_net):
    net = make_net(hold=60)
    task = net.start(command)
    net.permit(task)
    wait_for_output(net, task)
    net.wanted = False
    _, lost = net.read(task)
    assert "Dask has lost DVC" in str(lost)
    assert net.errors.get(timeout=HANGS)


def test_tasks_that_come_and_go_are_wanted_one_by_one(make_net, monkeypatch):
    monkeypatch.setattr(dask.session, "LOOK", 0.05)
    net = make_net()
    running = set()
    net.session._is_wanted = running.__contains__
    for number in range(20):
        key = str(number)
        running.add(key)
        task = net.start(lambda *_: time.sleep(0.06), key)
        net.permit(task, key)
        assert result_of(net.read(task)[1]) is None
        assert net.errors.get(timeout=HANGS) is None
        running.remove(key)
    assert not net.session.is_over


def test_closing_ends_what_is_left_in_the_background(make_net):
    net = make_net()

    def leave(output, runner):
        return runner.run(Command(["/bin/sh", "-c", "sleep 300 & echo $!"]), output)

    task = net.start(leave)
    net.permit(task)
    printed, end = net.read(task)
    assert result_of(end) == 0
    net.loop.call_soon_threadsafe(net.channel.close)

    async def over():
        await asyncio.wait_for(net.talk, HANGS)

    net.call(over)
    pid = int(printed[0][1])
    assert not is_alive(pid)
