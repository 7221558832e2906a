"""With programs that only look like those of the orchestrators."""

import json
import os
import subprocess
import sys
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from benchmarks import formats, orchestrators
from benchmarks.process import Place, RunError
from benchmarks.workloads import cp_fan

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are found in /proc"
)
# Tells how it was called; a server says that all is well.
FAKE = f"""#!{sys.executable}
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

command, port = sys.argv[1], os.environ.get("AIRFLOW__API__PORT", sys.argv[-1])
with open(f"{{command}}.json", "w") as file:
    json.dump([sys.argv[1:], dict(os.environ)], file)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'true, "scheduler":{{"status":"healthy"}}')


if command in ("api-server", "server"):
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
if command == "scheduler":
    signal.pause()
"""


@pytest.fixture
def place(tmp_path):
    for name in ("airflow", "prefect"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(0o755)
    env = {"PATH": os.environ["PATH"]}
    return Place(tmp_path, env, tmp_path / "project", tmp_path / "servers", jobs=3)


def called(place, command):
    return json.loads((place.folder / f"{command}.json").read_text())


def answers(url):
    host, _, port = url.split("/")[2].partition(":")
    connection = HTTPConnection(host, int(port))
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


@needs_proc
def test_airflow(place):
    with orchestrators.airflow(place) as more:
        url = more["AIRFLOW_URL"]
        assert url.startswith("http://127.0.0.1:")
        assert answers(url)
        _, env = called(place, "api-server")
        assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
        assert env["AIRFLOW__CORE__DAGS_FOLDER"] == str(place.root / "dags")
        assert env["AIRFLOW__CORE__PARALLELISM"] == "3"
    assert not answers(url)
    # Otherwise, it listens on all interfaces.
    assert called(place, "scheduler")[0] == ["scheduler", "--skip-serve-logs"]
    assert called(place, "db")[0] == ["db", "migrate"]
    assert called(place, "dags")[0] == ["dags", "reserialize"]


@needs_proc
def test_prefect(place):
    with orchestrators.prefect(place) as more:
        url = more.pop("PREFECT_API_URL")
        assert answers(url)
        args, env = called(place, "server")
        assert args[:4] == ["server", "start", "--host", "127.0.0.1"]
        assert more == {
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        assert more.items() <= env.items()
    assert not answers(url)


def test_dagster(place):
    with orchestrators.dagster(place) as more:
        assert more["DAGSTER_HOME"] == str(place.folder)
        assert more["DAGSTER_MULTIPROCESS_EXECUTOR_MAX_CONCURRENT"] == "3"
    assert "enabled: false" in (place.folder / "dagster.yaml").read_text()


@needs_proc
@pytest.mark.parametrize("name", ["airflow", "prefect"])
def test_servers_that_do_not_start(place, name):
    (place.bin_dir / name).write_text("#!/bin/sh\necho no room >&2; exit 1\n")
    with pytest.raises(RunError, match="no room"):
        getattr(orchestrators, name)(place).__enter__()


class Airflow(BaseHTTPRequestHandler):
    def __init__(self, state, *args):
        self.state = state
        super().__init__(*args)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/api/v2/dags/workload/dagRuns"
        self.send_response(200 if right and json.loads(body) else 404)
        self.end_headers()

    def do_GET(self):
        right = self.path.startswith("/api/v2/dags/workload/dagRuns/run/wait?")
        self.send_response(200 if right else 404)
        self.end_headers()
        for state in ("queued", "running", self.state):
            self.wfile.write(json.dumps({"state": state}).encode() + b"\n")


@pytest.mark.parametrize("state, status", [("success", 0), ("failed", 1)])
def test_what_triggers_the_dag_waits_for_its_end(tmp_path, state, status):
    script = tmp_path / "trigger.py"
    script.write_text(formats.airflow(cp_fan(1))["trigger.py"])
    with HTTPServer(("127.0.0.1", 0), partial(Airflow, state)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        env = {**os.environ, "AIRFLOW_URL": url, "no_proxy": "127.0.0.1"}
        done = subprocess.run([sys.executable, script], env=env, check=False)
        server.shutdown()
        thread.join()
    assert done.returncode == status
