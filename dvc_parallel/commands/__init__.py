"""Commands of ``dvc-parallel`` that DVC does not have.

    cli ── parsers
           deps_command ────── undeclared, stage_edits, trace
           logs_command
           plan_command ────── dry_run, forecast
           pools_command
           report_command
           repro_watch ─────── watched_files
           validate_command ── workspace_copy
           watch_command
           doctor_command
           merge_driver

All but repro_watch and the last two go through ``dvc.cli``: errors, ``-q``, ``-v``,
``--cd`` and completion are DVC's.
Imports all rooms; nothing here imports DVC before the hook is in place.
"""
