"""Which code of a project really runs: a check of what was found by reading.

From Python 3.12 on, each function is noticed once (``sys.monitoring``), which costs
next to nothing.  Before, ``sys.settrace`` looks at every call.  What is run in other
processes, and what was imported before, is not seen.

A copy of this module can be imported alone, see :func:`install`.
"""

import os
import sys
import threading
from collections.abc import Sequence
from types import CodeType
from typing import Any, Callable, Optional

_NAME = "dvc-parallel"
# Of code with variables of its own, such as a function (``inspect.CO_OPTIMIZED``).
_OPTIMIZED = 1
# A file, and the folder of a project, in two lines.
VARIABLE = "DVC_PARALLEL_CODE"


class Trace:
    """Notes which code in some folders runs between its start and its stop.

    Args:
        roots: the folders.
        tell: called at once with each path and first line.

    Attributes:
        ran: paths of files, each with the first line of what ran in it; 0 for the file
            itself.
    """

    def __init__(
        self,
        roots: Sequence[str],
        tell: Optional[Callable[[str, int], None]] = None,
    ):
        self.ran: set[tuple[str, int]] = set()
        self._tell = tell
        self._roots = tuple(os.path.join(os.path.realpath(root), "") for root in roots)
        self._paths: dict[str, Optional[str]] = {}
        # NOTE: kept, as otherwise another one may get the same id
        self._seen: dict[int, CodeType] = {}
        self._tool = -1
        self._before: Any = None

    def start(self) -> None:
        """Begin to notice.

        Raises:
            RuntimeError: too many other tools do so.
        """
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            free = [n for n in range(6) if monitoring.get_tool(n) is None]
            if not free:
                raise RuntimeError("other tools already monitor this Python")
            self._tool = free[-1]
            monitoring.use_tool_id(self._tool, _NAME)
            event = monitoring.events.PY_START
            monitoring.register_callback(self._tool, event, self._started)
            monitoring.set_events(self._tool, event)
        else:
            self._before = sys.gettrace()
            threading.settrace(self._called)
            sys.settrace(self._called)

    def stop(self) -> None:
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(self._tool, 0)
            sys.monitoring.free_tool_id(self._tool)
        else:
            sys.settrace(self._before)
            threading.settrace(self._before)

    def _started(self, code: CodeType, _offset: int) -> Any:
        self._note(code)
        return sys.monitoring.DISABLE  # type: ignore[attr-defined,unused-ignore]

    def _called(self, frame: Any, _event: str, _arg: Any) -> None:
        code = frame.f_code
        if id(code) not in self._seen:
            self._seen[id(code)] = code
            self._note(code)

    def _note(self, code: CodeType) -> None:
        is_module = code.co_name == "<module>"
        if not (is_module or code.co_flags & _OPTIMIZED):
            # NOTE: the body of a class, which runs when its module does
            return
        name = code.co_filename
        if name not in self._paths:
            path = os.path.realpath(name)
            self._paths[name] = path if path.startswith(self._roots) else None
        path_or_none = self._paths[name]
        if path_or_none is not None:
            # NOTE: a module begins at line 0 or 1, whatever is there
            line = 0 if is_module else code.co_firstlineno
            if (path_or_none, line) not in self.ran:
                self.ran.add((path_or_none, line))
                if self._tell is not None:
                    self._tell(path_or_none, line)


def install() -> None:
    """Have this process write what it runs to the file that :data:`VARIABLE` names.

    Each line is the first line of what ran, a space, and its path.  They are written as
    it happens: a process may be killed, or leave without a word.
    """
    file, _, root = os.environ.get(VARIABLE, "").partition("\n")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND

    def tell(path: str, line: int) -> None:
        try:
            # NOTE: programs close descriptors that they do not know
            fd = os.open(file, flags, 0o600)
            try:
                os.write(fd, f"{line} ".encode() + os.fsencode(path) + b"\n")
            finally:
                os.close(fd)
        except Exception:  # noqa: BLE001, S110
            pass  # the program is not to fail for it

    if root:
        Trace([root], tell).start()


def ran_in(data: bytes) -> set[tuple[str, int]]:
    """What processes have written."""
    found = set()
    for text in data.splitlines():
        line, _, path = text.partition(b" ")
        if line.isdigit() and path:
            found.add((os.fsdecode(path), int(line)))
    return found
