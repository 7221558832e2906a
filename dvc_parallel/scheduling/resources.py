"""What the stages of a run need, and what this machine has for them."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException, InvalidArgumentError

from dvc_parallel.engine import logger
from dvc_parallel.engine.plan import Plan
from dvc_parallel.engine.runner import ANYWHERE, Place
from dvc_parallel.engine.settings import checked, lookup

from . import slurm_options
from .admission import PoolAdmission
from .auto_pools import machine_sizes
from .load import LoadLimit
from .placement import split
from .pools import (
    CONFIG_OPTION,
    ENV,
    GPU,
    MUTEX,
    Size,
    Slots,
    check_needs,
    environment,
    parse_pools,
)
from .ready_queue import AdmissionQueue
from .stage_options import NOTHING, Needs, NeedsError, read_needs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.engine.runner import Offer

    from .ready_queue import Admission
    from .tokens import SharedSlots


JOBSERVER_ENV = "DVC_PARALLEL_JOBSERVER"


class Provision:
    """Gives stages what they need.  Owned by the owner of the plan.

    Args:
        steps: all stages of the run; they go by their places here.
        jobs: how many slots there are to share with what commands run.
        load_average: the load from which on nothing starts, if there is a limit.
        on_slot: called in another thread when stages had to wait for a slot that is
            shared, and there may be one now.
        offers: what workers have, where commands do not run on this machine; empty
            where they have not been asked.
        first: stages that go before all others.

    Attributes:
        ready: the ready queue for the plan of the run.

    Raises:
        DvcException: a stage asks for what makes no sense, or for more than there is.
        InvalidArgumentError: the sizes of pools cannot be read.
    """

    def __init__(
        self,
        steps: Sequence["Stage"],
        jobs: int,
        load_average: Optional[float],
        on_slot: Callable[[], None],
        offers: Optional[Sequence["Offer"]] = None,
        first: Collection[int] = (),
    ):
        wanted = declared(steps)
        self._sizes = machine_pools(
            steps[0].repo,
            lambda: any(GPU in needs.pools for needs in wanted.values()),
            is_elsewhere=offers is not None,
        )
        self._places: dict[int, Place] = {}
        # NOTE: of those whose attempts differ, for each of them
        self._attempts: dict[int, list[tuple[Mapping[str, int], Place]]] = {}
        self._needs: dict[int, Needs] = {}
        try:
            for rank, needs in wanted.items():
                name = steps[rank].addressing
                given, self._places[rank] = self._given(name, needs, offers)
                self._needs[rank] = given
                if needs.later:
                    self._attempts[rank] = self._growing(name, needs, offers)
        except NeedsError as exc:
            raise DvcException(str(exc)) from None
        self._slurm = slurm_options.defaults(steps[0].repo.config["core"])
        self._priority: dict[int, float] = {
            **{rank: needs.priority for rank, needs in self._needs.items()},
            **dict.fromkeys(first, math.inf),
        }
        self._pools = PoolAdmission(self._sizes, self._needs)
        admission: Admission = self._pools
        if load_average is not None:
            admission = LoadLimit(load_average, admission)
        self._shared = _shared_slots(jobs, admission, on_slot)
        self.ready = AdmissionQueue(
            self._shared or admission,
            self._priority,
            has_to_look=load_average is not None,
        )

    def _given(
        self, name: str, needs: Needs, offers: "Optional[Sequence[Offer]]"
    ) -> tuple[Needs, Place]:
        """What a stage takes from the run, and the place that has the rest."""
        place = ANYWHERE
        if offers is not None:
            needs, place = split(name, needs, self._sizes, offers)
        check_needs(name, needs, self._sizes)
        return needs, place

    def _growing(
        self, name: str, needs: Needs, offers: "Optional[Sequence[Offer]]"
    ) -> list[tuple[Mapping[str, int], Place]]:
        """The same of each attempt; later ones take at most what there is."""
        found: list[tuple[Mapping[str, int], Place]] = []
        for pools in (needs.pools, *needs.later):
            if found:
                pools = {n: self._at_most(n, most, offers) for n, most in pools.items()}
            try:
                given, place = self._given(name, replace(needs, pools=pools), offers)
                found.append((given.pools, place))
            except NeedsError:  # there may be no worker with the most of everything
                if not found:
                    raise
                found.append(found[-1])
        return found

    def _at_most(
        self, pool: str, amount: int, offers: "Optional[Sequence[Offer]]"
    ) -> int:
        """As much of a pool as there is for one stage."""
        if offers is not None and pool not in self._sizes:
            offered = (offer.resources.get(pool, 0) for offer in offers)
            return min(amount, int(max(offered, default=0)) or amount)
        return min(amount, self._sizes.get(pool, MUTEX).slots)

    def grows(self, rank: int, failed: int) -> bool:
        """Whether the attempt after so many failed ones takes other slots."""
        attempts = self._attempts.get(rank, [])
        return failed < len(attempts) and attempts[failed] != attempts[failed - 1]

    def change(self, rank: int, failed: int) -> None:
        """Have a stage take what its next attempt takes, when it is ready again."""
        attempts = self._attempts[rank]
        pools, self._places[rank] = attempts[min(failed, len(attempts) - 1)]
        self._needs[rank] = replace(self._needs[rank], pools=pools)

    def growth(self, rank: int) -> dict[str, list[int]]:
        """Slots that the attempts of a stage take, of the pools where these differ."""
        attempts = [
            {**pools, **place.resources}
            for pools, place in self._attempts.get(rank, ())
        ]
        names = dict.fromkeys(name for pools in attempts for name in pools)
        amounts = {n: [int(pools.get(n, 0)) for pools in attempts] for n in names}
        return {name: by for name, by in amounts.items() if len({*by}) > 1}

    def make_plan(self, **kwargs: Any) -> Plan:
        """A plan for slots of pools alone, to see how a run would go."""
        admission = PoolAdmission(self._sizes, self._needs)
        return Plan(**kwargs, ready=AdmissionQueue(admission, self._priority))

    def needs(self, rank: int) -> Needs:
        return self._needs.get(rank, NOTHING)

    def place(self, rank: int) -> Place:
        """Where the commands of a stage may run, if not on this machine."""
        return self._places.get(rank, ANYWHERE)

    def requests(self, rank: int) -> dict[str, str]:
        """What a stage asks Slurm for, where that runs it."""
        return {**self._slurm, **self.needs(rank).slurm}

    def slots(self) -> "AbstractContextManager":
        """To be in during a run: the slots that are shared, if any are."""
        return self._shared or nullcontext()

    def obstacle(self, rank: int) -> Optional[str]:
        """The pool that keeps a stage which is ready from starting, if one does."""
        return self._pools.obstacle(rank)

    def environment(self, rank: int) -> dict[str, str]:
        """Variables for the commands of a stage that has been admitted."""
        held = dict(self._pools.held(rank))
        for name, amount in self.place(rank).resources.items():
            held[name] = Slots(int(amount))
        env = environment(held, self._sizes)
        return {**env, **self._shared.environment()} if self._shared else env

    @property
    def inherited(self) -> Sequence[int]:
        """Descriptors that commands have to inherit."""
        return self._shared.inherited if self._shared else ()

    def give_up(self) -> None:
        """Give back what is shared with others, as this process is about to end."""
        if self._shared:
            self._shared.give_all_back()


def declared(stages: Sequence["Stage"]) -> dict[int, Needs]:
    """What stages declare, by their places; of those that declare anything.

    Raises:
        DvcException: one of them asks for what makes no sense.
    """
    try:
        needs = [read_needs(stage.addressing, stage.meta) for stage in stages]
    except NeedsError as exc:
        raise DvcException(str(exc)) from None
    return {rank: need for rank, need in enumerate(needs) if need is not NOTHING}


def machine_pools(
    repo: "Repo",
    takes_gpu: Callable[[], bool] = lambda: True,
    is_elsewhere: bool = False,
) -> dict[str, Size]:
    """The pools of this machine: from the environment, or else from the config.

    Args:
        takes_gpu: whether it is worth the time to ask for GPUs.
        is_elsewhere: whether commands do not run on this machine, which then has
            nothing for them.

    Raises:
        InvalidArgumentError: names where the text is from, and what is wrong in it.
    """
    name, text = lookup(CONFIG_OPTION, ENV, repo.config["core"])
    machine = dict if is_elsewhere else partial(machine_sizes, takes_gpu)
    return checked(name, partial(parse_pools, machine=machine), text or "")


def _shared_slots(
    jobs: int, admission: "Admission", on_slot: Callable[[], None]
) -> "Optional[SharedSlots]":
    value = os.environ.get(JOBSERVER_ENV, "")
    if value not in ("", "0", "1"):
        raise InvalidArgumentError(f"{JOBSERVER_ENV}: expected 0 or 1, got '{value}'")
    if value != "1":
        return None
    try:
        from . import jobserver
        from .tokens import SharedSlots
    except ImportError:
        raise InvalidArgumentError(f"{JOBSERVER_ENV}: not on this system") from None

    def connect() -> jobserver.Jobserver:
        try:
            client = jobserver.connect(os.environ.get(jobserver.MAKEFLAGS, ""))
        except jobserver.JobserverError as exc:
            logger.warning("not sharing the jobs of make: %s", exc)
            client = None
        return client or jobserver.Server(jobs, fifo=jobserver.make_knows_fifo())

    return SharedSlots(connect, admission, on_slot)
