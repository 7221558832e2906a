"""Which workers of a cluster a stage can run on; pure.

A pool is the workers' own, if they offer something of its name and nobody has sized the
pool for all of the run.  Then its slots are taken where the command runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dvc_parallel.engine.runner import ANYWHERE, Offer, Place

from .pools import Size
from .stage_options import Needs, NeedsError

# Workers that an error names.
SHOWN = 10


def split(
    stage: str, needs: Needs, sizes: Mapping[str, Size], offers: Sequence[Offer]
) -> tuple[Needs, Place]:
    """Tell what a stage takes from the run, and where its commands may run.

    Args:
        stage: its name, for errors.
        sizes: the pools of the run.
        offers: the workers that there are; without any, they may have whatever
            nobody has sized.

    Raises:
        NeedsError: no worker could run it.
    """
    if not offers:
        sized = {name: n for name, n in needs.pools.items() if name in sizes}
        return replace(needs, pools=sized), ANYWHERE
    offered = {name for offer in offers for name in offer.resources}
    resources = {
        name: amount
        for name, amount in needs.pools.items()
        if name in offered and name not in sizes
    }
    place = Place(needs.workers, resources) if resources or needs.workers else ANYWHERE
    matching = [offer for offer in offers if place.admits(offer.name)]
    if not matching:
        raise NeedsError(
            f"stage '{stage}': meta.parallel.workers: no worker is named "
            f"{' or '.join(needs.workers)}; there are {_names(offers)}"
        )
    if not any(place.is_on(offer) for offer in matching):
        wanted = ", ".join(f"{n} of '{name}'" for name, n in resources.items())
        raise NeedsError(
            f"stage '{stage}': meta.parallel.pools: takes {wanted}, more than any "
            f"worker that it may run on has: {_names(matching)}"
        )
    left = {name: n for name, n in needs.pools.items() if name not in resources}
    return replace(needs, pools=left), place


def _names(offers: Sequence[Offer]) -> str:
    names = sorted(offer.name for offer in offers)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
