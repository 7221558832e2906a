"""How long ``dvc repro -j`` takes, next to serial DVC and to other tools.

    workloads   what there is to do                (model.py, workloads.py)
    formats     ... as each tool wants it written  (formats.py)
    tools       who does it                        (tools.py, installs.py)
    servers     what some of them need to be there (dask_cluster.py,
                                                   orchestrators.py)
    harness     rounds of fresh projects           (harness.py, project.py, process.py)
    results     what was measured, as JSON         (results.py)
    table, plot for people                         (table.py, plot.py)

See ``python -m benchmarks --help``.
"""
