"""Services for CI as a job sees them: ``python -m tests.support.ci FILE FOLDER``.

Runs the commands of a workflow of GitHub Actions, or of a job of GitLab CI, in a clone,
as far as they are commands; says which parts are not run.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

# What of the files is for the service alone.
OF_THE_SERVICE = ("uses", "cache", "artifacts", "image")


@dataclass(frozen=True)
class Step:
    """A shell, and what it runs; or what only the service can do.

    Attributes:
        script: its lines; nothing for what only the service can do.
        always: whether it runs after a failure.
    """

    name: str
    script: str
    always: bool = False


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


def steps_of(path: Path) -> tuple[dict[str, str], list[Step]]:
    """The variables and steps of the only job of a file."""
    told = YAML(typ="safe").load(path)
    (job,) = told["jobs"].values() if "jobs" in told else told.values()
    variables = told.get("env") or job.get("variables", {})
    if "jobs" in told:
        return variables, [*map(_github_step, job["steps"])]
    script = "\n".join([*job["before_script"], *job["script"]])
    after = "\n".join(job["after_script"])
    return variables, [
        *(Step(name, "") for name in OF_THE_SERVICE if name in job),
        Step("script", script),
        Step("after_script", after, always=True),
    ]


def _github_step(step: Mapping[str, Any]) -> Step:
    assert step.keys() <= {"name", "uses", "with", "run", "if"}
    assert step.get("if", "always()") == "always()"
    name = step.get("name") or step["uses"]
    return Step(name, step.get("run", ""), "if" in step)


def run_job(
    path: Path, clone: Path, env: Mapping[str, str]
) -> tuple[bool, dict[str, bytes]]:
    """Run the steps of a job in a clone.

    Args:
        env: more variables, which win over those of the file.

    Returns:
        tuple: whether all steps succeeded; the log of each that ran.
    """
    variables, steps = steps_of(path)
    is_github = ".github" in path.parts
    # NOTE: secrets are not there, as in the job of a fork
    known = {k: v for k, v in variables.items() if "${{" not in v}
    known["CI"] = "true"
    known["GITHUB_ACTIONS" if is_github else "GITLAB_CI"] = "true"
    if is_github:
        known["GITHUB_WORKSPACE"] = str(clone)
        known["GITHUB_STEP_SUMMARY"] = str(clone / ".git" / "summary.md")
    is_good, logs = True, {}
    for step in steps:
        if step.script and (is_good or step.always):
            result = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step.script],
                cwd=clone,
                env={**os.environ, **known, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            # NOTE: GitLab takes no notice of a failure of `after_script`
            is_good &= result.returncode == 0 or step.name == "after_script"
            logs[step.name] = result.stdout
    return is_good, logs


def main(path: Path, clone: Path) -> int:
    is_good, logs = run_job(path, clone, {})
    for step in steps_of(path)[1]:
        shown = logs.get(step.name, b"not run\n")
        sys.stdout.write(f"--- {step.name}\n{shown.decode(errors='replace')}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(*(Path(arg).resolve() for arg in sys.argv[1:3])))
