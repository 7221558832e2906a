"""What a job runs: it claims its folder, and tells there how its command has ended.

A claim is a hard link, which one process alone gets to make, also on NFS.  So a job
that Slurm starts twice, or that was submitted twice, runs once; and a job that nobody
knows of, as its submission was cut off, does not run any more once the claim was made
for nobody.
"""

import os
import shlex

from dvc_parallel.engine.runner import Command

from .records import Job

# Seconds between two signs of life; from SIGTERM to SIGKILL where a command has to end.
BEAT, GRACE = 5, 10

# NOTE: pages that processes share count once, which the kernel is asked for only where
# they may need more than ever, as it takes long (processes/measuring.py)
# NOTE: Slurm sends SIGTERM to this shell as to the command, which may then come to a
# good end without being done: so it is told as well. Where a signal has ended the
# command, that of the shell may be on its way
_SCRIPT = """\
#!/bin/sh
cd {folder} || exit 90
by="$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}} $$ $(uname -n)"
echo "$by" > "$by" && ln "$by" claim 2> no-link
if [ "$(cat claim)" != "$by" ]; then
    echo "not run, as it was claimed by: $(cat claim no-link)" >&2
    exit 91
fi
own() {{
    grep -lszxF DVC_PARALLEL_JOB={name} /proc/[0-9]*/environ | tr -dc '0-9\\n'
}}
stop() {{
    n=0
    while p=$(own); [ -n "$p" ]; do
        [ $n = 0 ] && kill -TERM $p
        [ $n -ge {grace} ] && kill -KILL $p
        n=$((n + 1)); sleep 1
    done
}}
beat() {{
    trap '' TERM
    while kill -0 $$ || [ -n "$(own)" ]; do
        touch alive
        if [ -e revoked ]; then stop; : > stopped; fi
        sleep {beat}; look
    done
}}
sum() {{
    own | sed "s,.*,/proc/&/$2," | xargs grep -hs "^$1:" /dev/null | (
        n=0; while read -r _ kb _; do n=$((n + kb)); done; echo $n
    )
}}
rss=0 peak=0
look() {{
    kb=$(sum VmRSS status); [ "$kb" -gt $rss ] || return
    rss=$kb; kb=$(sum Pss smaps_rollup); [ "$kb" -gt 0 ] || kb=$rss
    if [ "$kb" -gt $peak ]; then peak=$kb; echo $peak > memory; fi
}}
late() {{ trap '' TERM; sleep "$1"; : > late; stop; }}
touch alive
term=0; trap 'term=1' TERM
(
    cd {cwd} || exit 92
    export DVC_PARALLEL_JOB={name}
    exec {args}
) < /dev/null >> stdout 2>> stderr &
pid=$!
beat > /dev/null 2>&1 & helpers=$!
[ -z "{limit}" ] || {{ late "{limit}" > /dev/null 2>&1 & helpers="$helpers $!"; }}
while :; do wait $pid; status=$?; kill -0 $pid 2> /dev/null || break; done
[ -e revoked ] && exit 91
case $status in 137 | 143) term=1 ;; esac
if [ -e late ]; then status=124; term=late; fi
{{ echo "$status $term"; times; }} > exit.part && mv exit.part exit
kill -KILL $helpers
exit $status
"""


def script_of(job: Job, command: Command) -> str:
    """The script of a job that runs a command."""
    args = [command.args] if isinstance(command.args, str) else command.args
    return _SCRIPT.format(
        folder=shlex.quote(job.folder.path),
        name=job.name,
        cwd=shlex.quote(command.cwd or os.getcwd()),
        args=shlex.join(args),
        limit="" if command.timeout is None else f"{command.timeout:.3f}",
        beat=BEAT,
        grace=GRACE,
    )
