"""Parallel stages for DVC: ``dvc repro -j 8``.

Kept empty on purpose: every interpreter of the environment imports it at
start-up, through ``dvc_parallel.pth``.
"""

__version__ = "0.1.0"
