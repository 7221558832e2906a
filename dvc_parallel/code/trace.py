"""Which code of a project really runs: a check of what was found by reading.

From Python 3.12 on, each function is noticed once (``sys.monitoring``), which costs
next to nothing.  Before, ``sys.settrace`` looks at every call.  What is run in other
processes, and what was imported before, is not seen.
"""

import os
import sys
import threading
from collections.abc import Sequence
from inspect import CO_OPTIMIZED
from types import CodeType
from typing import Any, Optional

_NAME = "dvc-parallel"


class Trace:
    """Notes which code in some folders runs between its start and its stop.

    Attributes:
        ran: paths of files, each with the first line of what ran in it.
    """

    def __init__(self, roots: Sequence[str]):
        self.ran: set[tuple[str, int]] = set()
        self._roots = tuple(os.path.join(os.path.realpath(root), "") for root in roots)
        self._paths: dict[str, Optional[str]] = {}
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
        self._note(frame.f_code)

    def _note(self, code: CodeType) -> None:
        is_module = code.co_name == "<module>"
        if not (is_module or code.co_flags & CO_OPTIMIZED):
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
            self.ran.add((path_or_none, line))
