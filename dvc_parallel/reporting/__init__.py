"""What people see, during a run and after it.

    choose_reporters ── live, heartbeat, output_reporters,    during a run
                 │      ci_log; at its end, notify
                 └───── records.writer ──> .dvc/tmp/parallel/runs
                                records.reader ──> report      after it

Imports the engine only.  Other rooms import choose_reporters, ci_log, notify,
output_settings, records and report.
"""
