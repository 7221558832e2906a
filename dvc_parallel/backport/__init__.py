"""All that exists only because released DVC has no ``repro --jobs``.

    dvc_parallel.pth ──> hook ──> seams ──> seam
    repro ──────── Repo.reproduce: what a run is asked for
    dvc_cli, config   options of the command line and of the config
    before_3_6, clone_carrier

Imports all rooms but commands.  Commands import hook, seams, repro and config.  No
other room asks for DVC's version.
"""
