"""Run an example with serial ``dvc repro`` and with ``dvc repro -j N``.

    python3 examples/demo.py

Needs Python 3.9+ and git, and the network for the first call, which installs DVC
and this package into .venv-demo of the clone. Both runs start from a fresh copy of
the example and share no cache. The exit code is 1 if they do not leave the same.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Examples, and a stage of each whose log is worth a look.
EXAMPLES = {"training": "train@svm", "sessions": "merge"}
VENV = ROOT / ".venv-demo"
DVC = "dvc==3.67.1"
INSTALLED = (
    "pyproject.toml",
    "*.pth",
    "dvc_parallel/**/*.py",
    "examples/*/requirements.txt",
)


class DemoError(Exception):
    """Why the demo cannot go on, in one line."""


def say(text=""):
    # NOTE: flushed, as commands write to the same terminal
    print(text, flush=True)


def count_cpus():
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--example", choices=EXAMPLES, default="training")
    parser.add_argument(
        "-j",
        "--jobs",
        type=positive,
        default=max(2, count_cpus()),
        metavar="<number>",
        help="stages to run simultaneously (default: the number of CPUs: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the projects of the two runs, and say what to try there",
    )
    return parser.parse_args(argv)


def check_system():
    """Raise DemoError if something is missing that pip cannot install."""
    if sys.version_info < (3, 9):  # noqa: UP036  # it is the user's Python
        version = ".".join(map(str, sys.version_info[:2]))
        raise DemoError(f"needs Python 3.9 or newer, this is Python {version}")
    if shutil.which("git") is None:
        raise DemoError("needs git, which is not installed or not in PATH")


def run_quietly(command, what):
    """Run a command; show what pip is about, and all last words only if it fails."""
    lines = ["no output"]
    packages = 0
    with subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if line.strip():
                lines.append(line.strip())
            if word == "Collecting":
                packages += 1
                show_progress(f"  package {packages}: {rest}")
            elif line.startswith("Installing collected packages:"):
                show_progress(f"  unpacking {rest.count(',') + 1} packages ...", True)
    if process.returncode:
        errors = [line for line in lines if line.startswith("ERROR:")]
        raise DemoError(f"{what}: {(errors or lines)[-1]}")


def show_progress(text, lasting=False):
    """Show what goes on: in one line of a terminal; elsewhere, only what is lasting."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{text[:width]}", end="\n" if lasting else "", flush=True)
    elif lasting:
        say(text)


def fingerprint(root):
    """Tell one state of what is to be installed from another."""
    digest = hashlib.sha256(f"{sys.version} {DVC}".encode())
    for pattern in INSTALLED:
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def install(example):
    """Install the clone and what the example needs, unless it is there already."""
    wanted = fingerprint(ROOT)
    installed = VENV / f"installed-{example}"
    for path in VENV.glob("installed-*"):
        if path.read_text() != wanted:
            path.unlink()
    if installed.exists():
        return

    requirements = ROOT / "examples" / example / "requirements.txt"
    also = requirements.read_text().split() if requirements.exists() else []
    say(f"Installing into {VENV.name}: {', '.join([DVC, 'this clone', *also])}.")
    say("Some 100 packages, up to 500 MB: it takes a minute or two, and only once.")
    version = "python{}.{}".format(*sys.version_info)
    if not (VENV / "lib" / version / "site-packages" / "pip").exists():
        run_quietly(
            [sys.executable, "-m", "venv", "--clear", VENV],
            "cannot make a virtual environment (Debian, Ubuntu: python3-venv)",
        )
    (VENV / ".gitignore").write_text("*\n")
    command = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--retries=2",
        ROOT,
        DVC,
    ]
    if also:
        command += ["-r", requirements]
    run_quietly(command, "pip cannot install it (is there a network?)")
    installed.write_text(wanted)


def make_environment(folder):
    """Return environment variables that share no setting and no cache of DVC."""
    foreign = ("DVC_", "GIT_", "PYTHON")
    env = {key: val for key, val in os.environ.items() if not key.startswith(foreign)}
    env["PATH"] = os.pathsep.join([str(VENV / "bin"), env.get("PATH", os.defpath)])
    env["DVC_NO_ANALYTICS"] = env["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
        env[f"DVC_{name}_DIR"] = str(folder / name.lower())
    return env


def run(command, cwd, env):
    """Run a command, with its output shown.

    Returns:
        seconds that it took.
    """
    # NOTE: Ctrl-C reaches DVC as well, and here we wait until it has stopped all
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    start = time.monotonic()
    try:
        code = subprocess.run(command, cwd=cwd, env=env, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, previous)
    if code:
        raise DemoError(f"`{' '.join(command)}` failed with exit code {code}")
    return time.monotonic() - start


def reproduce(example, folder, options):
    """Run ``dvc repro`` in a fresh copy of the example.

    Returns:
        seconds that it took, and what it has left (see `snapshot`).
    """
    project = folder / "project"
    ignore = shutil.ignore_patterns(".dvc", "dvc.lock", "__pycache__")
    shutil.copytree(ROOT / "examples" / example, project, ignore=ignore)
    env = make_environment(folder)
    run(["git", "init", "--quiet"], project, env)
    run(["dvc", "init", "--quiet"], project, env)

    command = ["dvc", "repro", *options]
    say(f"\n$ {' '.join(command)}")
    return run(command, project, env), snapshot(project)


def snapshot(project):
    """Return a digest of each file of a project and of its cache, by name."""
    skipped = (".git/", ".dvc/tmp/", ".dvc/cache/runs/")
    digests = {}
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if path.is_file() and not name.startswith(skipped):
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def compare(serial, parallel):
    """Say whether two snapshots are identical.

    Returns:
        the exit code.
    """
    names = {*serial, *parallel}
    differing = sorted(name for name in names if serial.get(name) != parallel.get(name))
    if differing or "dvc.lock" not in names:
        say(f"DIFFERENT: {', '.join(differing) or 'no dvc.lock'}")
        return 1

    ignores = sum(Path(name).name == ".gitignore" for name in names)
    cached = sum(name.startswith(".dvc/cache/") for name in names)
    rest = len(names) - ignores - cached - 1
    say(
        f"Identical byte for byte: dvc.lock, {ignores} .gitignore files, {rest} other "
        f"files with the metrics, {cached} files in the cache."
    )
    return 0


def demo(example, jobs, folder):
    options = ["-j", str(jobs)]
    serial_time, serial = reproduce(example, folder / "serial", [])
    parallel_time, parallel = reproduce(example, folder / "parallel", options)

    say(f"\nserial    dvc repro       {serial_time:6.1f} s")
    say(f"parallel  dvc repro -j {jobs:<3}{parallel_time:6.1f} s")
    speed_up = serial_time / parallel_time
    say(f"Measured speed-up: {speed_up:.2f} times, on {count_cpus()} CPUs.")
    return compare(serial, parallel)


def say_what_to_try(example, jobs, project):
    say(f"\nThe project of the parallel run is kept in {project}. Try there:\n")
    say(f"  export PATH={VENV / 'bin'}:$PATH && cd {project}")
    say(f"  dvc-parallel logs {EXAMPLES[example]}")
    say("  dvc-parallel report")
    say(f"  dvc-parallel plan --force -j {jobs}")


def main(argv=None):
    args = parse_args(argv)
    folder = None
    try:
        check_system()
        install(args.example)
        folder = Path(tempfile.mkdtemp(prefix="dvc-parallel-demo-")).resolve()
        status = demo(args.example, args.jobs, folder)
        if not args.keep:
            say("Add --keep to keep the project and look around in it.")
        return status
    except (DemoError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        if folder and args.keep:
            say_what_to_try(args.example, args.jobs, folder / "parallel" / "project")
        elif folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
