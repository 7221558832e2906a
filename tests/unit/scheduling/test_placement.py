import pytest

from dvc_parallel.engine.runner import ANYWHERE, Offer, Place
from dvc_parallel.scheduling.placement import split
from dvc_parallel.scheduling.pools import Size
from dvc_parallel.scheduling.stage_options import Needs, NeedsError

OFFERS = [Offer("lab-1", 2, {"gpu": 2}), Offer("lab-2", 1, {}), Offer("node", 4, {})]


def test_a_stage_that_needs_nothing_of_workers():
    needs = Needs({"db": 1}, retries=2)
    assert split("a", needs, {}, OFFERS) == (needs, ANYWHERE)


def test_a_pool_that_nobody_has_sized_is_the_workers():
    left, place = split("a", Needs({"gpu": 2, "db": 1}), {}, OFFERS)
    assert left == Needs({"db": 1})
    assert place == Place((), {"gpu": 2})
    assert [offer.name for offer in OFFERS if place.is_on(offer)] == ["lab-1"]


def test_a_pool_that_is_sized_is_the_runs():
    needs = Needs({"gpu": 2})
    assert split("a", needs, {"gpu": Size(4)}, OFFERS) == (needs, ANYWHERE)


def test_workers_that_have_not_been_asked():
    needs = Needs({"gpu": 2, "db": 1}, workers=("gpu-*",), retries=2)
    left, place = split("a", needs, {"db": Size(1)}, ())
    assert left == Needs({"db": 1}, workers=("gpu-*",), retries=2)
    assert place == ANYWHERE


def test_workers_by_their_names():
    needs = Needs(workers=("lab-*", "other"))
    _, place = split("a", needs, {}, OFFERS)
    assert [o.name for o in OFFERS if place.is_on(o)] == ["lab-1", "lab-2"]


@pytest.mark.parametrize(
    "needs, error",
    [
        (
            Needs(workers=("gpu-*", "x")),
            "stage 'a': meta.parallel.workers: no worker is named gpu-* or x; there "
            "are lab-1, lab-2, node",
        ),
        (
            Needs({"gpu": 3}),
            "stage 'a': meta.parallel.pools: takes 3 of 'gpu', more than any "
            "worker that it may run on has: lab-1, lab-2, node",
        ),
        (
            Needs({"gpu": 1}, workers=("lab-2",)),
            "takes 1 of 'gpu', more than any worker that it may run on has: lab-2",
        ),
    ],
)
def test_no_worker_for_it(needs, error):
    with pytest.raises(NeedsError) as exc:
        split("a", needs, {}, OFFERS)
    assert error in str(exc.value)


def test_an_error_names_some_of_many():
    offers = [Offer(f"w{number:02}", 1) for number in range(12)]
    with pytest.raises(NeedsError, match="w09 and 2 more"):
        split("a", Needs(workers=("lab",)), {}, offers)
