"""What people see, during a run and after it.

    choose_reporters ── live, heartbeat, output_reporters     during a run
                 └───── records.writer ──> .dvc/tmp/parallel/runs
                                records.reader ──> report      after it

Imports the engine only.  Other rooms import choose_reporters, output_settings, records
and report.
"""
