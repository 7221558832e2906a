"""A real Slurm on the loopback interface, for the time of a test session.

Its daemons run in the foreground with files and ports of their own, without systemd,
cgroups, accounts or a hostname that resolves: they get one that is "localhost".
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from tests import HANGS, is_alive, wait_until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "unshare")
SBIN = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
MISSING = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
WHY_NOT = (
    f"no {', '.join(MISSING)}: apt-get install slurmctld slurmd slurm-client munge"
    if MISSING
    else "unshare --uts needs root"
    if os.geteuid()
    else None
)

CONFIG = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
MailProg=/bin/true
AuthInfo=socket={home}/munge.sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=64
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
KillWait=2
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE
"""


class Cluster:
    """A controller and some nodes of 8 CPUs, which ``start`` starts.

    Attributes:
        env: what Slurm's commands need to find it.
    """

    def __init__(self, nodes: int = 3):
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        # NOTE: a short path, as there are sockets in it
        self.home = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.env = {"SLURM_CONF": str(self.home / "slurm.conf")}

    def start(self) -> None:
        port, home = _free_ports(len(self.nodes) + 1), self.home
        for name in ("state", "spool"):
            (home / name).mkdir()
        home.chmod(0o711)
        node = "NodeName={} NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs=8"
        nodes = [
            f"{node.format(name, port + number)} RealMemory=4096"
            for number, name in enumerate(self.nodes, 1)
        ]
        config = CONFIG.format(port=port, home=home, nodes="\n".join(nodes))
        (home / "slurm.conf").write_text(config)
        key = home / "munge.key"
        key.write_bytes(os.urandom(256))
        key.chmod(0o600)
        self._start(
            *("munged", "-F", f"--key-file={key}", f"--socket={home}/munge.sock"),
            *(f"--pid-file={home}/munged.pid", f"--seed-file={home}/seed"),
            f"--log-file={home}/munged.log",
        )
        wait_until((home / "munge.sock").exists)
        self.start_controller("-c")
        for name in self.nodes:
            self.start_node(name)
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        def idle():
            told = self.call(
                "sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N"
            )
            return len(told.split()) == len(self.nodes)

        wait_until(idle)

    def settle(self) -> None:
        """End what earlier tests have left, and have all nodes take jobs again.

        A controller that has forgotten a job takes the node that runs it out of use.
        """
        self.call("scancel", "--user=root")
        for name in self.nodes:
            self.call("scontrol", "update", f"nodename={name}", "state=resume")
        self.wait_for_nodes()

    def start_controller(self, *args: str) -> None:
        self._start("slurmctld", "-D", *args)
        wait_until(lambda: "is UP" in self.call("scontrol", "ping"))

    def kill_controller(self) -> None:
        """End it as a crash does, which loses what it was told in the last seconds."""
        self._end("slurmctld", signal.SIGKILL)

    def start_node(self, name: str) -> None:
        self._start("slurmd", "-D", "-N", name, name=name)

    def kill_slurmd(self, name: str) -> None:
        """Have Slurm lose sight of a node whose jobs go on."""
        self._end(name, signal.SIGKILL)

    def kill_node(self, name: str) -> None:
        """End all on a node, as a power cut does."""
        self.kill_slurmd(name)
        self._kill_strays(name)

    def call(self, *command: str, check: bool = False) -> str:
        return subprocess.run(
            command,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=check,
            text=True,
            timeout=HANGS,
        ).stdout

    def jobs(self, form: str = "%A %j %T") -> list[str]:
        return self.call("squeue", "-h", "-t", "all", "-o", form).splitlines()

    def stop(self) -> None:
        self.call("scancel", "--user=root")
        for name in [*self.nodes, "slurmctld", "munged"]:
            self._end(name, signal.SIGKILL)
            if name in self.nodes:
                self._kill_strays(name)
        shutil.rmtree(self.home, ignore_errors=True)

    def _start(self, *command: str, name: str = "") -> None:
        pid_file = self._pid_file(name or command[0])
        # NOTE: Slurm listens where the name of the host leads
        script = 'hostname localhost; echo $$ > "$0"; exec "$@"'
        with open(self.home / "daemons.out", "ab") as out:
            # NOTE: in the background, so that it is no child of a test
            subprocess.run(
                [
                    *("setsid", "--fork", "unshare", "--uts", "sh", "-c", script),
                    *(str(pid_file), *command),
                ],
                env={**os.environ, **self.env, "PATH": SBIN, "TESTS_NODE": name},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=True,
            )
        wait_until(lambda: pid_file.exists() and pid_file.read_text().strip())

    def _end(self, name: str, signum: int) -> None:
        pid_file = self._pid_file(name)
        if pid_file.exists():
            pid = int(pid_file.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            wait_until(lambda: not is_alive(pid))
            pid_file.unlink()

    def _pid_file(self, name: str) -> Path:
        return self.home / f"{name}.daemon"

    def _kill_strays(self, node: str) -> None:
        """Kill what a node runs, by its environment."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                env = process.environ()
                names = env.get("TESTS_NODE"), env.get("SLURMD_NODENAME")
                if env.get("SLURM_CONF") == self.env["SLURM_CONF"] and node in names:
                    parents = process.parents()
                    found += [p for p in parents if p.name() == "slurmstepd"]
                    found.append(process)
        # NOTE: nobody is to live to tell of it
        for act in (psutil.Process.suspend, psutil.Process.kill):
            for process in found:
                with contextlib.suppress(psutil.Error):
                    act(process)


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens to."""
    for first in range(20000 + os.getpid() % 1000 * 10, 60000, 16):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return first
            except OSError:
                time.sleep(0)
    raise OSError("no ports")
