"""Stages that do not depend on each other, reproduced at the same time.

Start reading with :mod:`dvc.repo.parallel.executor`.
"""
