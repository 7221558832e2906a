"""Data that stages read and no stage makes: is it in git, in DVC, or nowhere?"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import FOLDER, KedroError
from .fingerprint import path_of
from .stages import NodeStage


class FreeInputs:
    """Inputs of stages that no stage makes."""

    def __init__(self, root: Path, repo_root: Path, stages: Sequence[NodeStage]):
        self._root = root
        self._repo_root = repo_root
        made = {path for stage in stages for path in stage.out_paths}
        self._own = own = sorted(path_of(stage.name) for stage in stages)
        self._paths = sorted(
            {
                dep
                for stage in stages
                for dep in stage.deps
                if "://" not in dep
                and dep not in own
                and not any(_is_in(dep, out) or _is_in(out, dep) for out in made)
            }
        )

    def tell(self, add: bool) -> None:
        """Name those that neither git nor DVC knows, or have DVC track them.

        Raises:
            KedroError: git would ignore their ``.dvc`` files.
        """
        if hidden := self._ignored(self._own):
            sys.stderr.write(
                f"WARNING: git ignores '{hidden[0]}', which belongs to git; add the "
                f"line '!{FOLDER}/*.json' to the end of .gitignore\n"
            )
        missing = [path for path in self._paths if not (self._root / path).exists()]
        for path in missing:
            sys.stderr.write(
                f"WARNING: '{path}' does not exist, and no stage makes it\n"
            )
        unknown = self._unknown([path for path in self._paths if path not in missing])
        if not unknown:
            return
        if not add:
            listed = "".join(f"  {path}\n" for path in unknown)
            sys.stderr.write(
                "WARNING: neither git nor DVC tracks these inputs; "
                f"`kedro dvc update --add` has DVC track them:\n{listed}"
            )
            return
        self._add(unknown)

    def _unknown(self, paths: Sequence[str]) -> list[str]:
        rest = [path for path in paths if not self._git("ls-files", "--", path).stdout]
        outs = self._outs() if rest else []
        return [
            path
            for path in rest
            if not any(_is_in(os.path.normpath(self._root / path), out) for out in outs)
        ]

    def _ignored(self, paths: Sequence[str]) -> list[str]:
        """Those that git ignores, and does not track all the same."""
        found = self._git("check-ignore", "-z", "--stdin", text="\0".join(paths))
        return found.stdout.split("\0")[:-1]

    def _git(self, *args: str, text: str = "") -> Any:
        return subprocess.run(  # noqa: S603
            ["git", *args],  # noqa: S607
            cwd=self._root,
            input=text,
            capture_output=True,
            check=False,
            text=True,
        )

    def _outs(self) -> list[str]:
        from dvc.repo import Repo

        with Repo(str(self._repo_root)) as repo:
            return [out.fs_path for out in repo.index.outs if out.protocol == "local"]

    def _add(self, paths: Sequence[str]) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        if hidden := self._ignored([f"{path}.dvc" for path in paths]):
            raise KedroError(
                f"git ignores '{hidden[0]}', which DVC needs; add the lines "
                "'!*.dvc' and '!.gitignore' to the end of .gitignore"
            )
        with Repo(str(self._repo_root)) as repo:
            try:
                repo.add([str(self._root / path) for path in paths])
            except DvcException as exc:
                raise KedroError(f"DVC cannot add them: {exc}") from exc
        for path in paths:
            print(f"added {path}.dvc")  # noqa: T201


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
