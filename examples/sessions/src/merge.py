"""Merge the models of all sessions into their mean."""

import argparse

from digits import load_all, mean, save

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--sessions", nargs="+", required=True)
    args = parser.parse_args()

    models = load_all(args.folder, args.sessions)
    save(mean(models), args.output)
    print("merged", len(models), "models")
