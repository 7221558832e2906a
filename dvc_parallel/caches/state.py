"""Keeping the state database open.

DVC closes it around every command, and a part of it whenever it writes there.  With
the last connection, sqlite moves its log back into the database and syncs both; that
takes longer than all that a small stage has to say to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from dvc_data.hashfile.state import StateBase


@contextmanager
def state_kept_open(state: "StateBase") -> Iterator[Callable[[], None]]:
    """Let each thread keep its connections, of which it has its own.

    Other processes can use the database meanwhile, as it is in WAL mode.

    Yields:
        function that closes those of the thread that calls it.
    """
    databases = [vars(state)[key] for key in ("hashes", "links") if key in vars(state)]
    closes = [database.close for database in databases]

    def close() -> None:
        for close_database in closes:
            close_database()

    for database in databases:
        database.close = _leave_open
    try:
        yield close
    finally:
        for database in databases:
            del database.close
        close()


def _leave_open() -> None:
    pass
