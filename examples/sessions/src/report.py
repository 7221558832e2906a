"""Compare models on the test set: of single sessions, merged once and twice."""

import argparse
import json

from digits import accuracy, load_all, mean, read, save


def measure(models, rows):
    """Return the accuracy of the models by themselves, and of their mean."""
    single = [accuracy(model, rows) for model in models]
    return {
        "single_sessions": round(sum(single) / len(single), 4),
        "merged": round(accuracy(mean(models), rows), 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test")
    parser.add_argument("output")
    parser.add_argument("--rounds", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--sessions", nargs="+", required=True)
    args = parser.parse_args()

    rows = read(args.test)
    report = {
        folder: measure(load_all(folder, args.sessions), rows) for folder in args.rounds
    }
    save(report, args.output)
    print(json.dumps(report))
