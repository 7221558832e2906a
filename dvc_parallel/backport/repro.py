"""``Repo.reproduce(jobs=..., output=..., load_average=..., runner=..., push=...)``, and
the config.

What DVC takes as ``jobs``, the files that an import or ``pull`` transfers at a time, is
``transfer_jobs`` here.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from dvc.exceptions import InvalidArgumentError

from dvc_parallel.caches import stage_loading
from dvc_parallel.engine import job_count, logger
from dvc_parallel.engine.settings import PUSH_OPTION, checked, parse_switch
from dvc_parallel.engine.terminal import escaping_streams
from dvc_parallel.processes import orphans
from dvc_parallel.remote import choose_runner
from dvc_parallel.reporting import output_settings
from dvc_parallel.scheduling import load
from dvc_parallel.scheduling.resources import JOBSERVER_ENV

from . import seams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.caches.bookkeeping import Bookkeeping
    from dvc_parallel.engine.reporter_events import Reporter
    from dvc_parallel.run.parallel_run import ParallelRun
    from dvc_parallel.run.uploads import Uploads

    # Makes the run of a number of jobs, with parts such as reporters, or None where
    # stages have to run one after the other.
    MakeRun = Callable[..., Optional[ParallelRun]]

KILLING = "killing processes left by an earlier run that was killed: %s"


@dataclass(frozen=True)
class PendingRun:
    """A run that ``Repo.reproduce`` is about to begin.

    Attributes:
        repo: its repo, which is locked.
        runner: where its commands are to run.
    """

    repo: "Repo"
    jobs: int
    runner: str
    _serially: Callable[[], list["Stage"]]
    _make: "MakeRun"

    def side_by_side(self, **parts: Any) -> Optional["ParallelRun"]:
        """The run of several jobs; None where stages run one after another."""
        return self._make(self.jobs, **parts)

    def dry_run(self, books: "Bookkeeping") -> None:
        """Go through the stages as serial DVC does, and run none of them.

        Raises:
            DvcException: this DVC is not as its release was.
        """
        needed = (*seams.IN_RUNS, *seams.IN_DRY_RUNS)
        with seams.required(needed, "plan the run"):
            _keep_books(self.repo, books, self._serially)

    def perform(self, run: "ParallelRun") -> list["Stage"]:
        """Run the stages.

        Raises:
            DvcException: this DVC is not as its release was.
        """
        needed = (*seams.IN_RUNS, *seams.IN_JOBS)
        with seams.required(needed, "run stages in parallel"), escaping_streams():
            return run.run()


@dataclass(frozen=True)
class Options:
    """Our own arguments of ``Repo.reproduce``.

    Attributes:
        jobs: a positive integer, "auto", or None for what the config says.
        output: how the output of stages is shown, or None for what the config says.
        load_average: start nothing while the load is as high, unless nothing runs.
        runner: where commands run, or None for what the environment or config says.
        detach: whether Ctrl-C leaves what can go on without DVC.
        push: whether to upload what stages make, or None for what the config says.
        transfer_jobs: how many files an import or ``pull`` transfers at a time, or None
            for what the config says of the remote.
        instead: called with the :class:`PendingRun` to do something else with it.
    """

    jobs: Union[int, str, None] = None
    output: Optional[str] = None
    load_average: Optional[float] = None
    runner: Optional[str] = None
    detach: bool = False
    push: Optional[bool] = None
    transfer_jobs: Optional[int] = None
    instead: Optional[Callable[[PendingRun], Any]] = None

    @classmethod
    def taken_from(cls, kwargs: dict[str, Any]) -> "Options":
        """Take them out of arguments, so that DVC is left with its own."""
        names = [field.name for field in fields(cls) if field.name in kwargs]
        return cls(**{name: kwargs.pop(name) for name in names})


def reproduce(
    original: Callable, stages: list["Stage"], graph=None, **kwargs
) -> list["Stage"]:
    """``dvc.repo.reproduce._reproduce``: reproduce stages, ``jobs`` at a time.

    Raises:
        InvalidArgumentError: an option has a value that it cannot have.
    """
    options = Options.taken_from(kwargs)

    def make(count: int, **parts) -> Optional["ParallelRun"]:
        # NOTE: a single item has no graph that tells what may run side by side
        if graph is None:
            return None
        from dvc.repo.reproduce import _reproduce_stage

        from dvc_parallel.run.parallel_run import ParallelRun

        parts = {"repro_fn": _reproduce_stage, **kwargs, **parts}
        return ParallelRun(stages, graph, count, **parts)

    serially = partial(original, stages, graph=graph, **kwargs)
    names = "dry", "pull", "no_commit"
    dry, pulls, no_commit = (bool(kwargs.get(name)) for name in names)
    return run_stages(
        options, stages, serially, make, dry=dry, pulls=pulls, no_commit=no_commit
    )


@stage_loading.over()
def run_stages(
    options: Options,
    stages: list["Stage"],
    serially: Callable[..., list["Stage"]],
    make: "MakeRun",
    *,
    dry: bool = False,
    pulls: bool = True,
    no_commit: bool = False,
) -> list["Stage"]:
    """Reproduce stages, as many at a time as is asked for.

    Args:
        serially: does it as DVC does; takes its ``jobs``.
        dry: whether there is nothing to run.
        pulls: whether outputs may be pulled instead of running a stage.
        no_commit: whether outputs do not get into the cache.

    Raises:
        InvalidArgumentError: an option has a value that it cannot have.
        DvcException: this DVC is not as its release was.
    """
    if options.transfer_jobs is not None:
        # NOTE: the name that it has in DVC
        serially = partial(serially, jobs=options.transfer_jobs)
        make = partial(make, jobs=options.transfer_jobs)
    config = stages[0].repo.config["core"] if stages else {}
    jobs, count = _jobs(options, config)
    output, load_average = _output(options, config), _load_average(options)
    if not stages:
        return serially()
    if [stage for stage in stages if stage.meta]:
        from dvc_parallel.run import code_files

        code_files.refresh(stages)
        code_files.track([] if dry else stages)

    name, value = choose_runner.setting(options.runner, config)
    runner = checked(name, choose_runner.parse_runner, value)
    run = PendingRun(stages[0].repo, count, runner, serially, make)
    if options.instead is not None:
        options.instead(run)
        return []
    if not dry:
        # NOTE: lest something writes yet that killed runs have started
        folder = orphans.folder_of(run.repo.tmp_dir)
        orphans.clear(folder, partial(logger.warning, KILLING))
        choose_runner.check_jobs_left(runner, run.repo.tmp_dir, stages)
    if options.detach and runner != choose_runner.SLURM:
        raise InvalidArgumentError(f"detach: needs runner 'slurm', not '{runner}'")
    uploads = None if dry or no_commit else _uploads(run.repo, stages, options, config)
    if runner != choose_runner.LOCAL and not dry:
        return _reproduce_elsewhere(runner, options, jobs, run, output, uploads)
    if count > 1 and not dry:
        run = replace(run, jobs=job_count.make_room(count))
        parallel = run.side_by_side(
            reporters=_reporters(run.repo, output),
            load_average=load_average,
            uploads=uploads,
        )
        if parallel is not None:
            return run.perform(parallel)
    steps = [] if dry else stages
    return _reproduce_serially(run.repo, steps, serially, pulls, uploads)


def _jobs(
    options: Options, config: "Mapping[str, Any]"
) -> tuple[Union[int, str, None], int]:
    """What is asked for, and how many stages at a time that is.

    Raises:
        InvalidArgumentError: it is no number of jobs; so do the following functions.
    """
    jobs = options.jobs
    if jobs is None:
        jobs = config.get(job_count.CONFIG_OPTION)
    return jobs, 1 if jobs is None else checked("jobs", job_count.count_jobs, jobs)


def _output(options: Options, config: "Mapping[str, Any]") -> str:
    output = options.output
    if output is None:
        output = config.get(output_settings.OUTPUT_OPTION, output_settings.AUTO)
    return checked("output", output_settings.parse_output, output)


def _load_average(options: Options) -> Optional[float]:
    if options.load_average is None:
        return None
    return checked("load_average", load.parse_load, options.load_average)


def _uploads(
    repo: "Repo",
    stages: list["Stage"],
    options: Options,
    config: "Mapping[str, Any]",
) -> "Optional[Uploads]":
    """What uploads outputs, if that is asked for.

    Raises:
        DvcException: there is no remote that takes them.
    """
    value = config.get(PUSH_OPTION, False) if options.push is None else options.push
    if not checked("push", parse_switch, value):
        return None
    from dvc_parallel.run.uploads import Uploads

    return Uploads(repo, stages)


def _reporters(repo: "Repo", output: str) -> "list[Reporter]":
    from dvc_parallel.engine.lock_wait import given_away
    from dvc_parallel.reporting import notify
    from dvc_parallel.reporting.choose_reporters import reporters

    limits = output_settings.limits_of(repo.config["core"])
    notifier = None
    if command := notify.command_of(repo):
        free = partial(given_away, repo)
        notifier = partial(notify.Notifier, command, repo, free)
    return reporters(repo.tmp_dir, output, limits, notifier)


def _reproduce_elsewhere(
    name: str,
    options: Options,
    jobs: Union[int, str, None],
    run: PendingRun,
    output: str,
    uploads: "Optional[Uploads]",
) -> list["Stage"]:
    """Reproduce stages with a runner that is not the local one.

    Args:
        name: of the runner.
        jobs: how many at a time; without a number, as many as workers have threads, if
            it has workers.

    Raises:
        InvalidArgumentError: it does not go with other options.
        RunnerError: it cannot be reached, or not be used.
    """
    from dvc_parallel.engine.lock_wait import given_away
    from dvc_parallel.engine.remote_runner import RemoteRunner

    from .clone_carrier import carrier

    if options.load_average is not None:
        raise InvalidArgumentError(
            f"load_average: limits the load of this machine, but runner '{name}' may "
            "run commands on others"
        )
    if os.environ.get(JOBSERVER_ENV) == "1":
        raise InvalidArgumentError(
            f"{JOBSERVER_ENV}: shares the jobs of make on this machine, but runner "
            f"'{name}' may run commands on others"
        )
    repo = run.repo
    count = job_count.parse_jobs(jobs) if jobs is not None else None
    made_for = count if isinstance(count, int) else job_count.available_cpus()
    with ExitStack() as stack:
        # NOTE: it may take hours until there is a worker
        with given_away(repo):
            runner = choose_runner.connect(
                name, repo.root_dir, repo.tmp_dir, made_for, options.detach
            )
            stack.callback(runner.close)
        carry = None
        if not isinstance(runner, RemoteRunner):
            count = job_count.make_room(run.jobs)
        else:
            carry = carrier(runner)
            if not isinstance(count, int):
                count = sum(offer.threads for offer in runner.offers())
        parallel = replace(run, jobs=max(count, 1)).side_by_side(
            reporters=_reporters(repo, output),
            runner=runner,
            carry=carry,
            uploads=uploads,
        )
        if parallel is None:
            raise InvalidArgumentError(
                f"runner '{name}': these stages have to run one at a time on this "
                "machine, as with --single-item; use --runner local"
            )
        return run.perform(parallel)


def _reproduce_serially(
    repo: "Repo",
    stages: list["Stage"],
    reproduce: Callable[[], list["Stage"]],
    pulls: bool,
    uploads: "Optional[Uploads]",
) -> list["Stage"]:
    from dvc_parallel.caches.bookkeeping import Bookkeeping
    from dvc_parallel.engine.ordered_writes import SerialOrder, names_of

    if seams.misfits(seams.IN_RUNS):
        return reproduce()
    books = Bookkeeping(repo.tmp_dir)
    books.pulls = pulls
    names = names_of(stages)
    outs = {out.fs_path: name for name, it in zip(names, stages) for out in it.outs}
    books.order = SerialOrder(repo.tmp_dir, lockfiles=books.lockfiles, outs=outs)
    with seams.installed(seams.IN_RUNS):
        reproduced = _keep_books(repo, books, reproduce)
    if stages:
        books.order.come_to_end(names)
    if uploads is not None:
        for stage in reproduced:
            uploads.add(stage)
        uploads.finish(is_interrupted=False)
    return reproduced


def _keep_books(
    repo: "Repo", books: "Bookkeeping", reproduce: Callable[[], list["Stage"]]
) -> list["Stage"]:
    from dvc_parallel.caches.path_facts import state_kept_open

    with books.in_this_thread(), state_kept_open(repo.state):
        try:
            return reproduce()
        finally:
            books.flush()
