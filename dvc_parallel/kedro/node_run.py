"""``kedro dvc run``: what the command of a stage does."""

import json
import os
import pickle
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset

from dvc_parallel.code import CodeError
from dvc_parallel.code.trace import Trace

from . import MARKERS, PICKLES, KedroError
from .datasets import versions_in
from .fingerprint import VERSION, Fingerprints, differences, path_of, stage_name
from .project import KedroProject, find, in_one_line, session_of

# NOTE: the newest one that all supported Pythons have: the same bytes from each of them
_PROTOCOL = 5
# Set to 1 to look at the code that nodes run.
TRACE = "DVC_PARALLEL_KEDRO_TRACE"
# How many definitions, or differences, an error names at most.
_MOST_NAMED = 5


class MemoryPickle(AbstractDataset):
    """What Kedro would keep in memory, between the stages of DVC."""

    def __init__(self, filepath: str, what: str):
        self._filepath = Path(filepath)
        self._what = what

    def load(self) -> Any:
        """Load the object."""
        with self._filepath.open("rb") as file:
            return pickle.load(file)  # noqa: S301

    def save(self, data: Any) -> None:
        """Write the object.

        Raises:
            KedroError: it cannot be pickled.
        """
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._filepath.open("wb") as file:
                pickle.dump(data, file, _PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as exc:
            self._filepath.unlink()
            raise KedroError(
                f"{self._what} cannot be pickled: {exc}; give it an entry in the "
                "catalog, or run `kedro dvc update --group-by memory`, by which "
                "nodes that share memory are one stage"
            ) from exc

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class StageHooks:
    """Hooks of Kedro that have a session run as a stage of DVC.

    Args:
        stage: its name.
        fingerprint: content of its file.

    Attributes:
        has_begun: whether the nodes run.
    """

    def __init__(
        self, stage: str, fingerprint: Mapping[str, Any], root: Path, source: Path
    ):
        self._stage = stage
        self._fingerprint = fingerprint
        self._root = root
        self._source = source
        self._project: Optional[KedroProject] = None
        self._fingerprints: Optional[Fingerprints] = None
        self._trace: Optional[Trace] = None
        self.has_begun = False

    @hook_impl(trylast=True)
    def after_context_created(self, context: Any) -> None:
        """Give datasets the places that they have in DVC."""
        self._project = KedroProject(self._root, self._source, context)
        project = self._project
        conf = dict(context.config_loader["catalog"])
        for name, said in self._fingerprint["data"].items():
            entry = project.entry(name)
            if said["path"].startswith(f"{PICKLES}/"):
                conf[name] = {
                    "type": f"{__name__}.{MemoryPickle.__qualname__}",
                    "filepath": said["path"],
                    "what": f"dataset '{name}'{self._maker(name)}",
                    **{key: entry[key] for key in ("validator",) if key in entry},
                }
            else:
                # NOTE: what no stage makes may be in Kedro's folders
                old = "saved by" not in said and versions_in(self._root / said["path"])
                if not entry.pop("versioned", False) or old:
                    continue
                pattern = conf.get(project.pattern(name), {})
                if "credentials" in pattern:
                    entry["credentials"] = pattern["credentials"]
                conf[name] = entry
        context.config_loader["catalog"] = conf

    def _maker(self, dataset: str) -> str:
        for name, said in self._fingerprint["nodes"].items():
            outputs = said["outputs"]
            if dataset in (outputs.values() if isinstance(outputs, dict) else outputs):
                return f" of node '{name}'"
        return ""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any) -> None:
        """Check that the fingerprint is that of today's code.

        Raises:
            KedroError: it is not.
        """
        assert self._project is not None
        # NOTE: with the catalog as it is written, not as it has been changed above
        nodes = {node.name: node for node in pipeline.nodes}
        known = self._fingerprint
        self._fingerprints = Fingerprints(self._project)
        found = self._fingerprints.of(
            [nodes[name] for name in known["nodes"]],
            known.get("in memory", ()),
            known.get("also", ()),
        )
        found["pipeline"] = known["pipeline"]
        made = differences(known, found)
        if made:
            raise KedroError(
                f"stage '{self._stage}' is stale: {_few(made)}; run "
                "`kedro dvc update`, and then `dvc repro` again"
            )
        self.has_begun = True
        if os.environ.get(TRACE) == "1":
            self._trace = Trace([str(self._source)])

    @hook_impl(trylast=True)
    def before_node_run(self) -> None:
        """Look at the code that it runs, without the hooks of the project."""
        if self._trace is not None:
            self._trace.start()

    @hook_impl(tryfirst=True)
    def after_node_run(self) -> None:
        """Look no more."""
        if self._trace is not None:
            self._trace.stop()

    def tell_uncovered(self) -> None:
        """Name code that the nodes ran and the fingerprint does not cover."""
        if self._trace is None or self._fingerprints is None:
            return
        # NOTE: the nodes have run; whatever is wrong here is no reason to lose that
        try:
            found = self._fingerprints.keep_uncovered(
                self._stage, self._fingerprint, self._trace.ran
            )
        except CodeError as exc:
            sys.stderr.write(
                f"WARNING: stage '{self._stage}': its code is not checked: {exc}\n"
            )
            return
        if found:
            sys.stderr.write(
                f"WARNING: stage '{self._stage}' ran code that its fingerprint does "
                f"not cover: {_few(found)}; the next `kedro dvc update` covers it\n"
            )


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def run(stage: str, env: Optional[str] = None) -> None:
    """Run the nodes of a stage.

    Args:
        stage: its name, or that of its node.

    Raises:
        KedroError: they cannot be run; nothing has been written.
        Exception: the one that a node has raised.
    """
    # NOTE: what a stage does is in its command alone
    os.environ.pop("KEDRO_ENV", None)
    root = find(Path.cwd())
    stage = stage_name(stage)
    path = root / path_of(stage)
    try:
        fingerprint = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KedroError(
            f"there is no stage '{stage}' ({path_of(stage)}); run `kedro dvc update`"
        ) from None
    except ValueError:
        fingerprint = None
    if not isinstance(fingerprint, dict) or fingerprint.get("version") != VERSION:
        raise KedroError(
            f"{path_of(stage)} is not a fingerprint; run `kedro dvc update`"
        )
    with session_of(root, env) as (session, source):
        hooks = StageHooks(stage, fingerprint, root, source)
        session._hook_manager.register(hooks)
        try:
            session.run(
                node_names=list(fingerprint["nodes"]), **_only(fingerprint["pipeline"])
            )
        except Exception as exc:
            if ours := _ours(exc):
                raise ours from exc
            if hooks.has_begun:
                raise
            # NOTE: Kedro's own, of a node or a pipeline that is gone, is one of these
            advice = "; if nodes have changed, run `kedro dvc update`"
            raise KedroError(
                f"the project cannot be loaded: {in_one_line(exc, root)}"
                + (advice if type(exc) is ValueError else "")
            ) from exc
        hooks.tell_uncovered()
    for said in fingerprint["data"].values():
        if "saved by" in said and said["path"].startswith(f"{MARKERS}/"):
            marker = root / said["path"]
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(f"{uuid.uuid4()}\n", encoding="ascii")


def _ours(exc: Optional[BaseException]) -> Optional[KedroError]:
    """The error of ours that Kedro has made one of its own of, if there is one."""
    while exc is not None and not isinstance(exc, KedroError):
        exc = exc.__cause__
    return exc


def _only(pipeline: str) -> dict[str, Any]:
    """The arguments of a session's ``run`` for one pipeline, as of this Kedro."""
    import inspect

    from kedro.framework.session import KedroSession

    known = inspect.signature(KedroSession.run).parameters
    if "pipeline_names" in known:
        return {"pipeline_names": [pipeline]}
    return {"pipeline_name": pipeline}
