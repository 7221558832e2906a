import errno
import json
import logging
import os
import re
import shutil
import tracemalloc
from datetime import datetime, timedelta, timezone

import psutil
import pytest
from dvc.exceptions import InvalidArgumentError

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo, Summary
from dvc_parallel.reporting.output_settings import Limits, limits_of, parse_size
from dvc_parallel.reporting.records import reader, writer
from dvc_parallel.reporting.records.log_files import LEAST, StageLogs, end_of, log_name
from dvc_parallel.reporting.records.reader import RUN_ID, RecordError, Runs
from dvc_parallel.reporting.records.writer import KEEP, Recorder, _new_id

RUN = RunInfo(
    [StageInfo("a", seconds=1.5), StageInfo("b", (0,)), StageInfo("c", (), (0,))],
    2,
    "fail",
)
OK = Summary("ok", 2.5, 1.0, {Phase.RAN: 1}, [])


@pytest.fixture
def recorder(tmp_path, clock):
    recorder = Recorder(str(tmp_path), clock)
    recorder.begun(RUN)
    yield recorder
    recorder.close()


def journal(tmp_path):
    (path,) = tmp_path.glob("parallel/runs/*/journal.jsonl")
    return path


def test_ids_are_in_the_order_of_runs_that_begin_in_one_second():
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    ids = [_new_id(moment + timedelta(milliseconds=ms)) for ms in range(1100)]
    assert ids == sorted(ids)
    assert all(RUN_ID.fullmatch(run_id) for run_id in ids)


def test_the_journal(recorder, tmp_path, clock):
    recorder.phase(0, Phase.LOCK)
    clock.now += 1.23456
    recorder.phase(0, Phase.COMMAND, cmd="echo \udcff")
    recorder.phase(0, Phase.RAN)
    recorder.ended(OK)
    recorder.close()
    header, *entries = map(json.loads, journal(tmp_path).read_text().splitlines())

    assert re.fullmatch(r"\d{8}-\d{6}-\w{4}", header["id"])
    assert datetime.fromisoformat(header.pop("started")).tzinfo is not None
    assert header.pop("id") == journal(tmp_path).parent.name
    assert {k: header[k] for k in ("format", "jobs", "on_error", "pid")} == {
        "format": 2,
        "jobs": 2,
        "on_error": "fail",
        "pid": os.getpid(),
    }
    assert header["stages"] == [
        {"name": "a", "upstream": [], "after": [], "seconds": 1.5},
        {"name": "b", "upstream": [0], "after": [], "seconds": None},
        {"name": "c", "upstream": [], "after": [0], "seconds": None},
    ]
    assert entries == [
        {"t": 0.0, "stage": 0, "phase": "lock"},
        {"t": 1.2346, "stage": 0, "phase": "command", "cmd": "echo \udcff"},
        {"t": 1.2346, "stage": 0, "phase": "ran"},
        {"t": 1.2346, "end": "ok", "seconds": 2.5},
    ]


def test_what_passes_soon_is_written_with_what_comes_next(recorder, tmp_path, clock):
    def phases():
        return re.findall(r'"phase": "(\w+)"', journal(tmp_path).read_text())

    assert recorder.due() is None
    recorder.phase(0, Phase.READY)
    recorder.phase(0, Phase.LOCK)
    assert phases() == []
    recorder.phase(0, Phase.COMMAND, cmd="true")
    assert phases() == ["ready", "lock", "command"]
    assert recorder.due() is None
    recorder.phase(1, Phase.LOCK)
    recorder.phase(1, Phase.UNCHANGED)
    recorder.tick()
    assert len(phases()) == 3
    assert recorder.due() == pytest.approx(writer.DELAY)
    clock.now += 2 * writer.DELAY
    assert recorder.due() == 0
    recorder.tick()
    assert phases()[3:] == ["lock", "unchanged"]
    assert recorder.due() is None


def test_reading_it(recorder, tmp_path, clock):
    recorder.phase(1, Phase.READY)
    clock.now += 1
    recorder.phase(1, Phase.CHECK)
    clock.now += 1
    recorder.phase(1, Phase.FAILED, error="why")
    run = Runs(str(tmp_path)).load()
    assert run.goes_on
    assert run.state == "running"
    assert [stage.name for stage in run.stages] == ["a", "b", "c"]
    waiting, failed, _ = run.stages
    assert (waiting.phase, waiting.started, waiting.over) == (None, None, False)
    assert (failed.phase, failed.started, failed.took) == ("failed", 1.0, 1.0)
    assert failed.details == {"error": "why"}

    recorder.ended(OK)
    run = Runs(str(tmp_path)).load()
    assert (run.state, run.now) == ("ok", 2.5)


def test_runs_in_which_no_stage_ran_push_no_others_out(tmp_path):
    def record(outcome, end="ok"):
        recorder = Recorder(str(tmp_path))
        recorder.begun(RUN)
        if outcome is Phase.RAN:
            recorder.phase(0, Phase.COMMAND, cmd="echo")
        recorder.phase(0, outcome)
        recorder.ended(Summary(end, 1.0, 1.0, {outcome: 1}, []))
        recorder.close()
        return recorder.id

    runs = Runs(str(tmp_path))
    ran = record(Phase.RAN)
    for outcome in (Phase.UNCHANGED, Phase.RESTORED) * (KEEP // 2 + 1):
        idle = record(outcome)
        assert runs.load().id == idle
        assert runs.ids() == [ran, idle]
    assert runs.last_at_work().id == ran
    assert runs.last_of("a")[0].id == ran
    assert runs.last_of("b")[0].id == idle
    cut_short = record(Phase.UNCHANGED, "interrupted")
    later = record(Phase.RAN)
    assert runs.ids() == [ran, cut_short, later]


def test_stages_of_a_run_that_was_killed(recorder, tmp_path, mocker):
    """They have an outcome, as those of any run that is over."""
    recorder.phase(1, Phase.READY)
    recorder.phase(0, Phase.COMMAND, cmd="echo")
    run = Runs(str(tmp_path)).load()
    assert not any(stage.over for stage in run.stages)
    mocker.patch.object(reader, "is_alive", return_value=False)
    run.update()
    ends = ["interrupted", "not run", "not run"]
    assert [stage.phase for stage in run.stages] == ends
    run.update()
    assert [len(stage.phases) for stage in run.stages] == [2, 2, 1]


def test_what_a_run_writes_before_it_ends_is_read(recorder, tmp_path, mocker):
    def ends(_header):
        recorder.phase(0, Phase.RAN, seconds=1.0)
        recorder.ended(OK)
        return False

    mocker.patch.object(reader, "is_alive", ends)
    run = Runs(str(tmp_path)).load()
    assert (run.state, run.stages[0].phase) == ("ok", "ran")


def test_a_run_that_was_killed(recorder, tmp_path, mocker):
    assert Runs(str(tmp_path)).load().state == "running"
    process = mocker.patch.object(psutil, "Process")
    # NOTE: another one has got the number of the process
    process.return_value.create_time.return_value = 1e12
    assert Runs(str(tmp_path)).load().state == "killed"
    process.side_effect = psutil.NoSuchProcess(1)
    assert Runs(str(tmp_path)).load().state == "killed"


def test_a_journal_is_read_wherever_it_is_cut_off(recorder, tmp_path):
    recorder.phase(0, Phase.COMMAND, cmd="echo")
    recorder.phase(0, Phase.UNCHANGED)
    recorder.ended(OK)
    path = journal(tmp_path)
    data = path.read_bytes()

    def known(run):
        return len(run.stages[0].phases) + (run.end is not None)

    last = None
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        entries = data[:size].count(b"\n") - 1
        if entries < 0:
            with pytest.raises(RecordError, match="is not a readable journal"):
                reader.read(OwnFolder(str(path.parent)))
        else:
            assert known(reader.read(OwnFolder(str(path.parent)))) == entries
            last = last or reader.read(OwnFolder(str(path.parent)))
            last.update()
            assert known(last) == entries


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b'{"t": 1, "stage": 99, "phase": "done"}\n',
        b'{"t": 1, "stage": -1, "phase": "done"}\n',
        b'{"t": "x", "stage": 0, "phase": "done"}\n',
        b'{"t": 1, "stage": null}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_lines_that_make_no_sense(recorder, tmp_path, line):
    path = journal(tmp_path)
    path.write_bytes(
        path.read_bytes() + line + b'{"t": 2, "stage": 0, "phase": "new", "x": 1}\n'
    )
    run = reader.read(OwnFolder(str(path.parent)))
    assert run.stages[0].phases == [(2.0, "new", {"x": 1})]
    assert not any(stage.phases for stage in run.stages[1:])


def test_no_such_run(tmp_path, recorder):
    with pytest.raises(RecordError, match="no run has been recorded yet"):
        Runs(str(tmp_path / "other")).load()
    (known,) = Runs(str(tmp_path)).ids()
    with pytest.raises(RecordError, match=f"no run 'x'; there are {known}"):
        Runs(str(tmp_path)).load("x")
    assert Runs(str(tmp_path)).load(known[:-1]).id == known
    other = f"{known[:-1]}{'x' if known[-1] != 'x' else 'y'}"
    (tmp_path / "parallel" / "runs" / other).mkdir()
    with pytest.raises(
        RecordError, match=f"'{known[:-1]}' matches more than one run: "
    ):
        Runs(str(tmp_path)).load(known[:-1])
    assert Runs(str(tmp_path)).load(known).id == known


@pytest.mark.parametrize(
    "header", [{}, {"format": 2}, {"format": 3}, {"format": 2, "started": "x"}]
)
def test_what_is_no_journal(tmp_path, header):
    (tmp_path / "journal.jsonl").write_text(json.dumps(header) + "\n")
    with pytest.raises(RecordError, match="is not a readable journal"):
        reader.read(OwnFolder(str(tmp_path)))


@pytest.mark.parametrize(
    "name, known",
    [("tain@svm", "train@svm and 29 more"), ("x", "train@svm, 1, 2, 3, 4, 5, 6, 7, 8")],
)
def test_no_such_stage(tmp_path, name, known):
    stages = [StageInfo("train@svm"), *(StageInfo(str(n)) for n in range(1, 30))]
    recorder = Recorder(str(tmp_path))
    recorder.begun(RunInfo(stages, 2, "fail"))
    recorder.close()
    with pytest.raises(RecordError, match=f"no stage '{name}'; it has {known}"):
        Runs(str(tmp_path)).load().get(name)


def id_of(day, number):
    return f"2000010{day}-0000{number:02}-abcd"


def test_the_last_runs_are_kept_and_those_that_go_on(tmp_path):
    runs = tmp_path / "parallel" / "runs"
    (runs / id_of(0, 0)).mkdir(parents=True)
    going_on = Recorder(str(tmp_path))
    going_on.begun(RUN)
    journal(tmp_path).parent.rename(runs / id_of(1, 0))
    for number in range(KEEP + 3):
        shutil.copytree(runs / id_of(1, 0), runs / id_of(2, number))
        with open(runs / id_of(2, number) / "journal.jsonl", "ab") as fobj:
            fobj.write(b'{"t": 1, "end": "ok"}\n')

    def begin_and_list():
        recorder = Recorder(str(tmp_path))
        recorder.begun(RUN)
        recorder.close()
        return Runs(str(tmp_path)).ids()

    last = [id_of(2, number) for number in range(4, KEEP + 3)]
    ids = [run.folder for run in Runs(str(tmp_path)).all()]
    assert len(ids) == KEEP + 4
    assert begin_and_list()[:-1] == [id_of(1, 0), *last]
    going_on.close()
    assert begin_and_list()[:-2] == last[1:]


def test_a_folder_that_cannot_be_written(tmp_path, mocker):
    log = mocker.patch.object(writer, "log")
    (tmp_path / "parallel").write_text("a file")
    recorder = Recorder(str(tmp_path))
    recorder.begun(RUN)
    recorder.phase(0, Phase.COMMAND, cmd="echo")
    recorder.output(0, "stdout", b"line\n")
    recorder.ended(OK)
    recorder.close()
    assert recorder.log_of(0) is None
    (args,) = [call.args for call in log.call_args_list]
    assert args[0] == logging.WARNING
    assert "/parallel" in args[1] % args[2:]


def fill_disk(monkeypatch, room):
    """From now on, there is room for so many bytes."""
    write = os.write
    left = room

    def write_some(fd, data):
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        size = min(left, len(data))
        left -= size
        return write(fd, data[:size])

    monkeypatch.setattr(os, "write", write_some)


def test_a_disk_that_fills_up(recorder, tmp_path, monkeypatch, mocker):
    log = mocker.patch.object(writer, "log")
    fill_disk(monkeypatch, 10)
    for _ in range(3):
        recorder.phase(0, Phase.COMMAND, cmd="echo")
        recorder.output(0, "stdout", b"line\n")
    monkeypatch.undo()
    recorder.phase(0, Phase.RAN)
    run = Runs(str(tmp_path)).load()
    assert not run.stages[0].phases
    assert not recorder.logs.is_whole(0)
    (args,) = [call.args for call in log.call_args_list]
    assert args[1] % args[2:] == (
        "cannot record this run: [Errno 28] No space left on device: "
        f"'{journal(tmp_path)}'"
    )


def test_a_write_that_is_cut_short(recorder, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    recorder.phase(0, Phase.COMMAND, cmd="echo")
    monkeypatch.undo()
    recorder.phase(0, Phase.RAN)
    run = Runs(str(tmp_path)).load()
    assert [phase for _, phase, _ in run.stages[0].phases] == ["command", "ran"]


@pytest.fixture
def logs(tmp_path):
    logs = StageLogs(OwnFolder(str(tmp_path)), ["a", "b"], on_error=pytest.fail)
    yield logs
    logs.close_all()


def test_a_log_is_what_was_printed(logs):
    logs.command(0, "one")
    logs.output(0, b"no end")
    logs.command(0, "two \udcff")
    logs.output(0, b"1%\r")
    logs.output(0, b"\xff2%\n")
    logs.close(0)
    logs.output(0, b"left behind")
    with open(logs.path(0), "rb") as fobj:
        assert fobj.read() == b"> one\nno end\n> two \xff\n1%\r\xff2%\nleft behind"


def test_a_stage_that_prints_nothing_has_no_log(logs, tmp_path):
    logs.command(0, "one")
    logs.close_all()
    assert not list(tmp_path.iterdir())
    assert logs.commands(0) == b"> one\n"
    assert logs.commands(1) == b""


def test_much_output_is_not_kept_in_memory(logs):
    piece = b"x" * 2**20
    tracemalloc.start()
    for _ in range(20):
        logs.output(0, piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert os.path.getsize(logs.path(0)) == 20 * len(piece)
    assert peak < len(piece)


@pytest.mark.parametrize(
    "name, file",
    [
        ("train@svm", "0003-train@svm.log"),
        ("sub/dvc.yaml:a b", "0003-sub_dvc.yaml_a_b.log"),
        ("größe", "0003-gr__e.log"),
        ("x" * 300, f"0003-{'x' * 100}.log"),
    ],
)
def test_names_of_logs(name, file):
    assert log_name(3, name) == file


def shown(logs, stage=0):
    return b"".join(logs.reader(stage).new())


def many_lines(count, start=0):
    return b"".join(b"%09d\n" % number for number in range(start, start + count))


@pytest.mark.parametrize("piece", [1, 37, 5000])
def test_of_too_much_output_the_first_and_the_last_are_kept(tmp_path, piece):
    limit = 40_000
    limits = Limits(log=limit)
    logs = StageLogs(OwnFolder(str(tmp_path)), ["a", "b"], pytest.fail, limits)
    reader = logs.reader(0)
    followed = b""
    for start in range(0, 20_000, piece):
        logs.output(0, many_lines(min(piece, 20_000 - start), start))
        if start % (piece * 10) == 0:
            followed += b"".join(reader.new())
    logs.close_all()
    followed += b"".join(reader.new())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    text = shown(logs)
    assert re.search(rb"\n\[1\d\d KiB omitted: see core.parallel_log", text)
    first, last = text.partition(b"[")[0], text.rpartition(b"]\n")[2]
    assert len(first) >= limit // 2 - 10
    assert many_lines(len(first) // 10) == first
    assert len(last) >= limit // 4 - 10
    assert many_lines(len(last) // 10, 20_000 - len(last) // 10) == last
    assert followed.startswith(first)
    assert followed.endswith(many_lines(100, 19_900))
    end = end_of(OwnFolder(str(tmp_path)), log_name(0, "a"), 9000)
    assert end == many_lines(900, 19_100)


def test_a_line_without_end_is_limited_too(tmp_path):
    limits = Limits(log=10_000)
    logs = StageLogs(OwnFolder(str(tmp_path)), ["a"], pytest.fail, limits)
    for _ in range(100):
        logs.output(0, b"x" * 1000)
    logs.close_all()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert b"x\n[" in shown(logs)


def test_stages_share_what_all_runs_may_have(tmp_path):
    """However much some print, a little of each is kept."""
    limits = Limits(log=2**20, runs=2**20)
    logs = StageLogs(OwnFolder(str(tmp_path)), list("abc"), pytest.fail, limits)
    for stage in range(3):
        for start in range(0, 300_000, 10_000):
            logs.output(stage, many_lines(10_000, start))
    logs.close_all()
    sizes = [len(shown(logs, stage)) for stage in range(3)]
    assert sum(sizes) <= 2**20 + 6 * LEAST
    assert sizes[2] > LEAST
    assert shown(logs, 2).endswith(many_lines(1000, 299_000))


def test_a_limit_that_is_not_reached_changes_nothing(logs, tmp_path):
    logs.output(0, many_lines(100_000))
    assert shown(logs) == many_lines(100_000)
    assert [path.name for path in tmp_path.iterdir()] == [log_name(0, "a")]


def test_the_oldest_runs_go_where_all_are_too_large(tmp_path):
    ends = ["failed", "failed", "ok", "ok"]

    def one(end):
        recorder = Recorder(str(tmp_path), limits=Limits(runs=100_000))
        recorder.begun(RUN)
        recorder.output(0, "stdout", b"x" * 32_000)
        recorder.ended(Summary(end, 1.0, 1.0, {Phase.RAN: 1}, []))
        recorder.close()
        return recorder.id

    runs = Runs(str(tmp_path))
    ids = []
    for end in ends:
        ids.append(one(end))
        # NOTE: those of one second are in no order
        folder = tmp_path / "parallel" / "runs"
        new = f"2000010{len(ids)}-000000-abcd"
        (folder / ids[-1]).rename(folder / new)
        ids[-1] = new
    assert one("ok") == runs.ids()[-1]
    assert runs.ids()[:-1] == [ids[1], ids[3]]  # the last failure, and the last one


@pytest.mark.parametrize(
    "text, size",
    [
        ("500", 500),
        (" 64M", 64 * 2**20),
        ("1 GiB", 2**30),
        ("2kb", 2048),
        ("Unlimited", None),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "many", "1 PB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected a size such as '64M'"):
        parse_size(text)


def test_the_environment_wins_over_the_config(monkeypatch):
    assert limits_of({}) == Limits(64 * 2**20, 2**30)
    assert limits_of({"parallel_log_size": "1M"}) == Limits(2**20, 2**30)
    monkeypatch.setenv("DVC_PARALLEL_LOG_SIZE", "2M")
    monkeypatch.setenv("DVC_PARALLEL_RUNS_SIZE", "x")
    with pytest.raises(
        InvalidArgumentError, match="DVC_PARALLEL_RUNS_SIZE: expected a size"
    ):
        limits_of({"parallel_log_size": "1M"})
    monkeypatch.setenv("DVC_PARALLEL_RUNS_SIZE", "unlimited")
    assert limits_of({"parallel_log_size": "1M"}) == Limits(2**21, None)


@pytest.mark.parametrize("text", [None, "", '{"format": 2, "id": "2'])
def test_a_run_that_was_killed_before_its_journal_is_passed_over(
    recorder, tmp_path, text
):
    (known,) = Runs(str(tmp_path)).ids()
    folder = tmp_path / "parallel" / "runs" / "99991231-000000-abcd"
    (folder / "logs").mkdir(parents=True)
    if text is not None:
        (folder / "journal.jsonl").write_text(text)
    runs = Runs(str(tmp_path))
    assert runs.load().id == known
    assert [run.id for run in runs.all()] == [known]
    with pytest.raises(RecordError, match="9999"):
        runs.load("9999")
    shutil.rmtree(tmp_path / "parallel" / "runs" / known)
    with pytest.raises(RecordError, match="9999"):
        runs.load()
