"""Stands in for a training that needs all memory of its GPUs."""

import fcntl
import os
import sys
import time

name, output = sys.argv[1:]
# Without a word from anybody, CUDA's programs take the first GPU.
gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "0")

with open(__file__, "r+") as memory:
    for gpu in gpus.split(","):
        try:
            # Byte N of this file is the memory of GPU N: one program can have it.
            fcntl.lockf(memory, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(gpu))
        except OSError:
            sys.exit(f"{name}: GPU {gpu} is out of memory")
    print(f"{name} on GPU {gpus}", flush=True)
    time.sleep(1)

with open(output, "w") as file:
    file.write(f"{name}\n")
