"""The arguments of our commands, for DVC's command line.

What a command needs is imported when it runs: its class is ``Cmd<Name>`` in
``<name>_command``.
"""

from argparse import ArgumentParser
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from dvc.cli import completion

from dvc_parallel.engine import job_count

# What a command can show instead of what is for people at a terminal.
JSON, MARKDOWN, MERMAID, DOT = "json", "markdown", "mermaid", "dot"

GLOB = "Allows targets containing shell-style wildcards."
RUN = (
    "ID of the run, or its first characters. The default is the last run, which may "
    "still be going on."
)
RESULT = "Show the result in JSON format."

# What help says of options of `dvc repro` that a plan only accepts, by their places.
NO_EFFECT = "Has no effect on a plan."
IGNORED = frozenset({"dry", "interactive", "on_error"})


class CommandParser(ArgumentParser):
    """The parser of a command that works without DVC; its errors are as DVC's."""

    def error(self, message: str) -> NoReturn:
        self.exit(254, f"ERROR: {message}\n{self.format_help()}")


def add_switch(parser: Any, *names: str, text: str) -> None:
    parser.add_argument(*names, action="store_true", default=False, help=text)


def add_parser(subparsers: Any, parent_parser: Any) -> None:
    """Add our commands, as a module of ``dvc.commands`` adds its own."""
    add = partial(_add_command, subparsers, parent_parser)
    _add_deps(add)
    _add_logs(add)
    _add_plan(add)
    _add_pools(add)
    _add_report(add)
    _add_validate(add)
    _add_watch(add)


def _add_command(
    subparsers: Any, parent_parser: Any, name: str, text: str, description: str = ""
) -> Any:
    """Add a command.

    Args:
        text: what it does, for the list of commands.
        description: the same, for its own help.
    """

    def command(args: Any) -> Any:
        module = import_module(f".{name}_command", __package__)
        return getattr(module, f"Cmd{name.capitalize()}")(args)

    parser = subparsers.add_parser(
        name,
        parents=[parent_parser],
        description=description or text,
        help=text,
        # NOTE: DVC's own, which older releases have in another place
        formatter_class=subparsers.choices["repro"].formatter_class,
    )
    parser.set_defaults(func=command)
    return parser


def _add_targets(parser: Any, text: str) -> None:
    action = parser.add_argument("targets", nargs="*", help=text)
    action.complete = completion.DVCFILES_AND_STAGE


def _add_formats(parser: Any, text: str, *names: str) -> None:
    """Add ``--format``; all but Markdown have an option of their own as well."""
    parser.add_argument("--format", choices=(*names, MARKDOWN), help=text)
    for name in names:
        parser.add_argument(
            f"--{name}",
            action="store_const",
            const=name,
            dest="format",
            help=f"The same as --format {name}.",
        )


def _add_deps(add: Any) -> None:
    parser = add(
        "deps",
        "Show modules that stages import but do not declare.",
        "Show modules of the project that the scripts of stages import, and that the "
        "stages do not have in their deps; with --trace, all files that their commands "
        "read and write. Without --write, nothing in the workspace is changed.",
    )
    text = "Stages or files with stages. The default is all stages of the repo."
    _add_targets(parser, text)
    what = parser.add_mutually_exclusive_group()
    add_switch(what, "--check", text="Exit with 1 if some are not declared.")
    text = "Add them to dvc.yaml, and leave the rest of it as it stands."
    add_switch(what, "--write", text=text)
    text = (
        "Run the stages, one by one in a copy of the workspace, and show what they "
        "read or write and do not declare. Exit with 1 if stages with more than one "
        "job would get in each other's way."
    )
    add_switch(parser, "--trace", text=text)
    text = (
        "With --trace, leave out files and folders with such a name, or, with a slash "
        "in it, such a path. May be given several times."
    )
    parser.add_argument(
        "--ignore", metavar="PATTERN", action="append", default=[], help=text
    )
    add_switch(parser, "--json", text=RESULT)
    text = "Take all stages in the specified folders."
    add_switch(parser, "-R", "--recursive", text=text)
    add_switch(parser, "--glob", text=GLOB)


def _add_logs(add: Any) -> None:
    parser = add(
        "logs",
        "Show the outcome and the output of the stages of a run.",
        "Show the outcome of each stage of a run and where its output is kept, or the\n"
        "output of some stages. `dvc repro` with more than one job keeps the last 20\n"
        "runs.",
    )
    text = (
        "Stage, or name of a foreach or matrix. Shows its output in the last run that "
        "ran it. Without it, all stages of the last run are listed."
    )
    parser.add_argument("stage", nargs="?", help=text)
    parser.add_argument("--run", help=RUN, metavar="<id>")
    text = "Show the output of each stage that failed, and why."
    add_switch(parser, "--failed", text=text)
    text = "Keep showing output until the stage ends, or the run if no stage is given."
    add_switch(parser, "-f", "--follow", text=text)
    text = "List all recorded runs, the oldest first."
    add_switch(parser, "--list", text=text)
    text = "Show outcomes, times and files in JSON format."
    add_switch(parser, "--json", text=text)


def _add_plan(add: Any) -> None:
    from dvc.commands import repro

    text = "Show which stages would run, why, in which order, and how long that takes."
    parser = add("plan", text, f"{text} Nothing is run or changed.")
    repro.add_arguments(parser)
    for action in parser._actions:
        if action.dest in IGNORED:
            action.help = NO_EFFECT
    add_switch(parser, "--glob", text=GLOB)
    job_count.add_argument(parser)
    text = (
        "Show the plan as JSON or Markdown, or the graph of what would run for Mermaid "
        "or Graphviz."
    )
    formats = parser.add_mutually_exclusive_group()
    _add_formats(formats, text, JSON, MERMAID, DOT)
    parser.set_defaults(no_run_cache=False, no_commit=False)


def _add_pools(add: Any) -> None:
    parser = add("pools", "Show the pools, and which stages take them.")
    text = (
        "Print lines for dvc.yaml instead, by what stages have used: memory and CPUs "
        "that they take."
    )
    add_switch(parser, "--suggest", text=text)


def _add_report(add: Any) -> None:
    text = "Make a page about a parallel run: what ran when, and what it waited for."
    parser = add("report", text)
    parser.add_argument("--run", metavar="<id>", help=RUN)
    output = parser.add_mutually_exclusive_group()
    text = (
        "Where to write it: a page to a file that ends in .html, a trace for Perfetto "
        "or chrome://tracing to one that ends in .json. The default is a page in the "
        "folder of the run."
    )
    action = output.add_argument("-o", "--out", metavar="<file>", help=text)
    action.complete = completion.FILE
    _add_formats(output, "Print a summary in this format instead.", JSON)
    text = (
        "Write the page again while the run goes on, until it ends. The page renews "
        "itself while it is open."
    )
    add_switch(parser, "-f", "--follow", text=text)
    text = (
        "Print which stages took longer or shorter than in this earlier run, and "
        "where: in the queue, in the command, or while DVC checked and saved."
    )
    parser.add_argument("--compare", metavar="<id>", help=text)


def _add_validate(add: Any) -> None:
    text = "Run stages again in a copy, and show which are not reproducible."
    parser = add("validate", text, f"{text} The workspace is not changed.")
    text = (
        "Stages to validate. Stages that they depend on are not run. 'dvc.yaml' by "
        "default."
    )
    _add_targets(parser, text)
    job_count.add_argument(parser)
    text = "Validate all pipelines in the repo."
    add_switch(parser, "-P", "--all-pipelines", text=text)
    text = "Validate all stages in the specified directory."
    add_switch(parser, "-R", "--recursive", text=text)
    add_switch(parser, "--glob", text=GLOB)
    add_switch(parser, "--json", text=RESULT)


def _add_watch(add: Any) -> None:
    parser = add(
        "watch",
        "Show a run of another terminal as it goes on.",
        "Show the live view of a run that another terminal, or no terminal, has "
        "started.\nPress q or Ctrl-C to leave; the run goes on.",
    )
    text = (
        "ID of the run, or its first characters. The default is the newest that runs."
    )
    parser.add_argument("--run", help=text, metavar="<id>")
