"""What the commands of stages really read and write: ``dvc-parallel deps --trace``.

run.py ── stages, one by one, in a copy of the workspace
   │  strace.py, or audit_hook.py ── what their processes did to files
   v
used_files.py ── what a stage has read and written, by paths that matter (scope.py)
   v
findings.py ── what of that dvc.yaml does not say
"""
