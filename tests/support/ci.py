"""Services for CI as a job sees them."""

import re
from collections.abc import Iterator


def log_commands(data: bytes) -> Iterator[str]:
    """What GitHub and GitLab take for commands in a log, as they read it.

    See ``dvc_parallel.reporting.ci_log``.
    """
    text = data.decode(errors="replace")
    # NOTE: ReadLine and TrimStart of C#
    for line in re.split("\r\n|\r|\n", text):
        found = re.match(r"\s*::([^ :]+).*?::", line)
        # NOTE: no command has such a name as is left out here
        found = found or re.search(r"##\[([^\\\] ][^\] ]*)", line)
        if found:
            yield found[1]
    marker = r"section_(start|end):\d+:[\w.-]+(?:\[.*?\])?\r\x1b\[0K"
    yield from re.findall(marker, text)
