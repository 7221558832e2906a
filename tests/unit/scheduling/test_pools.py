import pytest

from dvc_parallel.scheduling.pools import (
    Pool,
    Size,
    Slots,
    check_needs,
    environment,
    format_pools,
    parse_pools,
)
from dvc_parallel.scheduling.stage_options import Needs, NeedsError


@pytest.mark.parametrize(
    "text, sizes",
    [
        ("", {}),
        (
            " gpu=0,1  mem=64\n",
            {"gpu": Size(2, ("0", "1")), "mem": Size(64)},
        ),
        ("gpu=2", {"gpu": Size(2, ("0", "1"))}),
        ("gpu=3,", {"gpu": Size(1, ("3",))}),
        ("gpu=GPU-5fd1,MIG-a/1/0", {"gpu": Size(2, ("GPU-5fd1", "MIG-a/1/0"))}),
        ("gpu=0 db=0", {"gpu": Size(0, ()), "db": Size(0)}),
        ("port=8001,8002", {"port": Size(2, ("8001", "8002"))}),
    ],
)
def test_parse(text, sizes):
    assert parse_pools(text) == sizes
    assert parse_pools(format_pools(sizes)) == sizes


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "gpu",
            "expected 'auto', or pools such as 'gpu=0,1 mem=64', got 'gpu' in ",
        ),
        ("mem=1 =2", "got '=2' in 'mem=1 =2'"),
        ("a.b=2", "got 'a.b=2'"),
        ("mem=", "expected a number of slots .*got 'mem='"),
        ("mem=64GB", "expected a number of slots .*got 'mem=64GB'"),
        ("mem=-1", "got 'mem=-1'"),
        ("gpu=0,,1", "got 'gpu=0,,1'"),
        ("gpu=,", "got 'gpu=,'"),
        ("gpu=0,x=1", "got 'gpu=0,x=1'"),
        ("gpu=0,1,0", "expected each slot only once, got 'gpu=0,1,0' in 'gpu=0,1,0'"),
        ("mem=1 mem=2", "pool 'mem' is listed twice in 'mem=1 mem=2'"),
        ("mem=²", "got 'mem=²'"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_pools(text)


def test_a_request_larger_than_its_pool():
    sizes = parse_pools("gpu=0,1 mem=64")
    check_needs("train", Needs({"gpu": 2, "mem": 64, "db": 1}), sizes)
    message = "stage 'train'.* takes 3 of 'gpu', but its size is 2$"
    with pytest.raises(NeedsError, match=message):
        check_needs("train", Needs({"gpu": 3}), sizes)
    with pytest.raises(
        NeedsError, match=r"2 of 'db', .* 1, as neither DVC_PARALLEL_POOLS"
    ):
        check_needs("train", Needs({"db": 2}), sizes)
    with pytest.raises(NeedsError, match="1 of 'gpu', but its size is 0"):
        check_needs("train", Needs({"gpu": 1}), parse_pools("gpu=0"))


def test_slots_have_names_and_come_back():
    pool = Pool(Size(3, ("a", "b", "c")))
    first, second = pool.take(1), pool.take(2)
    assert (str(first), str(second), pool.free) == ("a", "b,c", 0)
    pool.validate([first, second])
    pool.give_back(second)
    assert (str(pool.take(1)), pool.free) == ("b", 1)


def test_the_first_slots_that_are_free_are_taken():
    pool = Pool(Size(3, ("a", "b", "c")))
    for slots in reversed([pool.take(1) for _ in range(3)]):
        pool.give_back(slots)
    assert str(pool.take(2)) == "a,b"


def test_slots_without_names_are_a_number():
    pool = Pool(Size(64))
    assert str(pool.take(16)) == "16"
    assert pool.free == 48


def test_losing_or_doubling_a_slot_is_noticed():
    pool = Pool(Size(2, ("a", "b")))
    slots = pool.take(1)
    with pytest.raises(AssertionError):
        pool.validate([])
    with pytest.raises(AssertionError):
        pool.validate([Slots(1, ("b",))])
    pool.validate([slots])


def test_environment():
    sizes = parse_pools("gpu=0,1 mem=64")
    assert environment({}, sizes) == {}
    held = {"gpu": Slots(1, ("1",)), "mem": Slots(16), "rate-limit": Slots(1)}
    assert environment(held, sizes) == {
        "DVC_POOL_GPU": "1",
        "DVC_POOL_MEM": "16",
        "DVC_POOL_RATE_LIMIT": "1",
        "CUDA_VISIBLE_DEVICES": "1",
        "DVC_PARALLEL_POOLS": "gpu=1, mem=16 rate-limit=1",
    }


def test_a_mutex_called_gpu_does_not_choose_a_device():
    assert "CUDA_VISIBLE_DEVICES" not in environment({"gpu": Slots(1)}, {})
