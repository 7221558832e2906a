"""What Airflow, Prefect and Dagster need to be there before a run begins.

Their servers listen on the loopback interface only, and tell nobody that they are used.
"""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException

from .process import Place, RunError, none_left, run

# Seconds until all of it is there, which is a multiple on a machine that is busy.
LIMIT = 300.0
HOST = "127.0.0.1"


@contextmanager
def airflow(place: Place) -> Iterator[dict[str, str]]:
    """An API server and a scheduler that has read the DAG, with SQLite.

    NOTE: not `airflow standalone`, whose servers of logs listen on all interfaces.

    Yields:
        dict: variables for what triggers the DAG.

    Raises:
        RunError: they are not there in time.
    """
    place.folder.mkdir()
    port = free_port()
    url = f"http://{HOST}:{port}"
    env = {
        **place.env,
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(place.jobs),
        "AIRFLOW__CORE__PARALLELISM": str(place.jobs),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # Else tasks fail on a machine that is busy, after five seconds.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # Its processes have titles, which must not overwrite the mark of the run.
        "SPT_NOENV": "1",
    }
    program = str(place.bin_dir / "airflow")
    commands = [[program, "db", "migrate"], [program, "dags", "reserialize"]]
    run(commands, place.folder, env, LIMIT)
    servers = [[program, "api-server"], [program, "scheduler", "--skip-serve-logs"]]
    healthy = "/api/v2/monitor/health", '"scheduler":{"status":"healthy"'
    with _running(servers, env, place, port, *healthy):
        yield {"AIRFLOW_URL": url}


@contextmanager
def prefect(place: Place) -> Iterator[dict[str, str]]:
    """A server with SQLite.

    Yields:
        dict: variables by which flows find it.

    Raises:
        RunError: it is not there in time.
    """
    place.folder.mkdir()
    port = free_port()
    private = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    program = str(place.bin_dir / "prefect")
    server = [program, "server", "start", "--host", HOST, "--port", str(port)]
    env = {**place.env, **private}
    with _running([server], env, place, port, "/api/health", "true"):
        yield {**private, "PREFECT_API_URL": f"http://{HOST}:{port}/api"}


@contextmanager
def dagster(place: Place) -> Iterator[dict[str, str]]:
    """An instance: a folder. Nothing runs.

    Yields:
        dict: variables for it, and for the number of processes.
    """
    place.folder.mkdir()
    settings = place.folder / "dagster.yaml"
    settings.write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    yield {
        "DAGSTER_HOME": str(place.folder),
        "DAGSTER_MULTIPROCESS_EXECUTOR_MAX_CONCURRENT": str(place.jobs),
    }


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


@contextmanager
def _running(
    commands: Sequence[Sequence[str]],
    env: Mapping[str, str],
    place: Place,
    port: int,
    path: str,
    text: str,
) -> Iterator[None]:
    """Servers, as soon as one of them answers with a text."""
    with ExitStack() as stack, none_left(env) as marked:
        log = stack.enter_context(open(place.folder / "log", "w+", errors="replace"))
        # To leave one is to wait for it, once it has been killed.
        servers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=place.folder,
                    env=marked,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
            for command in commands
        ]
        until = time.monotonic() + LIMIT
        while text not in _answer(port, path):
            ended = any(server.poll() is not None for server in servers)
            if ended or time.monotonic() > until:
                log.seek(0)
                last = log.read().strip()[-200:]
                raise RunError(f"its servers did not start: {last}")
            time.sleep(0.1)
        yield


def _answer(port: int, path: str) -> str:
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, HTTPException):
        return ""
    finally:
        connection.close()
