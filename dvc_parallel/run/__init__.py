"""Puts a parallel run together, and what DVC does differently in one.

    parallel_run ── puts the parts of a run together
    stage_run ───── a stage of it: its job, and what it is given
    overrides ───── what stands in for a function of DVC, with saving, stable_reads,
                    refresh, transfers, clone_commands, gitignore_lines

Imports all rooms but backport and commands.  These import parallel_run, stage_run,
overrides and saving.
"""
