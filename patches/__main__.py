"""The upstream series.

python -m patches make               write dvc-3.67.1/*.patch anew
python -m patches check              fail if they are not what would be written
python -m patches apply FOLDER       write DVC with them, to look at or to install
python -m patches try [CHECKOUT]     apply them, and run DVC's own tests
python -m patches take CHECKOUT      take over what was edited in a patched DVC
"""

import argparse
import sys
from pathlib import Path

from . import make, release, take, trial
from .source import SourceError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m patches", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").set_defaults(run=lambda _: make.make())
    commands.add_parser("check").set_defaults(run=lambda _: make.check())
    applying = commands.add_parser("apply")
    applying.add_argument("folder", type=Path, help="to be made")
    applying.set_defaults(run=lambda args: release.apply(args.folder))
    trial.add_parser(commands)
    taking = commands.add_parser("take")
    taking.add_argument("checkout", type=Path, help="with the series applied by git am")
    taking.set_defaults(run=lambda args: take.take(args.checkout))
    args = parser.parse_args()
    try:
        return args.run(args) or 0
    except (
        make.DriftError,
        make.GitError,
        SourceError,
        trial.TrialError,
        FileExistsError,
    ) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
