"""``dvc-parallel validate``: are stages reproducible?"""

import sys
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING

from dvc.cli import completion
from dvc.cli.command import CmdBase
from dvc.ui import ui

from dvc_parallel.engine import job_count
from dvc_parallel.engine.terminal import plural, visible

from .shown import GLOB, ShowsSafely, add_command, add_switch, error_write, write

if TYPE_CHECKING:
    from .validation import Difference, Validation, Verdict

DESCRIPTION = "Run stages again in a copy, and show which are not reproducible."


class CmdValidate(ShowsSafely, CmdBase):
    def run(self) -> int:
        from .dry_run import quiet
        from .validation import validate

        with ExitStack() as stack:
            if self.args.json:
                # NOTE: what stages print is for people
                stack.enter_context(quiet())
                stack.enter_context(redirect_stdout(sys.stderr))
            validation = validate(
                self.repo,
                targets=self.args.targets,
                jobs=self.args.jobs,
                recursive=self.args.recursive,
                glob=self.args.glob,
                all_pipelines=self.args.all_pipelines,
                tell=error_write,
            )
        if self.args.json:
            ui.write_json(validation.as_dict())
        else:
            _show(validation)
        return 0 if validation.passed else 1


def _show(validation: "Validation") -> None:
    for name, reason in validation.skipped.items():
        write(f"skipped {visible(name)}: {reason}")
    verdicts = validation.verdicts
    bad = [verdict for verdict in verdicts if verdict.state != "reproducible"]
    for verdict in bad:
        write(f"{visible(verdict.name)}: {_words(verdict)}")
    are = "is" if len(verdicts) == 1 else "are"
    total = plural(len(verdicts), "stage")
    write(f"{len(verdicts) - len(bad)} of {total} {are} reproducible.")


def _words(verdict: "Verdict") -> str:
    if verdict.error is not None:
        return verdict.error
    return "; ".join(map(_difference, verdict.differences))


def _difference(one: "Difference") -> str:
    """What differs, with hashes for people; ``--json`` has all of them."""
    found = f"has hash {one.found[:8]}" if one.found else "is missing"
    recorded = one.recorded[:8] if one.recorded else "none"
    return f"{visible(one.path)} {found}, dvc.lock has {recorded}"


def add_parser(subparsers, parent_parser) -> None:
    description = f"{DESCRIPTION} The workspace is not changed."
    parser = add_command(
        subparsers, parent_parser, "validate", DESCRIPTION, description
    )
    parser.add_argument(
        "targets",
        nargs="*",
        help=(
            "Stages to validate. Stages that they depend on are not run. 'dvc.yaml' "
            "by default."
        ),
    ).complete = completion.DVCFILES_AND_STAGE
    job_count.add_argument(parser)
    text = "Validate all pipelines in the repo."
    add_switch(parser, "-P", "--all-pipelines", text=text)
    text = "Validate all stages in the specified directory."
    add_switch(parser, "-R", "--recursive", text=text)
    add_switch(parser, "--glob", text=GLOB)
    add_switch(parser, "--json", text="Show the result in JSON format.")
    parser.set_defaults(func=CmdValidate)
