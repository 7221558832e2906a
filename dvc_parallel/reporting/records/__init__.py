"""Records of runs: what happened when, and what the stages printed.

Each run has a folder, ``.dvc/tmp/parallel/runs/<ID>``, the ID being the time in UTC and
four letters::

    journal.jsonl           what happened, a JSON object a line
    logs/0003-train@svm.log what a stage printed, as it printed it

The first line of a journal tells what is to be run: ``format`` (2), ``id``, ``started``
(ISO 8601), ``jobs``, ``on_error``, ``command``, ``pid``, ``dvc``, ``dvc_parallel``, and
``stages`` in the order of serial DVC, each with its ``name``, the places in this list
of those that it depends on (``upstream``) or comes ``after``, and the ``seconds`` that
it took in earlier runs, or null.

Then, each ``{"t": seconds since the start, "stage": place, "phase": name}`` is the
beginning of a phase (:class:`~dvc_parallel.engine.reporter_events.Phase`), with its
details, such as the ``worker`` that a ``command`` runs on, if not on the machine of
DVC, how many ``seconds`` a stage took, and for how many it ``owned`` the repo, or what
the command before it has ``used`` (:class:`~dvc_parallel.engine.usage.Usage`).  The
last line is ``{"t": ..., "end": "ok" | "failed" | "interrupted", "seconds": how long
the run took}``; it is missing while the run goes on, and for good if DVC was killed.
"""

from .reader import Run, Runs, Stage

__all__ = ["Run", "Runs", "Stage"]
