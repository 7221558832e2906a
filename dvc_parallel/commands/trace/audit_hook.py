"""What Python processes do to files, by their own account: where strace cannot be had.

A copy of this module is imported by each Python process that starts under a command
(run/site_hook.py).  What is not Python, and what extension modules open by themselves,
it does not see.

Format of a trace: a JSON array a line, of what was done, one or two absolute paths, and
for ``open`` the flags and whether the file was there.  See :func:`sys.addaudithook`.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc_parallel.engine.runner import Command

    from .used_files import UsedFiles

VARIABLE = "DVC_PARALLEL_TRACE"

_ONE = {"os.remove": "remove", "os.rmdir": "remove", "os.truncate": "write"}
_TWO = {"os.rename": "rename", "os.link": "link", "os.symlink": "symlink"}


class AuditHook:
    """How to have the Python processes of commands tell what they do to files.

    Args:
        folder: for the module that they import, made for this.
    """

    name = "Python's audit hooks"

    def __init__(self, folder: str):
        from dvc_parallel.run.site_hook import sources

        self._folder = folder
        os.makedirs(folder)
        for name, text in sources(__file__).items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)

    def wrap(self, command: "Command", path: str) -> "Command":
        """The command whose trace goes to a file."""
        from dvc_parallel.run.site_hook import environment

        env = dict(os.environ if command.env is None else command.env)
        env.update(environment(self._folder, env.get("PYTHONPATH")))
        return replace(command, env={**env, VARIABLE: path})

    def read(self, path: str, _folder: str, used: "UsedFiles") -> tuple[int, str]:
        """Read a trace, as :meth:`Strace.read` does."""
        from .used_files import lost_lines

        return lost_lines(_lines(path), lambda line: _tell(line, used))


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as fobj:
            yield from (line[:-1] for line in fobj if line.endswith("\n"))
    except FileNotFoundError:
        pass  # no Python has run


def _tell(line: str, used: "UsedFiles") -> bool:
    """Take note of a line of a trace; tell whether it was understood."""
    try:
        done, *args = json.loads(line)
        paths = [os.path.normpath(arg) for arg in args if isinstance(arg, str)]
        if not all(map(os.path.isabs, paths)):
            return False
        if done == "open":
            (path,), flags, is_there = paths, args[1], args[2]
            _opened(path, int(flags), is_there is True, used)
        elif done in ("remove", "write"):
            (path,) = paths
            getattr(used, done)(path)
        elif done in ("rename", "link"):
            source, target = paths
            getattr(used, done)(source, target)
        elif done == "symlink":
            used.make(paths[1])
        else:
            return False
    except (ValueError, TypeError, IndexError):
        return False
    return True


def _opened(path: str, flags: int, is_there: bool, used: "UsedFiles") -> None:
    real = os.path.realpath(path)
    mode = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
    if mode == os.O_RDONLY:
        if is_there:
            used.read(real, path)
        else:
            used.look(path, is_there=False)
    elif is_there or flags & os.O_CREAT:
        anew = not is_there or bool(flags & (os.O_TRUNC | os.O_EXCL))
        used.write(real, path, anew=anew, reads=mode == os.O_RDWR)


def install() -> None:
    """Write what this process does to a trace from now on."""
    trace = os.environ.get(VARIABLE)
    if not trace or not hasattr(sys, "addaudithook"):
        return

    def path_of(name: Any) -> str:
        return os.path.join(os.getcwd(), os.fsdecode(name))

    def note(event: str, args: tuple) -> list:
        if event == "open":
            name, _mode, flags = args
            path = path_of(name)
            return ["open", path, flags, os.path.exists(path)]
        if event in _ONE:
            return [_ONE[event], path_of(args[0])]
        source, target = args[:2]
        return [_TWO[event], path_of(source), path_of(target)]

    events = {"open", *_ONE, *_TWO}
    busy = False

    def hook(event: str, args: tuple) -> None:
        nonlocal busy
        if event not in events or busy or isinstance(args[0], int):
            return
        busy = True
        try:
            line = json.dumps(note(event, args)) + "\n"
            # NOTE: programs close descriptors that they do not know, and then the
            # number may be another file's
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            fd = os.open(trace, flags, 0o600)
            try:
                os.write(fd, line.encode("ascii"))
            finally:
                os.close(fd)
        except Exception:  # noqa: BLE001, S110
            pass  # the program is not to fail for it
        finally:
            busy = False

    sys.addaudithook(hook)
