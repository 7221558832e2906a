"""What the upstream series consists of: the one place to change for another layout.

Each patch takes modules and tests of dvc-parallel over as they are, but for their names
(:mod:`patches.source`), and edits files of DVC (``parts/``).
"""

from dataclasses import dataclass

BASE = "3.67.1"


@dataclass(frozen=True)
class Copy:
    """A file of the plugin, taken over into DVC.

    Attributes:
        source: path in this repository.
        target: path in DVC's.
        without: names of what DVC has no use for: "function", "Class.method".
        replace: pairs of texts, each of which is there exactly once: what a module of
            DVC would say, and in another way.
    """

    source: str
    target: str
    without: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()

    @property
    def module(self) -> str:
        return _module(self.source)

    @property
    def new_module(self) -> str:
        return _module(self.target)


@dataclass(frozen=True)
class Part:
    """One patch."""

    number: int
    name: str
    copies: tuple[Copy, ...]


def _module(path: str) -> str:
    return path[: -len(".py")].replace("/", ".").removesuffix(".__init__")


# In all files: a module of DVC does not speak of DVC as of another program.
WORDS = (("serial DVC", "a serial run"), ("Serial DVC", "A serial run"))

LOGGER = (
    """\
# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")
""",
    "logger = logger.getChild(__name__)\n",
)

NEW_LOCKFILE = (
    Copy("dvc_parallel/atomic.py", "dvc/utils/atomic.py"),
    Copy("dvc_parallel/lockfile_text.py", "dvc/stage/lockfile_text.py"),
    Copy("dvc_parallel/lockfile.py", "dvc/stage/lockfile.py"),
    Copy("tests/unit/test_atomic.py", "tests/unit/utils/test_atomic.py"),
    Copy(
        "tests/unit/test_lockfile_text.py",
        "tests/unit/stage/test_lockfile_text.py",
        without=("test_dvc_put",),
    ),
)

NEW_PATH_LOCKS = (
    Copy(
        "dvc_parallel/path_locks.py",
        "dvc/path_locks.py",
        replace=(LOGGER, ("import logging\n", "from dvc.log import logger\n")),
    ),
    Copy("tests/unit/test_path_locks.py", "tests/unit/test_path_locks.py"),
)

NEW_REPO_LOCK = (
    Copy(
        "dvc_parallel/repo_lock.py",
        "dvc/repo/shared_lock.py",
        replace=(LOGGER, ("import logging\n", "from dvc.log import logger\n")),
    ),
    Copy("tests/unit/test_repo_lock.py", "tests/unit/repo/test_shared_lock.py"),
)

NEW_EXECUTOR = (
    Copy(
        "dvc_parallel/jobs.py",
        "dvc/utils/jobs.py",
        without=("CONFIG_OPTION", "add_argument", "_jobs_type"),
    ),
    *(
        Copy(f"dvc_parallel/{name}.py", f"dvc/repo/parallel/{name}.py")
        for name in (
            "plan",
            "job",
            "messages",
            "outcome",
            "serial_order",
            "workers",
            "reporters/__init__",
            "reporters/terminal",
            "runners/__init__",
            "runners/local",
            "runners/pipes",
        )
    ),
    Copy(
        "dvc_parallel/run_info.py",
        "dvc/repo/parallel/run_info.py",
        replace=(
            ("make: Callable[..., Plan] = Plan, ", ""),
            ("    return make(\n", "    return Plan(\n"),
        ),
    ),
    Copy("dvc_parallel/order.py", "dvc/repo/parallel/order.py", without=("overlaps",)),
    Copy(
        "dvc_parallel/signals.py",
        "dvc/repo/parallel/signals.py",
        without=("before_death",),
    ),
    Copy(
        "dvc_parallel/executor.py",
        "dvc/repo/parallel/executor.py",
        without=(
            "ParallelExecutor._known_seconds",
            "ParallelExecutor._look_again",
            "ParallelExecutor._obstacle",
        ),
        replace=(
            (", **self._obstacle(rank))", ")"),
            (
                """\
            else:
                self._carry_out(self._look_again(), workers)
""",
                "",
            ),
            (
                "describe(steps, graph, self._known_seconds())",
                "describe(steps, graph)",
            ),
        ),
    ),
    Copy(
        "dvc_parallel/reporters/interface.py",
        "dvc/repo/parallel/reporters/interface.py",
        replace=(
            LOGGER,
            ("import logging\n", "from dvc.log import logger\n"),
            (
                """\
    RETRY = "retry"  # owns the repo before its commands are tried again
""",
                "",
            ),
            (
                """\
    QUEUED = "queued"  # waits for a worker
""",
                "",
            ),
            (
                """\
                "pool": which one a stage that is ready waits for, if it does.
                "attempt": which one a retry is; its "error" is why.
                "worker": the name of the one that runs a command, if it is one.
""",
                "",
            ),
            (", or for paths that others use\n", "\n"),
        ),
        without=("Reporter.waiting_for_paths", "Reporters.waiting_for_paths"),
    ),
    Copy(
        "dvc_parallel/reporters/plain.py",
        "dvc/repo/parallel/reporters/plain.py",
        without=(
            "RETRYING",
            "PlainReporter._retry",
            "PlainReporter.waiting_for_paths",
        ),
        replace=(
            (
                """\
        elif phase is Phase.RETRY:
            self._retry(stage, **details)
""",
                "",
            ),
        ),
    ),
    Copy("tests/unit/test_jobs.py", "tests/unit/utils/test_jobs.py"),
    *(
        Copy(f"tests/unit/{name}.py", f"tests/unit/repo/parallel/{name}.py")
        for name in (
            "__init__",
            "simulation",
            "test_local_runner",
            "test_plan",
            "test_plain_reporter",
            "test_serial_order",
            "test_terminal",
            "test_workers",
        )
    ),
)

SERIES = (
    Part(1, "lockfile", NEW_LOCKFILE),
    Part(2, "path-locks", NEW_PATH_LOCKS),
    Part(3, "repo-lock", NEW_REPO_LOCK),
    Part(4, "parallel-executor", NEW_EXECUTOR),
)
