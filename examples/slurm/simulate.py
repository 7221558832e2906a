"""Stands in for a long computation: estimates pi with a seed."""

import random
import sys

seed, output = sys.argv[1:]
numbers = random.Random(seed)
inside = sum(numbers.random() ** 2 + numbers.random() ** 2 < 1 for _ in range(10_000))
with open(output, "w") as file:
    file.write(f"{4 * inside / 10_000}\n")
