"""The least that gives ``repro --jobs``: stages of a plan run at the same time.

    executor ── plan, outcome        what may start, what has become of each stage
       │
      job ───── repo_lock            one thread at a time owns the repo
       ├─────── runner               where commands run: local_runner(supervisor)
       ├─────── reporter             who is told (plain_reporter)
       └─────── ordered_writes ── lockfile ── atomic ── durable

Imports no other room.  Other rooms import all of it but outcome and thread_pool.
"""

import logging

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")
