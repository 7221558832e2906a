"""The picture of a page of ``dvc-parallel report`` that the documentation shows.

    python -m benchmarks.page docs/report.png           run a small pipeline
    python -m benchmarks.page docs/other.png PAGE       any page that there is

Needs Chromium.  The picture is the top of the page, in a window 1080 pixels wide.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1080, 905
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Works and holds memory for as long as it says.
WORK = """
import sys, time
name, seconds, mebibytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
held = bytearray(mebibytes << 20)
end = time.monotonic() + seconds
fold = 0
while time.monotonic() < end:
    if time.process_time() > fold:
        fold += 1
        print(f"fold {fold} of 5: loss {0.76 - 0.03 * fold:.3f}", flush=True)
if name == "knn":
    raise ValueError("expected n_neighbors <= n_samples_fit")
with open(f"{name}.txt", "w") as file:
    file.write(name * 999)
"""
DVC_YAML = """
stages:
  fetch: {cmd: python work.py fetch 1 40, outs: [fetch.txt]}
  clean:
    foreach: {text: 2, images: 2.5, audio: 1.5, tables: 1}
    do:
      cmd: python work.py ${key} ${item} 90
      deps: [fetch.txt]
      outs: ["${key}.txt"]
  join:
    cmd: python work.py join 2 300
    deps: [text.txt, images.txt, audio.txt, tables.txt]
    outs: [join.txt]
  train:
    foreach: {boosting: 4, svm: 3, forest: 2.5, linear: 1, knn: 1.2}
    do:
      cmd: python work.py ${key} ${item} 180
      deps: [join.txt]
      outs: ["${key}.txt"]
  evaluate:
    foreach: [boosting, svm, forest, linear]
    do:
      cmd: python work.py score-${item} 0.8 60
      deps: ["${item}.txt"]
      outs: ["score-${item}.txt"]
  compare:
    cmd: python work.py compare 0.6 30
    deps: [score-boosting.txt, score-svm.txt, score-forest.txt, score-linear.txt]
    outs: [compare.txt]
"""


def report(folder: Path) -> Path:
    """Run the pipeline, of which one stage fails, and write its page."""
    (folder / "work.py").write_text(WORK)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    path = (os.path.dirname(sys.executable), os.environ["PATH"])
    env = {**os.environ, "PATH": os.pathsep.join(path)}
    for command in (
        ["dvc", "init", "-q", "--no-scm"],
        ["dvc", "repro", "-k", "-j", "2"],
        ["dvc-parallel", "report", "-o", "report.html"],
    ):
        fails = command[1] == "repro"
        subprocess.run(command, cwd=folder, env=env, check=not fails)
    return folder / "report.html"


def draw(page: Path, picture: Path, height: int = HEIGHT) -> None:
    """Take a picture of a page."""
    found = [*filter(None, map(shutil.which, BROWSERS))]
    if not found:
        sys.exit(f"needs one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            found[0],
            "--headless",
            "--hide-scrollbars",
            # NOTE: its sandbox does not work as root, such as in containers
            "--no-sandbox",
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{height}",
            f"--screenshot={picture.absolute()}",
            page.absolute().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not picture.exists():
        sys.exit(f"{found[0]} exited with {done.returncode}: {done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("page", type=Path, nargs="?", help="the default is a new run")
    parser.add_argument("--height", type=int, default=HEIGHT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(args.page or report(Path(folder)), args.picture, args.height)


if __name__ == "__main__":
    main()
