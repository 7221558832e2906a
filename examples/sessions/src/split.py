"""Split the data into sessions of equal length and a test set."""

import argparse
from pathlib import Path


def split(lines, sessions, test_rows):
    """Return the lines of each session and of the test set, by name."""
    # NOTE: the last rows, as the writers of neighbouring rows may be the same
    cut = len(lines) - test_rows
    size = cut // len(sessions)
    parts = {
        name: lines[i * size : (i + 1) * size]
        for i, name in enumerate(sorted(sessions))
    }
    return {**parts, "test": lines[cut:]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", nargs="+", required=True)
    parser.add_argument("--test-rows", type=int, required=True)
    args = parser.parse_args()

    lines = args.data.read_text(encoding="ascii").splitlines(keepends=True)
    args.folder.mkdir(exist_ok=True)
    for name, part in split(lines, args.sessions, args.test_rows).items():
        (args.folder / f"{name}.txt").write_text("".join(part), encoding="ascii")
