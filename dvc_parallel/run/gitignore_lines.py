"""Lines of .gitignore that DVC adds in a run.

Loaded while DVC is half loaded, so that all that it needs is imported as it is called.
"""

import os
from functools import partial
from typing import Callable


def add_entry_to_gitignore(original: Callable, scm, entry: str, gitignore: str) -> None:
    """``scmrepo.git.Git._add_entry_to_gitignore``: add a line, maybe in a command."""
    from dvc_parallel.caches.bookkeeping import current_books
    from dvc_parallel.engine.durable import write_out
    from dvc_parallel.engine.ordered_writes import add_line

    from .stage_run import current_stage_run

    add, books = partial(original, scm, entry), current_books()
    path = os.path.join(os.path.dirname(gitignore), entry.lstrip("/"))
    order = books.order if books else None
    if stage_run := current_stage_run():
        stage_run.order.ignore(add, gitignore, stage_run.job.rank)
    elif order and (rank := order.rank_of_output(path)) is not None:
        order.ignore(add, gitignore, rank)
    else:
        add_line(add, gitignore)
    if books:
        write_out([gitignore])
        books.written.add(os.path.dirname(gitignore))
