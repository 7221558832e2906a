"""Reading what commands of other stages may be writing at this moment.

Serial DVC hashes a folder while nothing else goes on. In a parallel run the command of
another stage can add, replace and remove files in it meanwhile: Python does so in the
``__pycache__`` beside the modules that it imports. What a stage declares that it writes
is in order by the plan; this is about the rest.

What has changed while it was read is read again, a few times. A file that was listed
and has vanished before it could be read is taken as vanished.
"""

import os
from collections.abc import Collection
from typing import Any, Callable, Optional, TypeVar

from dvc_parallel.engine import logger
from dvc_parallel.engine.file_stamp import signature_of

# Seconds to wait before something is read again that has changed meanwhile.
PAUSES = (0.02, 0.05, 0.1)
BYTECODE = "__pycache__"
CHANGES = (
    "'%s', a dependency of stage '%s', changes while other stages run (%s), so its "
    "hash in dvc.lock depends on what runs at the same time. If the files are in "
    "__pycache__, add '__pycache__/' to .dvcignore, or set PYTHONDONTWRITEBYTECODE=1."
)

T = TypeVar("T")


class Listing:
    """The files of a folder at one time, as DVC's ignore rules leave them.

    Stands in for these rules where DVC walks through the folder, so that it looks for
    nothing that has come later.

    Args:
        fs: file system of the folder.
        path: the folder.
        ignore: DVC's ignore rules.
    """

    def __init__(self, fs: Any, path: str, ignore: Any):
        self.rows = [
            (root, [*folders], {name: _look_at(root, name) for name in names})
            for root, folders, names in ignore.walk(fs, path)
        ]
        self.drop_vanished()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listing) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def walk(self, _fs: Any, _path: str, **_kwargs: Any):
        for root, folders, files in self.rows:
            yield root, folders, [*files]

    def drop_vanished(self) -> bool:
        """Forget files that are no longer there; return whether there were any."""
        vanished = [
            (files, name)
            for root, _, files in self.rows
            for name in files
            if not os.path.lexists(os.path.join(root, name))
        ]
        for files, name in vanished:
            del files[name]
        return bool(vanished)


def _look_at(root: str, name: str) -> Optional[tuple]:
    return signature_of(os.path.join(root, name))


class StableReads:
    """What the stages of a run read while commands of others run.

    Any thread may call any method at any time: what is shared are sets and dicts with
    one operation at a time.

    Attributes:
        in_command (set): the stages, by name, whose commands run right now.
        any_command (bool): whether any has run, or does now.
    """

    def __init__(self) -> None:
        self.in_command: set[str] = set()
        self.any_command = False
        self._restless: set[str] = set()
        self._bytecode: dict[str, tuple[frozenset, bool]] = {}
        self._has_warned = False

    def others(self, stage: str) -> list[str]:
        """The other stages whose commands run right now."""
        return sorted(self.in_command.copy() - {stage})

    def read(
        self,
        path: str,
        read: Callable[[Any], T],
        look: Callable[[], Any],
        pause: Callable[[float], None],
    ) -> T:
        """Read something until it is the same before and after that.

        Args:
            path: what is read.
            read: reads it; called with what ``look`` has returned just before.
            look: what differs once it has changed.
            pause: waits for some seconds.

        Raises:
            Exception: of ``read``, though nothing has changed meanwhile, or still after
                some tries.
        """
        before = look()
        for seconds in () if path in self._restless else PAUSES:
            try:
                result = read(before)
            except Exception:
                pause(seconds)
                after = look()
                if after == before:
                    raise
            else:
                after = look()
                if after == before:
                    return result
                pause(seconds)
                after = look()
            before = after
        # NOTE: it may go on like that for hours, and is read some six times a stage
        self._restless.add(path)
        return read(before)

    def build(
        self,
        build: Callable[..., T],
        fs: Any,
        path: str,
        ignore: Any,
        pause: Callable[[float], None],
    ) -> T:
        """Hash a local file or folder.

        Args:
            build: does it; takes ``ignore`` as a keyword.
            fs, path, ignore, pause: as for :class:`Listing` and :meth:`read`.
        """
        if ignore is None or not os.path.isdir(path):
            return self.read(
                path,
                lambda _: build(ignore=ignore),
                lambda: signature_of(path),
                pause,
            )

        def hash_files(listing: Listing) -> T:
            while True:
                try:
                    return build(ignore=listing)
                except (FileNotFoundError, NotADirectoryError):
                    if not listing.drop_vanished():
                        raise

        return self.read(path, hash_files, lambda: Listing(fs, path, ignore), pause)

    def watch(self, path: str, name: str, stage: str, files: Collection[tuple]) -> None:
        """Say, once, that what a stage depends on depends on other stages.

        Args:
            path: a folder.
            name: the folder as people know it.
            stage: a stage that depends on it.
            files: the files that were hashed, as parts of their paths.
        """
        if self._has_warned:
            return
        others = self.others(stage)
        bytecode = frozenset(file for file in files if BYTECODE in file)
        known, were_others = self._bytecode.setdefault(path, (bytecode, bool(others)))
        differs = known != bytecode and (were_others or bool(others))
        if differs or path in self._restless:
            self._has_warned = True
            logger.warning(CHANGES, name, stage, ", ".join(others) or "just before")
