"""A worker that knows nothing of the coordinator but what comes in by a pipe."""

import os
import pickle
import sys
import threading
from contextlib import closing
from functools import partial

from dvc_parallel.backport.clone_carrier import perform
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.processes.supervisor import RunSupervisor


def main(folder):
    requests = sys.stdin.buffer
    # NOTE: whatever else is printed here goes to stderr
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    guard = threading.Lock()

    def answer(*message):
        with guard:
            pickle.dump(message, answers)
            answers.flush()

    with closing(LocalRunner(RunSupervisor())) as runner:
        while True:
            try:
                request = pickle.load(requests)
            except EOFError:
                break
            try:
                result = perform(request, folder, partial(answer, "output"), runner)
            except Exception as exc:  # noqa: BLE001
                answer("error", exc)
            else:
                answer("result", result)


if __name__ == "__main__":
    main(sys.argv[1])
