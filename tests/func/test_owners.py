"""Whose the files are that a run replaces."""

import os
import stat

import pytest

USER, TEAM = 54321, 54323
DVC_YAML = """
    stages:
      first:
        cmd: until grep -q second.txt dvc.lock; do sleep 0.05; done; cp in first.txt
        deps: [in]
        outs: [first.txt]
      second: {cmd: cp in second.txt, deps: [in], outs: [second.txt]}
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can work on files of others")
def test_root_works_on_the_checkout_of_a_user(make_project):
    """The lines of .gitignore come in serial order, so that is replaced, too."""
    project = make_project("project", DVC_YAML, {"in": "1"})
    project.write({"dvc.lock": "schema: '2.0'\nstages: {}\n", ".gitignore": "/x\n"})
    for path in [project.path, *project.path.rglob("*")]:
        os.chown(path, USER, TEAM)
    for name in ("dvc.lock", ".gitignore"):
        (project.path / name).chmod(0o660)
    project.dvc("repro", "-j", 2)
    for name in ("dvc.lock", ".gitignore"):
        found = (project.path / name).stat()
        owner = found.st_uid, found.st_gid, oct(stat.S_IMODE(found.st_mode))
        assert owner == (USER, TEAM, "0o660")
