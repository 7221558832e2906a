"""Train a perceptron with margin on one session, from zero or given weights."""

import argparse

from digits import DIGITS, FEATURES, load, read, save, scores


def train(weights, rows, epochs, margin):
    """Improve the weights: wherever another digit's score comes within ``margin``
    of the right one's, move both by the pixels."""
    for _ in range(epochs):
        for label, features in rows:
            found = scores(weights, features)
            own = found[label]
            rival = max(
                (digit for digit in DIGITS if digit != label), key=found.__getitem__
            )
            if own - found[rival] <= margin:
                weights[label] = [w + f for w, f in zip(weights[label], features)]
                weights[rival] = [w - f for w, f in zip(weights[rival], features)]
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session")
    parser.add_argument("output")
    parser.add_argument("--start", help="weights to start from")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--margin", type=int, required=True)
    args = parser.parse_args()

    start = load(args.start) if args.start else [[0] * FEATURES for _ in DIGITS]
    save(train(start, read(args.session), args.epochs, args.margin), args.output)
    print("trained on", args.session)
