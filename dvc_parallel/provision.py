"""What the stages of a run need, and what this machine has for them."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dvc.exceptions import DvcException, InvalidArgumentError

from .admission import PoolAdmission
from .needs import NOTHING, Needs, NeedsError, read_needs
from .pools import CONFIG_OPTION, ENV, Size, check_needs, environment, parse_pools

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


class Provision:
    """What stages are given.  Owned by the loop of a run.

    Args:
        steps: all stages of the run; they go by their places here.

    Raises:
        DvcException: a stage asks for what makes no sense, or for more than there is.
        InvalidArgumentError: the sizes of pools cannot be read.
    """

    def __init__(self, steps: Sequence["Stage"]):
        self._sizes = machine_pools(steps[0].repo)
        self._needs = self._read(steps)
        self.priority = {rank: n.priority for rank, n in self._needs.items()}
        self.admission = PoolAdmission(self._sizes, self._needs)

    def _read(self, steps: Sequence["Stage"]) -> dict[int, Needs]:
        found = {}
        try:
            for rank, stage in enumerate(steps):
                needs = read_needs(stage.addressing, stage.meta)
                if needs is not NOTHING:
                    check_needs(stage.addressing, needs, self._sizes)
                    found[rank] = needs
        except NeedsError as exc:
            raise DvcException(str(exc)) from None
        return found

    def needs(self, rank: int) -> Needs:
        return self._needs.get(rank, NOTHING)

    def environment(self, rank: int) -> dict[str, str]:
        """Variables for the commands of a stage that has been admitted."""
        return environment(self.admission.held(rank), self._sizes)


def machine_pools(repo: "Repo") -> Mapping[str, Size]:
    """The pools of this machine: from the environment, or else from the config.

    Raises:
        InvalidArgumentError: names where the text is from, and what is wrong in it.
    """
    source, text = ENV, os.environ.get(ENV)
    if text is None:
        source = f"core.{CONFIG_OPTION}"
        text = repo.config["core"].get(CONFIG_OPTION, "")
    try:
        return parse_pools(text)
    except ValueError as exc:
        raise InvalidArgumentError(f"{source}: {exc}") from None
