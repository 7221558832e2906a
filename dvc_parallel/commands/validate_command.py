"""``dvc-parallel validate``: are stages reproducible?"""

from dvc.cli.command import CmdBase
from dvc.ui import ui

from dvc_parallel.engine.terminal import plural, visible

from .shown import ShowsSafely, error_write, stdout_for, write
from .validation import Difference, Validation, Verdict, validate


class CmdValidate(ShowsSafely, CmdBase):
    def run(self) -> int:
        with stdout_for(scripts=self.args.json):
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


def _show(validation: Validation) -> None:
    for name, reason in validation.skipped.items():
        write(f"skipped {visible(name)}: {reason}")
    verdicts = validation.verdicts
    bad = [verdict for verdict in verdicts if verdict.state != "reproducible"]
    for verdict in bad:
        write(f"{visible(verdict.name)}: {_words(verdict)}")
    are = "is" if len(verdicts) == 1 else "are"
    total = plural(len(verdicts), "stage")
    write(f"{len(verdicts) - len(bad)} of {total} {are} reproducible.")


def _words(verdict: Verdict) -> str:
    if verdict.error is not None:
        return verdict.error
    return "; ".join(map(_difference, verdict.differences))


def _difference(one: Difference) -> str:
    """What differs, with hashes for people; ``--json`` has all of them."""
    found = f"has hash {one.found[:8]}" if one.found else "is missing"
    recorded = one.recorded[:8] if one.recorded else "none"
    return f"{visible(one.path)} {found}, dvc.lock has {recorded}"
