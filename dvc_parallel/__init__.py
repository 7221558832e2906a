"""Parallel stages for DVC: ``dvc repro -j 8``.

Kept empty on purpose: whoever imports ``dvc`` imports it, through ``dvc_parallel.pth``.
"""

__version__ = "0.1.0"
