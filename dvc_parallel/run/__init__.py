"""Puts a parallel run together, and what DVC does differently in one.

    parallel_run ── what is switched on for a run
    overrides ───── what stands in for a function of DVC, with saving, stable_reads,
                    refresh, transfers, clone_commands, gitignore_lines

Imports all rooms but backport and commands.
"""
