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

from .seam import Seam, seams_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

IN_DVC = seams_of(
    """
    dvc.repo.reproduce:_reproduce(stages graph force_downstream on_error force repro_fn)
        -> backport.repro:reproduce, since 3.6.0
    dvc.repo.reproduce:plan_repro(graph stages pipeline downstream)
        -> backport.before_3_6:plan_repro, since 3.4.0, before 3.6.0
    dvc.repo.reproduce:_reproduce_stages(stages force_downstream)
        -> backport.before_3_6:reproduce_steps, since 3.4.0, before 3.6.0
    dvc.repo.reproduce:_reproduce_stages(graph stages downstream single_item)
        -> backport.before_3_6:reproduce_targets, since 3.0.0, before 3.4.0
    dvc.repo.reproduce:_reproduce_stages(graph stages downstream single_item
        on_unchanged) -> backport.before_3_6:reproduce_targets_in_2, before 3.0.0
    dvc.commands.repro:add_parser(subparsers parent_parser)
        -> backport.dvc_cli:add_parser
    dvc.commands.repro:CmdRepro._repro_kwargs(self) -> backport.dvc_cli:repro_kwargs
    dvc.commands.config:CmdConfig.run(self) -> backport.dvc_cli:run_config
    dvc.repo.reproduce:collect_stages(repo targets recursive glob)
        -> backport.seams:collect_stages, dispensable, since 3.4.0
    dvc.repo.status:_joint_status(pairs) -> backport.seams:joint_status, dispensable
    dvc.repo.commit:commit(self target with_deps recursive)
        -> backport.seams:commit, dispensable
    dvc.dvcfile:load_file(repo path) -> caches.stage_loading:load_file, dispensable
    dvc.utils.strictyaml:parse_yaml(text path typ) -> run.overrides:parse_yaml
    scmrepo.git:Git._add_entry_to_gitignore(self entry gitignore)
        -> run.gitignore_lines:add_entry_to_gitignore
    dvc.lock:Lock.lock(self) -> engine.lock_wait:lock
    dvc.lock:Lock.unlock(self) -> engine.lock_wait:unlock
    """
)

# What is asked of paths, in loading and in runs.
PATHS = seams_of(
    """
    dvc.output:Output.is_in_repo(self) -> run.overrides:is_in_repo, dispensable
    dvc.dvcfile:relpath(path start) -> caches.path_facts:relpath, dispensable
    dvc.output:relpath(path start) -> caches.path_facts:relpath, dispensable
    dvc.repo.scm_context:relpath(path start) -> caches.path_facts:relpath, dispensable
    dvc.stage:relpath(path start) -> caches.path_facts:relpath, dispensable
    dvc_data.hashfile.state:relpath(path start)
        -> caches.path_facts:relpath, dispensable
    scmrepo.git:relpath(path start) -> caches.path_facts:relpath, dispensable
    dvc_objects.fs.base:FileSystem.relpath(self path start)
        -> caches.path_facts:relpath_of, dispensable
    """
)

IN_LOADING = PATHS + seams_of(
    """
    dvc.utils.strictyaml:validate(data schema text path rev)
        -> caches.entry_shapes:validate, dispensable
    dvc.dependency:_get(stage p info)
        -> caches.stage_loading:get_dependency, dispensable
    dvc.output:_get(stage path) -> caches.stage_loading:get_output, dispensable
    dvc.stage.loader:resolve_paths(fs path wdir)
        -> caches.stage_loading:resolve_paths, dispensable
    dvc.output:get_cloud_fs(repo_config)
        -> caches.stage_loading:get_cloud_fs, dispensable, since 3.10.1
    """
)

# Those of jobs that a stage which is run for another machine needs.
IN_CLONES = seams_of(
    """
    dvc.stage.run:_run(executable cmd) -> run.overrides:run, since 3.0.0
    dvc.stage.run:_run(stage executable cmd checkpoint_func)
        -> backport.before_3_6:run, before 3.0.0
    dvc.stage.run:display_command(cmd) -> run.overrides:display_command
    """
)

IN_JOBS = IN_CLONES + seams_of(
    """
    dvc.logger:LoggerHandler.emit(self record) -> run.overrides:emit
    scmrepo.git.backend.dulwich:DulwichBackend.add(self paths)
        -> run.overrides:add_to_git, dispensable
    dvc.stage:Stage.remove_outs(self ignore_remove force) -> run.overrides:remove_outs
    dvc.stage:Stage.save_outs(self allow_missing) -> run.saving:save_outs
    dvc.prompt:ask(prompt limited_to) -> run.overrides:ask
    dvc_data.index.fetch:fetch(idxs callback jobs) -> run.downloads:fetch, dispensable
    dvc.data_cloud:DataCloud.pull(self objs jobs remote odb)
        -> run.downloads:pull, dispensable
    dvc.stage.cache:StageCache._cache_type_copy(self) -> run.saving:copy_links
    """
)

# NOTE: before 3.8.0, `_reset` leaves the config alone
IN_RUNS = PATHS + seams_of(
    """
    dvc.ignore:DvcIgnoreFilter.__init__(self fs root_dir)
        -> run.overrides:dvcignore, dispensable
    dvc.ignore:DvcIgnoreFilter._get_trie_pattern(self dirname dnames ignore_subrepos)
        -> run.overrides:trie_pattern, dispensable
    dvc.ignore:DvcIgnoreFilter.is_ignored(self fs path ignore_subrepos)
        -> run.overrides:is_dvcignored, dispensable
    dvc.stage:Stage.changed(self allow_missing upstream)
        -> run.overrides:changed, dispensable, since 3.6.0
    dvc.stage.cache:StageCache._uncached_outs(self stage cache)
        -> run.overrides:uncached_outs, dispensable
    dvc.stage.cache:StageCache.save(self stage) -> caches.run_cache:save
    dvc.utils:dict_filter(d exclude) -> caches.run_cache:dict_filter, dispensable
    dvc_data.hashfile.db.local:LocalHashFileDB.move(self from_info to_info)
        -> caches.run_cache:move, dispensable
    dvc.output:Output._build(self) -> run.saving:build, since 3.5.0
    dvc.output:Output.__str__(self) -> run.overrides:name_of, dispensable
    dvc.output:Output._get_hash_meta(self) -> run.saving:hash_meta, dispensable
    dvc.dependency.base:Dependency.save(self) -> run.saving:save_dependency, dispensable
    dvc.stage:Stage.compute_md5(self) -> run.overrides:compute_md5, dispensable
    dvc.stage.cache:_get_stage_hash(stage)
        -> caches.run_cache:get_stage_hash, dispensable
    dvc.schema:COMPILED_LOCK_FILE_STAGE_SCHEMA(data)
        -> caches.entry_shapes:check_entry, dispensable
    dvc.output:build(odb path fs name) -> backport.before_3_6:build, before 3.5.0
    dvc.output:Output.changed_cache(self filter_info) -> caches.damaged:changed_cache
    dvc.output:ocheck(odb obj) -> caches.damaged:check
    dvc.output:otransfer(src dest obj_ids) -> run.saving:transfer
    dvc.output:Output._checkout(self) -> run.saving:checkout
    dvc.output:checkout(path fs obj cache) -> run.saving:checkout_object
    dvc.stage:Stage.commit(self allow_missing) -> run.saving:commit
    dvc.stage.run:unlocked_repo(f) -> run.overrides:unlocked_repo
    dvc.repo:Repo._reset(self) -> run.overrides:reset, since 3.8.0
    dvc.dependency.param:load_path(fs_path fs) -> run.overrides:load_path, since 3.20.0
    dvc.dependency.param:read_param_file(fs path key_paths flatten)
        -> run.overrides:read_param_file, since 3.20.0
    dvc.rwlock:rwlock(tmp_dir fs cmd read write hardlink) -> run.overrides:rwlock
    dvc.dvcfile:modify_yaml(path fs) -> run.overrides:modify_yaml
    dvc.utils.serialize:dump_yaml(path data fs) -> run.overrides:dump_yaml
    dulwich.ignore:Pattern(pattern ignorecase) -> run.overrides:pattern, dispensable
    scmrepo.git.backend.dulwich:DulwichBackend.is_ignored(self path)
        -> run.overrides:is_ignored, dispensable
    scmrepo.git.backend.dulwich:DulwichBackend.is_tracked(self path)
        -> run.overrides:is_tracked, dispensable
    dvc_data.hashfile.checkout:test_links(links from_fs from_path to_fs to_path)
        -> run.overrides:test_links, dispensable
    dvc_data.hashfile.checkout:_checkout_file(link path fs change cache)
        -> run.overrides:checkout_file, dispensable
    dvc_objects.db:ObjectDB.add(self path fs oid) -> run.overrides:add_objects
    dvc_objects.fs.local:FsspecLocalFileSystem.reflink(self path1 path2)
        -> run.overrides:reflink
    """
)

IN_DRY_RUNS = seams_of(
    """
    dvc.stage:Stage.reproduce(self interactive) -> commands.dry_run:reproduce
    dvc.stage:Stage.run(self dry) -> commands.dry_run:run
    """
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
