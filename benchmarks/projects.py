"""Public projects with sleeps in the place of their commands: serial DVC and ``-j``.

    python -m benchmarks.projects [--jobs 4] REPOSITORY@COMMIT [TARGET ...]

The graph, dvc.yaml, params and code are those of the project.  Its data are not there:
each file that is missing gets a line of text.  A command sleeps 0.05 to 0.3 s, the same
in both runs, and writes the outputs of its stage, with a checksum of its inputs.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import networkx as nx
from dvc.repo import Repo
from dvc.stage import Stage

from .harness import scratch
from .installs import Install, install
from .process import run
from .project import fingerprint
from .results import machine, now
from .tools import OURS, SERIAL, tools
from .workloads import naps

LIMIT = 7200.0
# The shell that DVC starts for a command, and what it does instead.
SHELL = """\
#!/bin/sh
echo "$DVC_STAGE" >> "$STEPS/ran"
cd "$DVC_ROOT" && exec sh -e "$STEPS/$DVC_STAGE.sh"
"""
# What DVC may write beside them, or Python, does not count.
FILES = (
    "-name .gitignore -o -name __pycache__ -prune -o -type f -print0 "
    "| sort -z | xargs -0r cat"
)


@dataclass(frozen=True)
class Project:
    """A clone whose commands have been replaced.

    Attributes:
        seconds: for how long each stage sleeps, by the name that DVC gives it.
        graph: of these names; a stage points to those that it depends on.
    """

    root: Path
    seconds: Mapping[str, float]
    graph: nx.DiGraph

    def bound(self, ran: Collection[str], jobs: int) -> float:
        """Seconds below which no run of these stages can get."""
        end: dict[str, float] = {}
        for name in nx.topological_sort(self.graph.reverse(copy=False)):
            begin = max((end[up] for up in self.graph[name]), default=0.0)
            end[name] = begin + (self.seconds[name] if name in ran else 0.0)
        work = sum(self.seconds[name] for name in ran)
        return max(*end.values(), work / jobs)


def prepare(root: Path, steps: Path) -> Project:
    """Make the files that are missing, and write a step for each stage.

    Args:
        root: a clone; files below it are written, and its data are added anew.
        steps: where scripts of the stages are written.
    """
    repo = Repo(os.fspath(root))
    stages = list(repo.index.stages)
    outs = {out.fs_path for stage in stages for out in stage.outs}
    deps = {path for stage in stages for path in _deps(stage)}
    paths = outs | deps
    data = [stage for stage in stages if stage.is_data_source or stage.is_import]
    made_by_stages = [out for stage in stages for out in stage.outs]
    for stage in data:
        Path(stage.path).unlink()
    for stage in stages:
        if stage in data or stage.frozen:
            for out in stage.outs:
                _make(out.fs_path, paths)
    for path in sorted(deps):
        if not any(_is_in(path, out.fs_path) for out in made_by_stages):
            _make(path, paths)
    added = [os.path.relpath(out.fs_path, root) for s in data for out in s.outs]
    if added:
        command = [sys.executable, "-m", "dvc", "add", "--quiet", "--force", *added]
        subprocess.run(command, cwd=root, check=True)

    commands = [stage for stage in stages if stage not in data]
    seconds = naps(len(commands))
    for stage, nap in zip(commands, seconds):
        step = steps / f"{_name(stage, root)}.sh"
        step.parent.mkdir(parents=True, exist_ok=True)
        step.write_text(_step(stage, nap, root, paths), encoding="utf-8")
    names = {stage: _name(stage, root) for stage in commands}
    graph = nx.relabel_nodes(repo.index.graph.subgraph(commands), names, copy=True)
    return Project(root, dict(zip(names.values(), seconds)), graph)


def _name(stage: Stage, root: Path) -> str:
    """What DVC calls it in the root of the repo."""
    path = os.path.relpath(stage.path, root)
    name = getattr(stage, "name", None)
    return path if not name else name if path == "dvc.yaml" else f"{path}:{name}"


def _deps(stage: Stage) -> Iterable[str]:
    """Files and folders, not params."""
    for dep in stage.deps:
        if dep.protocol == "local" and dep.fs_path and not hasattr(dep, "params"):
            yield dep.fs_path


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _is_folder(path: str, paths: Collection[str]) -> bool:
    """Whether it is one as far as names can tell."""
    inside = any(other != path and _is_in(other, path) for other in paths)
    return inside or "." not in os.path.basename(path)


def _make(path: str, paths: Collection[str]) -> None:
    if not os.path.exists(path):
        file = Path(path, "data.txt") if _is_folder(path, paths) else Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{file.name}\n", encoding="utf-8")


def _step(stage: Stage, nap: float, root: Path, paths: Collection[str]) -> str:
    """The script of a stage, which runs in the root of the repo."""
    read = " ".join(_quoted(path, root) for path in _deps(stage)) or "/dev/null"
    files: set[str] = set()
    for out in stage.outs:
        if out.metric or not _is_folder(out.fs_path, paths):
            files.add(out.fs_path)
            continue
        for path in [path for path in paths if _is_in(path, out.fs_path)]:
            folder = _is_folder(path, paths)
            files.add(os.path.join(path, "part.txt") if folder else path)
    lines = [f"sleep {nap}", f"sum=$(find {read} {FILES} | md5sum)"]
    for file in sorted(files):
        name = _quoted(file, root)
        lines.append(f'mkdir -p "$(dirname {name})"')
        lines.append(f'echo \'{{"sum": "\'"$sum"\'", "path": "\'{name}\'"}}\' > {name}')
    return "\n".join(lines) + "\n"


def _quoted(path: str, root: Path) -> str:
    return shlex.quote(os.path.relpath(path, root))


def clone(repository: str, commit: str, root: Path) -> None:
    """Clone it, with the files of this commit."""
    subprocess.run(["git", "clone", "--quiet", repository, root], check=True)
    checkout = ["git", "-c", "advice.detachedHead=false", "checkout", "--quiet"]
    subprocess.run([*checkout, commit], cwd=root, check=True)


def ran(steps: Path) -> set[str]:
    """Stages whose commands have run since the last call."""
    log = steps / "ran"
    names = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    assert len(names) == len(set(names)), "a command has run twice"
    return set(names)


def compare(
    serial: Install, ours: Install, source: str, targets: list[str], jobs: int
) -> str:
    """A row of a table: stages, seconds, bounds, and whether the files are the same."""
    repository, _, commit = source.rpartition("@")
    with scratch(None) as folder:
        root, steps, shell = folder / "serial", folder / "steps", folder / "shell"
        clone(repository, commit, root)
        shell.write_text(SHELL, encoding="utf-8")
        shell.chmod(0o755)
        project = prepare(root, steps)
        copy = shutil.copytree(root, folder / "parallel", symlinks=True)
        rows = []
        for tool, place, options in (
            (serial, root, []),
            (ours, copy, ["-j", str(jobs)]),
        ):
            home = folder / f"home-{place.name}"
            home.mkdir()
            env = {**tool.env(home), "SHELL": str(shell), "STEPS": str(steps)}
            command = ["dvc", "repro", *(targets or ["--all-pipelines"]), *options]
            seconds, _ = run([command], place, env, LIMIT)
            rows.append((seconds, ran(steps), fingerprint(place)))
    (serially, names, files), (in_parallel, same_names, same_files) = rows
    same = "yes" if (names, files) == (same_names, same_files) else "NO"
    bounds = (project.bound(names, count) for count in (1, jobs))
    cells = [f"{len(names)}", f"{serially:.1f}", f"{in_parallel:.1f}"]
    cells += [*(f"{bound:.1f}" for bound in bounds), same]
    return f"| {source} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", metavar="REPOSITORY@COMMIT")
    parser.add_argument("targets", nargs="*", help="the default is all pipelines")
    parser.add_argument("--jobs", type=int, default=4)
    args = parser.parse_args()
    known = tools(version("dvc"))
    serial, ours = (install(known[name]) for name in (SERIAL, OURS))
    print(f"{now()}, {machine()}, {serial.version}, {ours.version}\n")
    print(f"| project | stages | serial | -j {args.jobs} | work | bound | same files |")
    print("|---|---|---|---|---|---|---|")
    print(compare(serial, ours, args.project, args.targets, args.jobs))


if __name__ == "__main__":
    main()
