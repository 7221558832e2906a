"""Writes the mean of the numbers in files."""

import sys
from pathlib import Path

*inputs, output = sys.argv[1:]
numbers = [float(Path(name).read_text()) for name in inputs]
Path(output).write_text(f"{sum(numbers) / len(numbers):.4f}\n")
