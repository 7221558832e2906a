"""Each command a Slurm job, in the workspace, which the nodes share.

    choose_runner ── slurm_runner ── client    sbatch, squeue, sacct, scancel
                          ├────────── script    what a job does
                          └────────── records   what the next run needs to take jobs up

A job goes on when DVC ends.  What is known of it is in ``.dvc/tmp/parallel/slurm``,
with a folder for each stage, and one in that for each job.
"""
