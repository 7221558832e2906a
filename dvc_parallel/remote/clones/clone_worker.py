"""The worker's part: it runs the commands of a stage in a clone of the repo."""

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from dvc.config import Config
from dvc.dvcfile import load_file
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.loader import SingleStageLoader, StageLoader
from dvc.stage.run import _make_cmd
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.meta import Meta

from dvc_parallel.caches.path_facts import state_kept_open
from dvc_parallel.engine.runner import Command, TimeIsUpError

from . import current_performance
from .exchange import Exchange, check_out
from .leaves import hashed_files, name_in, real, unusual, write
from .pool import Clone, Pool
from .requests import COMMAND, Request, Result, WorkerError

if TYPE_CHECKING:
    from dvc.stage import Stage

    from dvc_parallel.engine.runner import Output, Runner


def perform(
    request: Request, folder: str, output: "Output", runner: "Runner"
) -> Result:
    """Run the commands of a stage, and put its outputs into the exchange.

    Called where the seams for runs are in place (``backport``); any number of threads
    and processes may do so for one folder.

    Args:
        folder: for clones and a cache; kept for later requests.
        output: as for a runner, and with "command" and each command before it runs.
        runner: runs the commands.

    Raises:
        LacksCommitsError: the request has to come again with a pack for this worker.
        WorkerError: it cannot be done; says why.
        RunnerClosedError: the runner starts no more commands.
    """
    try:
        pool = Pool(folder, request.state.repo_id)
        pool.have_commits(request.state, request.pack)
        with pool.clone() as clone:
            clone.bring_to(request.state, [item.path for item in request.items])
            return Performance(request, pool, clone, output, runner).run()
    except DvcException as exc:
        raise WorkerError(str(exc)) from None


class Performance:
    """Runs one stage.  Owned by its thread; has its clone for itself."""

    def __init__(
        self,
        request: Request,
        pool: Pool,
        clone: Clone,
        output: "Output",
        runner: "Runner",
    ):
        self._request = request
        self._pool = pool
        self._clone = clone
        self._output = output
        self._runner = runner
        self._deadline: Optional[float] = None
        self._failure: Optional[Result] = None
        self._root = os.path.join(clone.path, request.root)
        self._exchange: Exchange

    def run(self) -> Result:
        token = self._request.token
        if token is not None and not os.path.exists(token):
            folder = os.path.dirname(os.path.dirname(token))
            raise WorkerError(
                f"this worker does not see the shared cache '{folder}'; mount it "
                "there, or use a remote: `dvc remote add -d`"
            )
        self._configure()
        with Repo(self._root) as repo, lock_repo(repo), state_kept_open(repo.state):
            self._exchange = Exchange(repo, self._pool.writing)
            stage = self._load(repo)
            self._provide(stage)
            return self._run(stage)

    def _configure(self) -> None:
        """Tell DVC, in any process of the clone, which cache and remote to use."""
        dvc_dir = os.path.join(self._root, Repo.DVC_DIR)
        with Config(dvc_dir, validate=False).edit("local") as local:
            for section, values in self._request.config.items():
                local[section] = {**values}
            local["cache"].setdefault("dir", self._pool.cache_dir)
        os.chmod(os.path.join(dvc_dir, Config.CONFIG_LOCAL), 0o600)

    def _load(self, repo: Repo) -> "Stage":
        request = self._request
        dvcfile = load_file(repo, self._path(request.dvcfile), verify=False)
        definition = {**request.definition}
        if request.name is None:
            stage = SingleStageLoader.load_stage(dvcfile, definition, None)
        else:
            stage = StageLoader.load_stage(dvcfile, request.name, definition)
        stage.deps = [dep for dep in stage.deps if dep.protocol == "local"]
        stage.outs = [out for out in stage.outs if out.protocol == "local"]
        return stage

    def _path(self, name: str) -> str:
        return os.path.join(self._clone.path, *name.split("/"))

    def _provide(self, stage: "Stage") -> None:
        """Check out what the stage depends on; make the folders it works in."""
        request = self._request
        for name in request.folders:
            os.makedirs(self._path(name), exist_ok=True)
        self._exchange.get(item.hash_info for item in request.items)
        found = {real(out.fs_path): out for out in (*stage.deps, *stage.outs)}
        for item in request.items:
            out = found[self._path(item.path)]
            meta = Meta(isdir=item.hash_info.isdir, isexec=item.executable)
            check_out(out, item.hash_info, meta)
        for leaf in request.leaves:
            write(leaf, self._clone.path, self._exchange.get_file)

    def _run(self, stage: "Stage") -> Result:
        stage.save_deps()
        self._compare_inputs(stage)
        before = _inputs(stage)
        if self._request.timeout is not None:
            self._deadline = time.monotonic() + self._request.timeout
        token = current_performance.set(self)
        try:
            # NOTE: where the stage is recorded, DVC misses what it has not made
            env = self._request.env
            stage.run(force=True, no_commit=True, allow_missing=True, run_env=env)
        except StageCmdFailedError:
            assert self._failure
            return self._failure
        finally:
            current_performance.reset(token)
        self._check_inputs(stage, before)
        return self._put(stage)

    def _compare_inputs(self, stage: "Stage") -> None:
        """They are those that the coordinator records."""
        for dep in stage.deps:
            expected = self._request.inputs[dep.def_path]
            # NOTE: DVC 2 has known some by another kind of hash
            if dep.hash_info.name == expected.name and dep.hash_info != expected:
                raise WorkerError(
                    f"'{dep}' differs between the workspace ({expected.value}) and its "
                    f"clone ({dep.hash_info.value}); does git convert it, or has it "
                    "just been changed?"
                )

    def _check_inputs(self, stage: "Stage", before: Mapping[str, Any]) -> None:
        """Nothing that it depends on has changed: this would be lost.

        What is new in a folder is lost as well, such as what Python has compiled.
        """
        after = _inputs(stage)
        for path, known in before.items():
            if after.get(path) != known or not os.path.exists(path):
                raise WorkerError(
                    f"stage '{self._request.addressing}' has changed its dependency "
                    f"'{name_in(self._clone.path, path)}'; only outputs come back from "
                    "a clone"
                )

    def _put(self, stage: "Stage") -> Result:
        """Put the outputs into the exchange, or into the result."""
        made = [out for out in stage.outs if out.exists]
        leaves = [
            leaf
            for out in made
            for leaf in unusual(
                out.fs_path,
                hashed_files(out) if out.use_cache else None,
                self._clone.path,
                self._exchange,
            )
        ]
        cached = [out.hash_info for out in made if out.use_cache]
        with self._pool.writing(set()):
            stage.commit(allow_missing=True, relink=False)
        self._exchange.put(cached)
        return Result(to_single_stage_lockfile(stage), tuple(leaves))

    def show_command(self, cmd: str) -> None:
        """Stands in for ``dvc.stage.run.display_command``."""
        self._output(COMMAND, os.fsencode(cmd))

    def run_command(self, executable, cmd: str, **kwargs: Any) -> None:
        """Stands in for ``dvc.stage.run._run``."""
        env = {**kwargs["env"], "DVC_STAGE": self._request.addressing}
        if "DVC_ROOT" in env:
            env["DVC_ROOT"] = self._root
        deadline = self._deadline
        command = Command(
            _make_cmd(executable, cmd),
            env,
            cwd=kwargs["cwd"],
            shell=kwargs["shell"],
            timeout=None if deadline is None else max(0.0, deadline - time.monotonic()),
            inherited=(self._clone.lock,),
        )
        try:
            status = self._runner.run(command, self._output)
        except TimeIsUpError:
            self._failure = Result(timed_out=cmd)
            raise StageCmdFailedError(cmd) from None
        if status:
            self._failure = Result(failed=(cmd, status))
            raise StageCmdFailedError(cmd, status)


def _inputs(stage: "Stage") -> dict[str, Any]:
    """All that it depends on, as saved last."""
    inputs: dict[str, Any] = {}
    for dep in stage.deps:
        inputs.update(hashed_files(dep) or {dep.fs_path: dep.hash_info})
    return inputs
