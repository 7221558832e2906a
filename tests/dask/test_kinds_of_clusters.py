"""Clusters with TLS, and such whose workers come with the tasks.

``DVC_PARALLEL_DASK=1`` runs these.
"""

import os
from textwrap import dedent

import dask
import pytest
from distributed import Security

from tests.support.dask_cluster import phases, worker_of

if not os.environ.get("DVC_PARALLEL_DASK"):
    pytest.skip("takes long; set DVC_PARALLEL_DASK=1", allow_module_level=True)

TLS = "DASK_DISTRIBUTED__COMM__TLS__"


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """The settings that docs/cluster.md has, here and for all processes."""
    made = Security.temporary()
    settings = {"ca-file": made.tls_ca_file}
    for role in ("client", "scheduler", "worker"):
        for what in ("cert", "key"):
            settings[f"{role}.{what}"] = getattr(made, f"tls_{role}_{what}")
    for name, text in settings.items():
        path = tmp_path / f"{name}.pem"
        path.write_text(text)
        settings[name] = str(path)
        variable = name.replace("-", "_").replace(".", "__").upper()
        monkeypatch.setenv(TLS + variable, str(path))
    names = {f"distributed.comm.tls.{name}": path for name, path in settings.items()}
    with dask.config.set(names):
        yield


@pytest.fixture
def project(make_project):
    return make_project(
        dvc_yaml="""
        stages:
          one: {cmd: echo said; echo 1 > one, outs: [one]}
          two: {cmd: cat one one > two, deps: [one], outs: [two]}
        """
    )


def test_tls(tls, make_cluster, project):
    cluster = make_cluster("a", protocol="tls")
    assert cluster.runner.startswith("tls://127.0.0.1:")
    result = project.dvc("repro", "-j", 2, "--runner", cluster.runner)
    assert "one | said" in result.stdout
    assert project.read("two") == "1\n1\n"
    assert worker_of(project, "two") == "a"


@pytest.mark.parametrize("scheme", ["tls", "dask"])
def test_tls_without_a_certificate(tls, make_cluster, project, scheme):
    cluster = make_cluster("a", protocol="tls")
    env = {k: v for k, v in os.environ.items() if not k.startswith(TLS)}
    runner = cluster.runner.replace("tls", scheme)
    result = project.dvc("repro", "--runner", runner, check=False, env=env)
    assert result.returncode == 255
    assert f"runner '{runner}': cannot reach the Dask scheduler" in result.stderr
    assert not project.exists("one")


ADAPTIVE = """
    from distributed import LocalCluster

    def adaptive():
        cluster = LocalCluster(
            n_workers=0, threads_per_worker=1, host="127.0.0.1", memory_limit=0,
            dashboard_address=":0",
        )
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=1)
        return cluster
"""


def test_workers_that_come_with_the_tasks(make_project):
    """Also where the first has gone by the time when there is something to run."""
    wait = "touch ${item}.on; until test -e a.on -a -e b.on; do sleep 0.05; done"
    project = make_project(
        dvc_yaml=f"""
        stages:
          both:
            foreach: [a, b]
            do: {{cmd: "{wait}; echo ${{item}} > ${{item}}", outs: ["${{item}}"]}}
          last: {{cmd: sleep 1; cat a b > last, deps: [a, b], outs: [last]}}
        """,
    )
    project.write({"my_cluster.py": dedent(ADAPTIVE)})
    project.dvc("repro", "-j", 2, "--runner", "dask:my_cluster.adaptive")
    assert project.read("last") == "a\nb\n"
    workers = {worker_of(project, name) for name in phases(project)}
    assert len(workers) >= 2
