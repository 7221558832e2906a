"""Where released DVC is patched, in one place.

There are five kinds of seams.  ``IN_DVC`` give DVC the command and the option, a quick
way to read dvc.lock, one to lock the repo beside a run, the place of a new line of
.gitignore, and a status and a commit that know of code; the import hook installs them
with their modules.
``IN_LOADING`` have it load the stages of a run quickly, ``IN_RUNS`` make its
bookkeeping cheap while they are reproduced, and ``IN_JOBS`` change what DVC does in a
job of a parallel run; all of these are in place only then.  With ``IN_DRY_RUNS``, DVC
goes through the stages of a run and runs none.

Each seam says which releases of DVC it is for.  The packages that DVC is made of
(dvc-data, dvc-objects, scmrepo, dulwich) have versions of their own, which go with many
releases of DVC: a seam in one of them is for those that have it as it is described.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.engine import logger

from .seam import Seam

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

REPRO = "dvc_parallel.backport.repro"
OLD = "dvc_parallel.backport.before_3_6"
CLI = "dvc_parallel.backport.dvc_cli"
SEAMS = "dvc_parallel.backport.seams"
LOADING = "dvc_parallel.caches.stage_loading"
FACTS = "dvc_parallel.caches.path_facts"
RUN = "dvc_parallel.run.overrides"
DRY_RUN = "dvc_parallel.commands.dry_run"
SHAPES = "dvc_parallel.caches.entry_shapes"
RUN_CACHE = "dvc_parallel.caches.run_cache"
DAMAGED = "dvc_parallel.caches.damaged"
SAVING = "dvc_parallel.run.saving"
DOWNLOADS = "dvc_parallel.run.downloads"

IN_DVC = (
    Seam(
        "dvc.repo.reproduce:_reproduce",
        "stages graph force_downstream on_error force repro_fn",
        f"{REPRO}:reproduce",
        since=(3, 6, 0),
    ),
    Seam(
        "dvc.repo.reproduce:plan_repro",
        "graph stages pipeline downstream",
        f"{OLD}:plan_repro",
        since=(3, 4, 0),
        before=(3, 6, 0),
    ),
    Seam(
        "dvc.repo.reproduce:_reproduce_stages",
        "stages force_downstream",
        f"{OLD}:reproduce_steps",
        since=(3, 4, 0),
        before=(3, 6, 0),
    ),
    Seam(
        "dvc.repo.reproduce:_reproduce_stages",
        "graph stages downstream single_item",
        f"{OLD}:reproduce_targets",
        since=(3, 0, 0),
        before=(3, 4, 0),
    ),
    Seam(
        "dvc.repo.reproduce:_reproduce_stages",
        "graph stages downstream single_item on_unchanged",
        f"{OLD}:reproduce_targets_in_2",
        before=(3, 0, 0),
    ),
    Seam(
        "dvc.commands.repro:add_parser", "subparsers parent_parser", f"{CLI}:add_parser"
    ),
    Seam("dvc.commands.repro:CmdRepro._repro_kwargs", "self", f"{CLI}:repro_kwargs"),
    Seam("dvc.commands.config:CmdConfig.run", "self", f"{CLI}:run_config"),
    Seam(
        "dvc.repo.reproduce:collect_stages",
        "repo targets recursive glob",
        f"{SEAMS}:collect_stages",
        since=(3, 4, 0),
        dispensable=True,
    ),
    Seam(
        "dvc.repo.status:_joint_status",
        "pairs",
        f"{SEAMS}:joint_status",
        dispensable=True,
    ),
    Seam(
        "dvc.repo.commit:commit",
        "self target with_deps recursive",
        f"{SEAMS}:commit",
        dispensable=True,
    ),
    Seam(
        "dvc.dvcfile:load_file", "repo path", f"{LOADING}:load_file", dispensable=True
    ),
    Seam("dvc.utils.strictyaml:parse_yaml", "text path typ", f"{RUN}:parse_yaml"),
    Seam(
        "scmrepo.git:Git._add_entry_to_gitignore",
        "self entry gitignore",
        "dvc_parallel.run.gitignore_lines:add_entry_to_gitignore",
    ),
    Seam("dvc.lock:Lock.lock", "self", "dvc_parallel.engine.lock_wait:lock"),
    Seam("dvc.lock:Lock.unlock", "self", "dvc_parallel.engine.lock_wait:unlock"),
)

# What is asked of paths, in loading and in runs.
PATHS = (
    Seam("dvc.output:Output.is_in_repo", "self", f"{RUN}:is_in_repo", dispensable=True),
    *(
        Seam(f"{module}:relpath", "path start", f"{FACTS}:relpath", dispensable=True)
        for module in (
            "dvc.dvcfile",
            "dvc.output",
            "dvc.repo.scm_context",
            "dvc.stage",
            "dvc_data.hashfile.state",
            "scmrepo.git",
        )
    ),
    Seam(
        "dvc_objects.fs.base:FileSystem.relpath",
        "self path start",
        f"{FACTS}:relpath_of",
        dispensable=True,
    ),
)

IN_LOADING = (
    *PATHS,
    Seam(
        "dvc.utils.strictyaml:validate",
        "data schema text path rev",
        f"{SHAPES}:validate",
        dispensable=True,
    ),
    Seam(
        "dvc.dependency:_get",
        "stage p info",
        f"{LOADING}:get_dependency",
        dispensable=True,
    ),
    Seam("dvc.output:_get", "stage path", f"{LOADING}:get_output", dispensable=True),
    Seam(
        "dvc.stage.loader:resolve_paths",
        "fs path wdir",
        f"{LOADING}:resolve_paths",
        dispensable=True,
    ),
    Seam(
        "dvc.output:get_cloud_fs",
        "repo_config",
        f"{LOADING}:get_cloud_fs",
        since=(3, 10, 1),
        dispensable=True,
    ),
)

IN_JOBS = (
    Seam("dvc.stage.run:_run", "executable cmd", f"{RUN}:run", since=(3, 0, 0)),
    Seam(
        "dvc.stage.run:_run",
        "stage executable cmd checkpoint_func",
        f"{OLD}:run",
        before=(3, 0, 0),
    ),
    Seam("dvc.stage.run:display_command", "cmd", f"{RUN}:display_command"),
    Seam("dvc.logger:LoggerHandler.emit", "self record", f"{RUN}:emit"),
    Seam(
        "scmrepo.git.backend.dulwich:DulwichBackend.add",
        "self paths",
        f"{RUN}:add_to_git",
        dispensable=True,
    ),
    Seam(
        "dvc.stage:Stage.remove_outs", "self ignore_remove force", f"{RUN}:remove_outs"
    ),
    Seam("dvc.stage:Stage.save_outs", "self allow_missing", f"{SAVING}:save_outs"),
    Seam("dvc.prompt:ask", "prompt limited_to", f"{RUN}:ask"),
    Seam(
        "dvc_data.index.fetch:fetch",
        "idxs callback jobs",
        f"{DOWNLOADS}:fetch",
        dispensable=True,
    ),
    Seam(
        "dvc.data_cloud:DataCloud.pull",
        "self objs jobs remote odb",
        f"{DOWNLOADS}:pull",
        dispensable=True,
    ),
    Seam("dvc.stage.cache:StageCache._cache_type_copy", "self", f"{SAVING}:copy_links"),
)

# Those of jobs that a stage which is run for another machine needs.
IN_CLONES = tuple(seam for seam in IN_JOBS if seam.name in ("_run", "display_command"))

IN_RUNS = (
    *PATHS,
    Seam(
        "dvc.ignore:DvcIgnoreFilter.__init__",
        "self fs root_dir",
        f"{RUN}:dvcignore",
        dispensable=True,
    ),
    Seam(
        "dvc.ignore:DvcIgnoreFilter._get_trie_pattern",
        "self dirname dnames ignore_subrepos",
        f"{RUN}:trie_pattern",
        dispensable=True,
    ),
    Seam(
        "dvc.ignore:DvcIgnoreFilter.is_ignored",
        "self fs path ignore_subrepos",
        f"{RUN}:is_dvcignored",
        dispensable=True,
    ),
    Seam(
        "dvc.stage:Stage.changed",
        "self allow_missing upstream",
        f"{RUN}:changed",
        since=(3, 6, 0),
        dispensable=True,
    ),
    *(
        Seam(f"dvc.stage:Stage.{name}", "self", f"{RUN}:{func}", dispensable=True)
        for name, func in (
            ("_changed_deps", "read_stage"),
            ("changed_outs", "read_stage"),
            ("_run_stage", "run_stage"),
        )
    ),
    Seam(
        "dvc.stage.cache:StageCache._uncached_outs",
        "self stage cache",
        f"{RUN}:uncached_outs",
        dispensable=True,
    ),
    Seam("dvc.stage.cache:StageCache.save", "self stage", f"{RUN_CACHE}:save"),
    Seam(
        "dvc.utils:dict_filter",
        "d exclude",
        f"{RUN_CACHE}:dict_filter",
        dispensable=True,
    ),
    Seam(
        "dvc_data.hashfile.db.local:LocalHashFileDB.move",
        "self from_info to_info",
        f"{RUN_CACHE}:move",
        dispensable=True,
    ),
    Seam("dvc.output:Output._build", "self", f"{SAVING}:build", since=(3, 5, 0)),
    Seam("dvc.output:Output.__str__", "self", f"{RUN}:name_of", dispensable=True),
    Seam(
        "dvc.output:Output._get_hash_meta",
        "self",
        f"{SAVING}:hash_meta",
        dispensable=True,
    ),
    Seam(
        "dvc.dependency.base:Dependency.save",
        "self",
        f"{SAVING}:save_dependency",
        dispensable=True,
    ),
    Seam("dvc.stage:Stage.compute_md5", "self", f"{RUN}:compute_md5", dispensable=True),
    Seam(
        "dvc.stage.cache:_get_stage_hash",
        "stage",
        f"{RUN_CACHE}:get_stage_hash",
        dispensable=True,
    ),
    Seam(
        "dvc.schema:COMPILED_LOCK_FILE_STAGE_SCHEMA",
        "data",
        f"{SHAPES}:check_entry",
        dispensable=True,
    ),
    Seam("dvc.output:build", "odb path fs name", f"{OLD}:build", before=(3, 5, 0)),
    Seam(
        "dvc.output:Output.changed_cache",
        "self filter_info",
        f"{DAMAGED}:changed_cache",
    ),
    Seam("dvc.output:ocheck", "odb obj", f"{DAMAGED}:check"),
    Seam("dvc.output:otransfer", "src dest obj_ids", f"{SAVING}:transfer"),
    Seam("dvc.output:Output._checkout", "self", f"{SAVING}:checkout"),
    Seam("dvc.output:checkout", "path fs obj cache", f"{SAVING}:checkout_object"),
    Seam("dvc.stage:Stage.commit", "self allow_missing", f"{SAVING}:commit"),
    Seam("dvc.stage.run:unlocked_repo", "f", f"{RUN}:unlocked_repo"),
    # NOTE: before 3.8.0, it leaves the config alone
    Seam("dvc.repo:Repo._reset", "self", f"{RUN}:reset", since=(3, 8, 0)),
    Seam(
        "dvc.dependency.param:load_path",
        "fs_path fs",
        f"{RUN}:load_path",
        since=(3, 20, 0),
    ),
    Seam(
        "dvc.dependency.param:read_param_file",
        "fs path key_paths flatten",
        f"{RUN}:read_param_file",
        since=(3, 20, 0),
    ),
    Seam("dvc.rwlock:rwlock", "tmp_dir fs cmd read write hardlink", f"{RUN}:rwlock"),
    Seam("dvc.dvcfile:modify_yaml", "path fs", f"{RUN}:modify_yaml"),
    Seam("dvc.utils.serialize:dump_yaml", "path data fs", f"{RUN}:dump_yaml"),
    Seam(
        "dulwich.ignore:Pattern",
        "pattern ignorecase",
        f"{RUN}:pattern",
        dispensable=True,
    ),
    Seam(
        "scmrepo.git.backend.dulwich:DulwichBackend.is_ignored",
        "self path",
        f"{RUN}:is_ignored",
        dispensable=True,
    ),
    Seam(
        "scmrepo.git.backend.dulwich:DulwichBackend.is_tracked",
        "self path",
        f"{RUN}:is_tracked",
        dispensable=True,
    ),
    Seam(
        "dvc_data.hashfile.checkout:test_links",
        "links from_fs from_path to_fs to_path",
        f"{RUN}:test_links",
        dispensable=True,
    ),
    Seam(
        "dvc_data.hashfile.checkout:_checkout_file",
        "link path fs change cache",
        f"{RUN}:checkout_file",
        dispensable=True,
    ),
    Seam("dvc_objects.db:ObjectDB.add", "self path fs oid", f"{RUN}:add_objects"),
    Seam(
        "dvc_objects.fs.local:FsspecLocalFileSystem.reflink",
        "self path1 path2",
        f"{RUN}:reflink",
    ),
)

IN_DRY_RUNS = (
    Seam("dvc.stage:Stage.reproduce", "self interactive", f"{DRY_RUN}:reproduce"),
    Seam("dvc.stage:Stage.run", "self dry", f"{DRY_RUN}:run"),
)

_guard = threading.Lock()
_originals: dict[Seam, Any] = {}
_users: Counter[Seam] = Counter()


def present(seams: Iterable[Seam]) -> list[Seam]:
    """The seams for the installed DVC, without the dispensable ones that it lacks."""
    import dvc

    version = dvc.version_tuple[:3]
    return [
        seam
        for seam in seams
        if seam.is_for(version) and not (seam.dispensable and seam.misfit())
    ]


def misfits(seams: Iterable[Seam]) -> list[str]:
    """What is wrong with the seams for the installed DVC."""
    return [text for text in (seam.misfit() for seam in present(seams)) if text]


@contextmanager
def installed(seams: Sequence[Seam]) -> Iterator[None]:
    """Keep seams in place for a while; runs in several threads share them."""
    seams = present(seams)
    with _guard:
        for seam in seams:
            if not _users[seam]:
                _originals[seam] = seam.install()
            _users[seam] += 1
    try:
        yield
    finally:
        with _guard:
            for seam in seams:
                _users[seam] -= 1
                if not _users[seam]:
                    seam.replace(sys.modules[seam.module], _originals.pop(seam))


@contextmanager
def required(seams: Sequence[Seam], what: str) -> Iterator[None]:
    """Keep seams in place for what cannot be done without them.

    Raises:
        DvcException: this DVC is not as its release was.
    """
    from dvc.exceptions import DvcException

    for misfit in misfits(seams):
        raise DvcException(f"cannot {what}: {misfit}")
    with installed(seams):
        yield


def collect_stages(original: Callable, *args, **kwargs) -> "list[Stage]":
    """``dvc.repo.reproduce.collect_stages``: the stages that are asked for."""
    from dvc_parallel.caches import stage_loading

    with installed(IN_LOADING):
        return stage_loading.collect_stages(original, *args, **kwargs)


def joint_status(original: Callable, pairs: Iterable, *args, **kwargs) -> Any:
    """``dvc.repo.status._joint_status``: the status of stages, and of their code."""
    pairs = list(pairs)
    _refresh_code(stage for stage, _ in pairs)
    return original(pairs, *args, **kwargs)


def commit(
    original: Callable,
    repo: "Repo",
    target: Optional[str] = None,
    with_deps: bool = False,
    recursive: bool = False,
    *args,
    **kwargs,
) -> Any:
    """``Repo.commit``: accept stages as they are now, and so their code."""
    from dvc.repo import lock_repo

    with lock_repo(repo):
        if not kwargs.get("data_only"):
            found = repo.stage.collect_granular(
                target, with_deps=with_deps, recursive=recursive
            )
            _refresh_code(info.stage for info in found)
        return original(repo, target, with_deps, recursive, *args, **kwargs)


def _refresh_code(stages: "Iterable[Stage]") -> None:
    """Write the files of stages that know their code; a stage that cannot is told."""
    from dvc.exceptions import DvcException

    if asking := [stage for stage in stages if stage.meta]:
        from dvc_parallel.run.code_files import refresh

        try:
            refresh(asking)
        except DvcException as exc:
            logger.warning("%s", exc)


def install(module: Any) -> None:
    """Install the seams that are in a module as it is imported.

    Raises:
        AttributeError: DVC has no such function; then none is installed.
    """
    seams = [seam for seam in IN_DVC if seam.module == module.__name__]
    for misfit in misfits(seams):
        raise AttributeError(misfit)
    for seam in present(seams):
        seam.install()
