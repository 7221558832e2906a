"""Commands on other machines.

    choose_runner ── slurm           with a shared workspace
          │          dask            with a shared workspace, or with
          │          clones          a clone of the repo on each worker
     entry points                    runners of other packages

Imports the engine, the supervisor of processes, and caches for the DVC of a worker.
Other rooms import choose_runner, and clones but for its pool.
"""

# Names of the runner on this machine, and of a cluster on it for the time of the run.
LOCAL = "local"
DASK = "dask"
# Jobs of Slurm.
SLURM = "slurm"
