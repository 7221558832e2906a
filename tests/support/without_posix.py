"""Run DVC with a plugin that sees a system without what only POSIX has.

As far as that can be had elsewhere than on Windows: names that Windows lacks are
missing in the modules that the plugin imports, and ``sys.platform`` and ``os.name`` are
those of Windows.  Others see the system as it is, and so do commands.
"""

import builtins
import os
import signal
import subprocess
import sys

OS = """
    O_ACCMODE O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK chown confstr ctermid fchmod
    fchown fork getegid geteuid getgid getgroups getloadavg getpgid getpgrp getsid
    getuid getxattr killpg lchown listxattr major makedev minor mkfifo mknod nice
    openpty pidfd_open posix_spawn pread pwrite removexattr sched_getaffinity setgid
    setpgid setsid setuid setxattr statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname
    uname wait3 wait4
"""
SIGNALS = """
    SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN
    SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH alarm pthread_kill pthread_sigmask setitimer
    siginterrupt sigwait
"""
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}


class Without:
    """A module without some names, and with other values of some."""

    def __init__(self, module, names="", **others):
        vars(self).update(others, _module=module, _names=set(names.split()))

    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(f"Windows has no {name}")
        return getattr(self._module, name)


def main():
    import select

    fakes = {
        "os": Without(os, OS, name="nt", supports_dir_fd=set(), supports_fd=set()),
        "select": Without(select, "epoll poll"),
        "signal": Without(signal, SIGNALS, CTRL_BREAK_EVENT=signal.SIGINT),
        "sys": Without(sys, platform="win32"),
    }
    subprocess.CREATE_NEW_PROCESS_GROUP = 0
    real = builtins.__import__

    def import_there(name, *args, **kwargs):
        importer = args[0].get("__name__", "") if args and args[0] else ""
        if importer.startswith("dvc_parallel"):
            if name in MODULES:
                raise ModuleNotFoundError(f"Windows has no {name}")
            if name in fakes:
                return fakes[name]
        return real(name, *args, **kwargs)

    builtins.__import__ = import_there
    from dvc.cli import main as dvc_main

    return dvc_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
