"""Nothing that a run has started outlives it.

    LocalRunner(supervisor) ── watchdog    kills what is left when DVC itself is killed
                               orphans     what an earlier run has left
                               stopping    commands that may only take so long
                               measuring   what commands use
    LocalRunner(forks) ─────── fork_server imports packages once for many nodes of Kedro

Imports the engine only.  Other rooms import supervisor, orphans and forks.
"""
