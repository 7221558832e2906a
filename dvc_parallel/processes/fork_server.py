"""A process that forks others of one Python script, with what they import imported.

The first of them start with nothing imported, and say at their end what they have
imported.  Modules that are installed are imported here before the next one is forked;
the project's own never are, nor is the package that the script is of.  So a fork does
all that the script does, and only finds installed modules loaded already.

A fork is the head of a session of its own, and waits for what it has to run: arguments,
environment, folder and descriptors.

Run as a script, by the Python of that other script, this needs nothing but Python, on
Linux.  It has one end of a pair of sockets, and nobody else can reach it.  It ends when
the other end is closed.
"""

import ctypes
import fcntl
import gc
import importlib
import inspect
import json
import os
import select
import signal
import site
import socket
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from types import ModuleType
from typing import IO, Callable, Optional

# What is said instead of a process ID: a file of what is imported has changed, or
# nothing can be forked any more.
STALE = b"stale"
UNFIT = b"unfit: "
# Descriptors of a message: the system allows no more.
MOST = 253
# Bytes of the length of what a fork has to run, which that follows.
LENGTH = 8
# Packages that are not imported, besides the one of the script.
OURS = "dvc_parallel"
# Of prctl(2): have the system send a signal when the parent ends.
_PR_SET_PDEATHSIG = 1
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # type: ignore[attr-defined]


def _installed_in() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {paths[name] for name in names} | {*site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        folders.add(site.getusersitepackages())
    return tuple(os.path.join(folder, "") for folder in folders)


class Server:
    """Imports and forks.

    Args:
        control: a byte with a descriptor, the channel of a fork, comes for each fork.
        script: what forks run.
    """

    def __init__(self, control: socket.socket, script: str):
        self._control = control
        self._script = script
        # NOTE: the package of the script may look at the folder that it is imported in
        self._left_out = os.path.basename(script)
        self._began = time.time_ns()
        self._installed = _installed_in()
        self._wanted: dict[str, None] = {}  # in the order in which forks imported them
        self._files: dict[str, Optional[tuple]] = {}  # what they were like
        self._channels: dict[int, socket.socket] = {}  # by process ID
        self._reports: dict[int, IO] = {}
        self._ended: set[int] = set()
        self._woken, self._wake = os.pipe()
        for fd in (self._woken, self._wake):
            os.set_blocking(fd, False)  # type: ignore[attr-defined]
        # NOTE: forks get these, too; this one has to tell how they have ended
        self._handlers = {s: signal.signal(s, signal.SIG_IGN) for s in IGNORED}
        signal.signal(signal.SIGCHLD, lambda *_: None)  # type: ignore[attr-defined]
        signal.set_wakeup_fd(self._wake)

    def serve(self) -> "Fork":
        """Serve until the end; only a fork returns."""
        closed = False
        while not closed or self._channels:
            by_fd = {sock.fileno(): pid for pid, sock in self._channels.items()}
            poll = select.poll()  # type: ignore[attr-defined]
            for fd in by_fd:
                # NOTE: what comes there is for the fork; its end is for this process
                poll.register(fd, select.POLLRDHUP)  # type: ignore[attr-defined]
            for fd in (self._woken, *([] if closed else [self._control.fileno()])):
                poll.register(fd, select.POLLIN)  # type: ignore[attr-defined]
            for fd, _ in poll.poll():
                if fd == self._woken:
                    os.read(self._woken, 4096)
                    self._tell_ends()
                elif fd in by_fd:
                    self._forget(by_fd[fd])
                else:
                    said, fds, _, _ = socket.recv_fds(self._control, 1, 1)  # type: ignore[attr-defined]
                    closed = not said
                    fork = self._answer(socket.socket(fileno=fds[0])) if fds else None
                    if fork:
                        return fork
        # NOTE: not by way of tearing down what thousands of modules have
        os._exit(0)

    def _answer(self, channel: socket.socket) -> Optional["Fork"]:
        """Fork, or say why not; returns something in the fork alone."""
        said = self._import_wanted() or (STALE if self._is_stale() else None)
        if said:
            with suppress(OSError):
                channel.sendall(said)
            channel.close()
            return None
        report = tempfile.TemporaryFile()  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # NOTE: else each fork would copy them all when it looks for garbage
        gc.collect()
        gc.freeze()
        own = os.getpid()
        with warnings.catch_warnings():
            # NOTE: threads of libraries for linear algebra are ready for a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()  # type: ignore[attr-defined]
        if pid:
            self._channels[pid], self._reports[pid] = channel, report
            return None
        os.setsid()  # type: ignore[attr-defined]
        # NOTE: nobody would know any more how it ends
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # type: ignore[attr-defined]
        if os.getppid() != own:
            os._exit(1)
        for sock in (self._control, *self._channels.values()):
            sock.close()
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wake)
        for other in self._reports.values():
            other.close()
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # type: ignore[attr-defined]
        return Fork(channel, report, self._script, self._is_to_be_imported)

    def _is_to_be_imported(self, name: str) -> bool:
        package = name.partition(".")[0]
        if package == OURS or package.partition("_")[0] == self._left_out:
            return False
        path = getattr(sys.modules[name], "__file__", None) or ""
        return path.startswith(self._installed)

    def _import_wanted(self) -> Optional[bytes]:
        """Import what forks have had to import; return why that makes unfit."""
        wanted, self._wanted = self._wanted, {}
        for name in wanted:
            with suppress(Exception, SystemExit):
                importlib.import_module(name)
            if self._left_out in sys.modules:
                return UNFIT + f"'{name}' imports {self._left_out}".encode()
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate()[1:])
            return UNFIT + f"what is imported starts threads: {names}".encode()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if path and path not in self._files:
                self._files[path] = _stamp(path)
        # NOTE: else each fork would resolve the paths of all modules, as the package
        # that reads Kedro's settings asks for its callers
        inspect.getmodule(sys._getframe(), "<nothing>")
        for folder in site.getsitepackages():
            self._files.setdefault(folder, _stamp(folder))
        return None

    def _is_stale(self) -> bool:
        """Whether a file may not be what has been imported of it."""
        return any(
            _stamp(path) != stamp or (stamp and stamp[0] > self._began)
            for path, stamp in self._files.items()
        )

    def _tell_ends(self) -> None:
        """Tell how forks have ended.

        Their numbers are not given out again before the other side has closed its side
        of the channel, as it sends signals to them.
        """
        for pid, channel in list(self._channels.items()):
            if pid in self._ended:
                continue
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT  # type: ignore[attr-defined]
            found = os.waitid(os.P_PID, pid, flags)  # type: ignore[attr-defined]
            if found is None:
                continue
            self._ended.add(pid)
            with suppress(ValueError), self._reports.pop(pid) as report:
                report.seek(0)
                self._wanted.update(dict.fromkeys(json.load(report)))
            code = found.si_status
            exited = found.si_code == os.CLD_EXITED  # type: ignore[attr-defined]
            with suppress(OSError):
                channel.sendall(b"%d" % (code if exited else -code))

    def _forget(self, pid: int) -> None:
        """Reap a fork, and tell what it has used."""
        self._ended.discard(pid)
        if report := self._reports.pop(pid, None):
            report.close()
        used = os.wait4(pid, 0)[2]  # type: ignore[attr-defined]
        with self._channels.pop(pid) as channel, suppress(OSError):
            channel.sendall(json.dumps(used).encode())


def _stamp(path: str) -> Optional[tuple]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino


class Fork:
    """A process that runs the script, in that process.

    Args:
        channel: what to run comes there.
        report: where to write what has been imported.
        is_wanted: whether a module of a name is one to write there.
    """

    def __init__(
        self,
        channel: socket.socket,
        report: IO,
        script: str,
        is_wanted: Callable[[str], bool],
    ):
        self._channel = channel
        self._report = report
        self._script = script
        self._is_wanted = is_wanted
        self._known = {*sys.modules}

    def run(self) -> None:
        """Wait for what to run, and run it."""
        self._channel.sendall(b"%d" % os.getpid())
        head, fds, _, _ = socket.recv_fds(self._channel, LENGTH, MOST)  # type: ignore[attr-defined]
        if not head:
            os._exit(0)
        with self._channel.makefile("rb") as file:
            what = json.loads(file.read(int.from_bytes(head, "big")))
        self._channel.close()
        self._be(what, fds)
        main = ModuleType("__main__")
        main.__file__ = self._script
        sys.modules["__main__"] = main
        try:
            # NOTE: runpy would be seen by what looks at its callers
            with open(self._script, "rb") as file:
                code = file.read()
            exec(compile(code, self._script, "exec"), vars(main))  # noqa: S102
        except Exception as exc:  # noqa: BLE001
            # NOTE: from the script on, as if that had been started
            trace = exc.__traceback__
            while trace and trace.tb_frame.f_code.co_filename != self._script:
                trace = trace.tb_next
            sys.excepthook(type(exc), exc.with_traceback(trace), trace)
            sys.exit(1)
        finally:
            self._tell_modules()

    def _be(self, what: dict, fds: list) -> None:
        """Be a process that has been started in this way."""
        # NOTE: out of the way first, as one may have the number that another has to get
        above = max(what["descriptors"]) + 1
        fds = [self._report.fileno(), *fds]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]  # type: ignore[attr-defined]
        self._report.close()
        for fd in fds[1:]:
            os.close(fd)
        self._report = open(high[0], "w")  # noqa: SIM115
        for fd, number in zip(high[1:], what["descriptors"]):
            os.dup2(fd, number)
            os.close(fd)
        os.chdir(what["cwd"])
        os.environ.clear()
        os.environ.update(what["env"])
        sys.argv[:] = what["args"]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[1:] = what["args"]
        importlib.invalidate_caches()
        # NOTE: Python sees to its own random numbers
        if numpy_random := sys.modules.get("numpy.random"):
            numpy_random.seed()

    def _tell_modules(self) -> None:
        names = [name for name in list(sys.modules) if name not in self._known]
        with suppress(OSError), self._report as file:
            json.dump([*filter(self._is_wanted, names)], file)


def main() -> None:
    control, script = sys.argv[1:]
    # NOTE: as for the script itself
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    Server(socket.socket(fileno=int(control)), script).serve().run()


if __name__ == "__main__":
    main()
