"""Commands on the workers of a Dask cluster.

    coordinator                     scheduler               worker
    run() ── submit ──────────────────> task ────────────────> work()
               announcement <───────────────────────────────── waits for permission
    Channel ── exchange: permission ────────────────────────> Session ──> command
               exchange <── output, end ──────────────────────
               exchange ── received, consumed, signals ──────>
                                                            watchdog: kills, if the
                                                            lease is over

Dask decides where a command runs and when: each is a task, which keeps one of the
worker's threads.  All else goes by *exchanges*, requests to the worker that it answers
when it has news, or after a while.  They go through the scheduler, so workers need no
further ports, and Dask's TLS holds for them.  Requests and replies say all that there
is to say, not what is new, so each of them can be lost.

A command runs at most once.  When Dask loses a worker, it starts the task anew on
another one; but only the first to announce it gets a permission.

No command outlives what is known of it.  A worker has a *lease*, which each exchange
renews, for ``lease`` seconds after the reply that the coordinator is known to have got.
When it is over, the commands are killed, by a process that needs neither network nor
Dask (:mod:`dvc_parallel.processes.watchdog`).  So the coordinator, that long after the
last reply it got, knows that they are dead (C. G. Gray and D. R. Cheriton, Leases: An
Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency, SOSP 1989).

A coordinator that sleeps hears nothing, but could: while Dask wants its tasks, a worker
has the scheduler take note that it is there, and that renews the lease as well.  So the
coordinator gives up a worker only when the scheduler tells it, after a whole lease,
that there is no new note.  One that comes later is of a lease that is over, and renews
nothing.  The worker's clock counts time for which its machine sleeps; so it cannot wake
up with a lease that others have seen end.

What is under way is bounded: a command that has printed ``window`` bytes more than have
been dealt with has to wait.
"""
