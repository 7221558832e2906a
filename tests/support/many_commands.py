"""Many commands in one process that has imported DVC once."""

# Runs commands one after the other, importing DVC once.
COMMANDS = """
import json, os, sys
from dvc_parallel.commands import cli
import dvc.cli, dvc.repo.reproduce, dvc.commands.repro
for args in json.loads(sys.argv[1]):
    pid = os.fork()
    if not pid:
        code = cli.main(args)
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(1, f"\\n=== {args[0]}: {code}\\n".encode())
"""
