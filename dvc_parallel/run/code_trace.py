"""Whether the file of a stage covers all code that it runs: ``code: {trace: true}``.

The Python processes of its command tell which code of the repo they run.  What the file
does not cover is named in a warning, and kept in ``.dvc/tmp`` until the file is written
the next time: nothing that a stage depends on changes while it runs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dvc.exceptions import DvcException

from dvc_parallel.code import CodeError, trace
from dvc_parallel.engine import logger
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.terminal import plural

from . import site_hook
from .code_files import (
    MOST_BYTES,
    also_of,
    code_file,
    code_of,
    is_in,
    is_traced,
    save_traced,
    trace_name,
)
from .stage_code import Projects

if TYPE_CHECKING:
    from dvc.stage import Stage

# How many definitions are named at most.
MOST_NAMED = 5
UNSEEN = (
    "stage '%s': no Python of its command said which code it ran, so that was not "
    "checked. It may run elsewhere, start Python with -E or -I, or set PYTHONPATH."
)
UNCOVERED = (
    "stage '%s' ran code that '%s' does not cover: %s. The next `dvc repro` covers it, "
    "and runs the stage again; `dvc commit` covers it, and accepts what there is."
)


@contextmanager
def traced(stage: "Stage", kwargs: dict[str, Any]) -> Iterator[None]:
    """Look at the code that the command of a stage runs, if the stage asks for it.

    Args:
        kwargs: of the function that runs it; its ``run_env`` gets more.
    """
    if not is_traced(stage):
        yield
        return
    folder = OwnFolder(stage.repo.tmp_dir, "parallel", "trace")
    name = trace_name(stage) + ".ran"
    try:
        folder.make()
        for module, text in site_hook.sources(trace.__file__).items():
            with folder.replace(module) as output:
                output.write(text)
        with folder.replace(name):
            pass
        begun = os.stat(folder.path_of(name)).st_mtime_ns
    except OSError as exc:
        logger.warning("stage '%s': its code is not traced: %s", stage.addressing, exc)
        yield
        return
    env = dict(kwargs.get("run_env") or {})
    before = env.get("PYTHONPATH", os.environ.get("PYTHONPATH"))
    env.update(site_hook.environment(folder.path, before))
    root = os.path.realpath(stage.repo.root_dir)
    env[trace.VARIABLE] = f"{folder.path_of(name)}\n{root}"
    kwargs["run_env"] = env
    yield
    # NOTE: it has run; whatever is wrong here is no reason to lose that
    try:
        with folder.read(name, MOST_BYTES) as file:
            ran = trace.ran_in(file.read())
        folder.remove(name)
        _check(stage, ran, begun)
    except (DvcException, CodeError, OSError) as exc:
        logger.warning("stage '%s': its code is not checked: %s", stage.addressing, exc)


def _check(stage: "Stage", ran: set[tuple[str, int]], begun: int) -> None:
    """Name and keep what a stage ran and its file does not cover."""
    file = code_file(stage)
    if not ran:
        logger.warning(UNSEEN, stage.addressing)
    elif file is not None:
        found = _uncovered(stage, {it for it in ran if _counts(stage, it[0], begun)})
        if found:
            shown = ", ".join(found[:MOST_NAMED])
            if len(found) > MOST_NAMED:
                shown += f" and {plural(len(found) - MOST_NAMED, 'other')}"
            logger.warning(UNCOVERED, stage.addressing, os.path.relpath(file), shown)
            save_traced(stage, found)


def _counts(stage: "Stage", path: str, begun: int) -> bool:
    """Whether a file that ran is code of the project, and as it was before."""
    folders = os.path.dirname(path).split(os.sep)
    if not {"site-packages", "dist-packages", ".dvc"}.isdisjoint(folders):
        return False
    declared = (
        os.path.realpath(item.fs_path)
        for item in (*stage.deps, *stage.outs)
        if item.protocol == "local"
    )
    with suppress(OSError):
        # NOTE: where a file was written since, lines say nothing
        is_as_it_was = os.stat(path).st_mtime_ns <= begun
        return is_as_it_was and not any(is_in(path, it) for it in declared)
    return False


def _uncovered(stage: "Stage", ran: set[tuple[str, int]]) -> list[str]:
    """Code that a stage ran, and that its file does not cover; as entries of it.

    Raises:
        StageCodeError, CodeError: its code cannot be known.
    """
    projects = Projects(stage.repo)
    found: list[str] = []
    for project, closure in code_of(projects, stage, also_of(projects, stage)):
        ran = {it for it in ran if project.uncovered(closure, [it])}
        found = project.uncovered(closure, ran)
    wdir = os.path.realpath(stage.wdir)
    return [
        os.path.relpath(it, wdir).replace(os.sep, "/") if os.path.isabs(it) else it
        for it in found
    ]
