"""Commands on other machines.

    choose_runner ── dask            with a shared workspace, or with
          │          clones          a clone of the repo on each worker
     entry points                    runners of other packages

Imports the engine, and what stages are given (scheduling), their processes (processes)
and output (reporting).
"""

# Names of the runner on this machine, and of a cluster on it for the time of the run.
LOCAL = "local"
DASK = "dask"
