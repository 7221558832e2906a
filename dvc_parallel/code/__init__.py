"""Which code something uses: a function, a module, a script.

    closure ── summary ── canonical     trace: what really ran
               places, harmless         command_line: which scripts a command runs

It reads the source, and runs nothing.  A :class:`Project` gives the :class:`Closure` of
some entries: the definitions that they can come to, and the versions of the packages.
When in doubt, code counts.  The standard library is all that this room needs.
"""

from .closure import Closure, CodeError, Project, keep

__all__ = ["Closure", "CodeError", "Project", "keep"]
