"""The picture of a run on a terminal that the documentation shows.

    python -m benchmarks.picture docs/run.svg    run a small pipeline, and draw it

A real run, on a terminal that pyte emulates, as it looks once its fourth stage has
printed something.
"""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, ROWS = 88, 21
# Colors of which pyte and rich have names of their own
COLORS = {"default": None, "brown": "yellow"}
UNTIL = "gradient_boosting | epoch 3"

TRAIN = """
import sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
for epoch in range(1, 9):
    time.sleep(seconds / 8)
    print(f"epoch {epoch}/8  loss {1 / (epoch + seconds):.4f}", flush=True)
open(f"{name}.txt", "w").write(name)
"""
MODELS = {"svm": 2.5, "random_forest": 4, "gradient_boosting": 5, "mlp": 6, "knn": 1}
DVC_YAML = f"""
stages:
  prepare: {{cmd: seq 9999 > data.txt, outs: [data.txt]}}
  train:
    foreach: {MODELS}
    do:
      cmd: python train.py ${{key}} ${{item}}
      deps: [data.txt]
      outs: ["${{key}}.txt"]
  evaluate: {{cmd: cat *.txt > all, deps: [svm.txt, mlp.txt], outs: [all]}}
"""


def record(folder: Path) -> pyte.Screen:
    """Run the pipeline up to where it is drawn."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=folder, check=True)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    reader, terminal = pty.openpty()
    size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    others = {"CI", "NO_COLOR", "COLUMNS", "LINES"}
    env = {name: value for name, value in os.environ.items() if name not in others}
    path = (os.path.dirname(sys.executable), os.environ["PATH"])
    with subprocess.Popen(
        [*dvc, "repro", "-j", "4"],
        cwd=folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**env, "TERM": "xterm-256color", "PATH": os.pathsep.join(path)},
    ) as process:
        frames = b""
        while UNTIL not in "\n".join(screen.display):
            *frame, frames = (frames + os.read(reader, 2**16)).split(b"\x1b[?2026l")
            for part in frame:
                stream.feed(part)
        process.terminate()
        os.close(terminal)
        # NOTE: until it has ended, whoever does not read keeps it from that
        try:
            while os.read(reader, 2**16):
                pass
        except OSError:
            os.close(reader)
    return screen


def draw(screen: pyte.Screen, path: Path) -> None:
    """Draw what is to be seen on a terminal."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    for row in range(ROWS):
        line = Text(no_wrap=True)
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        for (color, bold), same in groupby(cells, attrgetter("fg", "bold")):
            text = "".join(cell.data for cell in same)
            line.append(text, Style(color=COLORS.get(color, color), bold=bold))
        line.rstrip()
        console.print(line)
    svg = console.export_svg(title="dvc repro -j 4", unique_id="run")
    path.write_text("".join(f"{line.rstrip()}\n" for line in svg.splitlines()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(record(Path(folder)), Path(sys.argv[1]))
