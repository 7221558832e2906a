"""Stages of DVC for nodes of Kedro: names, groups, what they depend on and make."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import networkx as nx

from . import KedroError
from .datasets import FILE, MEMORY, SERVICE, URL, Dataset, versions_in
from .fingerprint import Fingerprints, path_of, stage_name
from .parameters import HASH, is_parameter

GROUPS = ("none", "memory", "namespace")


@dataclass
class NodeStage:
    """A stage, as it is to be in dvc.yaml.

    Attributes:
        nodes: names of its nodes, in the order in which they run.
        params: keys by file, an empty one for all that it has.
        deps: paths, as all of them relative to the project.
        outs: flags by path and by section, which is ``outs``, ``metrics`` or ``plots``.
        fingerprint: content of its file.
    """

    name: str
    nodes: list[str]
    cmd: str
    deps: list[str]
    fingerprint: dict[str, Any]
    params: dict[str, list[str]] = field(default_factory=dict)
    outs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    always_changed: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def out_paths(self) -> list[str]:
        """Paths of all that it makes."""
        return [path for section in self.outs.values() for path in section]


def groups_of(pipeline: Any, by: str, is_memory: Callable[[str], bool]) -> list[list]:
    """Nodes that run together, in the order of the pipeline.

    Args:
        by: one of :data:`GROUPS`.
        is_memory: whether Kedro does not store a dataset.
    """
    nodes = list(pipeline.nodes)
    edges = [
        (parent, child)
        for child, parents in pipeline.node_dependencies.items()
        for parent in parents
    ]
    together = nx.Graph()
    together.add_nodes_from(nodes)
    if by == "namespace":
        first: dict[str, Any] = {}
        for node in nodes:
            if node.namespace:
                together.add_edge(first.setdefault(_top(node), node), node)
    elif by == "memory":
        together.add_edges_from(
            (parent, child)
            for parent, child in edges
            if any(map(is_memory, {*parent.outputs} & {*child.inputs}))
        )
    label = {
        node: index
        for index, group in enumerate(nx.connected_components(together))
        for node in group
    }
    # NOTE: groups that wait for each other are one, as stages cannot
    order = nx.DiGraph()
    order.add_nodes_from(label.values())
    order.add_edges_from((label[parent], label[child]) for parent, child in edges)
    circle_of = {
        index: min(circle)
        for circle in nx.strongly_connected_components(order)
        for index in circle
    }
    found: dict[int, list] = {}
    for node in nodes:
        found.setdefault(circle_of[label[node]], []).append(node)
    return list(found.values())


def _top(node: Any) -> str:
    """The outermost namespace of a node; empty if it has none."""
    return (node.namespace or "").partition(".")[0]


def _group_name(group: Sequence[Any], by: str) -> str:
    if by == "namespace" and _top(group[0]):
        return stage_name(_top(group[0]))
    return stage_name(group[0].name)


class StageMaker:
    """Makes the stages of a pipeline.

    Args:
        group_by: one of :data:`GROUPS`.
        pipeline_of: the pipeline that a run loads, for names of nodes.
    """

    def __init__(
        self,
        pipeline: Any,
        fingerprints: Fingerprints,
        repo_root: Path,
        group_by: str,
        env: Optional[str],
        pipeline_of: Callable[[Iterable[str]], str],
    ):
        self._pipeline = pipeline
        self._fingerprints = fingerprints
        self._project = fingerprints.project
        self._repo_root = repo_root
        self._group_by = group_by
        self._env = env
        self._pipeline_of = pipeline_of
        self._made = {
            name.partition("@")[0] for node in pipeline.nodes for name in node.outputs
        }

    def stages(self) -> list[NodeStage]:
        """All stages, in the order of the pipeline.

        Raises:
            KedroError: DVC cannot have such stages.
        """
        self._check_nodes()
        groups = groups_of(self._pipeline, self._group_by, self._is_memory)
        named: dict[str, list] = {}
        for group in groups:
            name = _group_name(group, self._group_by)
            if name in named:
                raise KedroError(
                    f"nodes '{named[name][0].name}' and '{group[0].name}' would both "
                    f"be stage '{name}', as DVC allows only letters, digits, _ and - "
                    "in names; give one of them another name"
                )
            named[name] = group
        stages = [self._stage(name, group) for name, group in named.items()]
        self._check_paths(stages)
        return stages

    def _dataset(self, name: str) -> Dataset:
        return self._fingerprints.dataset(name)

    def _is_memory(self, name: str) -> bool:
        return not is_parameter(name) and self._dataset(name).kind == MEMORY

    def _check_nodes(self) -> None:
        for node in self._pipeline.nodes:
            if node.confirms:
                raise KedroError(
                    f"node '{node.name}' confirms {', '.join(node.confirms)}, which "
                    "only means something to an IncrementalDataset; DVC runs a stage "
                    "again for all of its data"
                )

    def _stage(self, name: str, group: Sequence[Any]) -> NodeStage:
        inner = self._stays_in_memory(group)
        inputs = _unique(name for node in group for name in node.inputs)
        outputs = _unique(name for node in group for name in node.outputs)
        env = f" --env {shlex.quote(self._env)}" if self._env else ""
        stage = NodeStage(
            name,
            [node.name for node in group],
            f"kedro dvc run{env} {name}",
            [path_of(name)],
            self._fingerprints.of(group, inner, self._fingerprints.also(name)),
        )
        stage.fingerprint["pipeline"] = self._pipeline_of(stage.nodes)
        for dataset in inputs:
            if is_parameter(dataset):
                self._add_parameter(stage, dataset)
            elif dataset not in inner and dataset not in outputs:
                self._add_input(stage, dataset, group)
        for dataset in outputs:
            if dataset not in inner:
                self._add_output(stage, dataset, group)
        stage.deps = _unique(stage.deps)
        outs = stage.out_paths
        stage.deps = [
            path for path in stage.deps if not self._is_own(path, outs, group)
        ]
        return stage

    def _stays_in_memory(self, group: Sequence[Any]) -> set[str]:
        """Datasets of a group that no other node wants."""
        if len(group) == 1:
            return set()
        others = [node for node in self._pipeline.nodes if node not in group]
        wanted = {name for node in others for name in node.inputs}
        read = {name for node in group for name in node.inputs}
        return {
            name
            for node in group
            for name in node.outputs
            if self._is_memory(name) and name in read and name not in wanted
        }

    def _is_own(self, path: str, outs: Sequence[str], group: Sequence[Any]) -> bool:
        """Whether nodes of a group hand this path to each other."""
        if path not in outs:
            return False
        if len(group) > 1:
            return True
        raise KedroError(
            f"node '{group[0].name}' both reads and writes '{path}'; DVC deletes "
            "outputs before a stage runs. Write to another file"
        )

    def _add_parameter(self, stage: NodeStage, name: str) -> None:
        for source in stage.fingerprint["parameters"][name]:
            if not source.startswith(HASH):
                file, _, key = source.partition(":")
                keys = stage.params.setdefault(file, [])
                keys += [] if key in keys else [key]

    def _add_input(self, stage: NodeStage, name: str, group: Sequence[Any]) -> None:
        dataset = self._dataset(name)
        if dataset.kind == FILE or name.partition("@")[0] in self._made:
            stage.deps.append(dataset.place if dataset.kind == FILE else dataset.stored)
            return
        if dataset.query:
            stage.deps.append(dataset.place)
        if dataset.kind == MEMORY:
            if self._project.pattern(name) is None:
                reader = next(node.name for node in group if name in node.inputs)
                raise KedroError(
                    f"dataset '{name}', which node '{reader}' loads, is not in the "
                    "catalog, and no node makes it"
                )
            return
        if dataset.kind == URL and self._dvc_has(dataset):
            stage.deps.append(dataset.place)
        elif dataset.options.get("always_changed", True):
            stage.always_changed = True
            stage.warnings.append(
                f"stage '{stage.name}' will always run: DVC cannot tell whether "
                f"dataset '{name}' ({dataset.config.get('type')}) has changed; with "
                "metadata: {dvc: {always_changed: false}} it is taken to be the same"
            )

    def _dvc_has(self, dataset: Dataset) -> bool:
        """Whether DVC can depend on a URL, with the packages that are here."""
        from dvc.fs import registry

        scheme = dataset.place.partition("://")[0]
        try:
            registry[scheme]
        except (ImportError, KeyError):
            return False
        return not self._project.has_credentials(dataset.name)

    def _add_output(self, stage: NodeStage, name: str, group: Sequence[Any]) -> None:
        dataset = self._dataset(name)
        writer = next(node.name for node in group if name in node.outputs)
        path = dataset.stored
        if dataset.kind == FILE:
            self._check_output(dataset, writer)
        flags: dict[str, Any] = {}
        if dataset.kind in (SERVICE, URL):
            # NOTE: what persists is never restored from the run cache, which does not
            # know what is in the service
            flags["persist"] = True
        options = dataset.options
        section = next((it for it in ("metrics", "plots") if options.get(it)), "outs")
        if "cache" in options or section == "metrics":
            flags["cache"] = options.get("cache", False)
        stage.outs.setdefault(section, {})[path] = flags

    def _check_output(self, dataset: Dataset, node: str) -> None:
        path = dataset.stored
        absolute = Path(os.path.normpath(self._project.root / path))
        if not absolute.is_relative_to(self._repo_root):
            raise KedroError(
                f"node '{node}' writes dataset '{dataset.name}' to '{absolute}', which "
                f"is outside of the DVC repo '{self._repo_root}'; give it a filepath "
                "in the repo"
            )
        if "*" in path:
            raise KedroError(
                f"node '{node}' writes dataset '{dataset.name}' to '{path}'; DVC needs "
                "a path without *"
            )
        if dataset.versioned and (versions := versions_in(absolute)):
            raise KedroError(
                f"dataset '{dataset.name}': '{path}' is a folder of Kedro's versions "
                f"(the last is {versions[-1]}), which DVC would delete; move it away. "
                "DVC keeps the versions from now on"
            )

    def _check_paths(self, stages: Sequence[NodeStage]) -> None:
        """Check that no path is in two stages' outputs, nor within one."""
        owners = sorted(
            (Path(path).parts, path, stage.name)
            for stage in stages
            for path in stage.out_paths
        )
        for one, other in zip(owners, owners[1:]):
            if one[0] == other[0][: len(one[0])]:
                how = "both write" if one[1] == other[1] else "overlap:"
                raise KedroError(
                    f"stages '{one[2]}' and '{other[2]}' {how} '{other[1]}'"
                    + ("" if one[1] == other[1] else f" is in '{one[1]}'")
                    + "; DVC needs each file to be the output of one stage"
                )
        graph = nx.DiGraph()
        for stage in stages:
            for dep in stage.deps:
                parts = Path(dep).parts
                for its, _, owner in owners:
                    if its == parts[: len(its)] or parts == its[: len(parts)]:
                        graph.add_edge(owner, stage.name, path=dep)
        try:
            circle = nx.find_cycle(graph)
        except nx.NetworkXNoCycle:
            return
        paths = ", ".join(f"'{graph.edges[edge[:2]]['path']}'" for edge in circle)
        names = ", ".join(f"'{edge[0]}'" for edge in circle)
        raise KedroError(
            f"stages {names} wait for each other because of {paths}: datasets of two "
            "names have one path; give one of them another filepath"
        )


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def smallest_pipeline(
    pipelines: Mapping[str, Any], names: Sequence[str]
) -> Callable[[Iterable[str]], str]:
    """Which of the pipelines a run of some nodes loads: the one with the fewest nodes.

    Args:
        names: those to take if no other has the nodes.
    """
    contents = {
        name: {node.name for node in pipeline.nodes}
        for name, pipeline in pipelines.items()
    }

    def choose(nodes: Iterable[str]) -> str:
        wanted = set(nodes)
        fitting = [name for name, content in contents.items() if wanted <= content]
        return min(fitting or names, key=lambda name: (len(contents[name]), name))

    return choose
