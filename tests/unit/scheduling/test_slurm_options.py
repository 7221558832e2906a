import pytest

from dvc_parallel.scheduling.slurm_options import arguments, parse_slurm, read_mapping
from dvc_parallel.scheduling.stage_options import NeedsError, read_needs


def test_what_gets_to_sbatch():
    requests = {
        **parse_slurm("partition=gpu,long mem=16G cpus=2"),
        **read_mapping({"cpus": 8}),
    }
    assert arguments(requests) == [
        "--partition=gpu,long",
        "--mem=16G",
        "--cpus-per-task=8",
    ]


@pytest.mark.parametrize(
    "key, value",
    [
        ("partition", "gpu"),
        ("time", 30),
        ("time", "90:00"),
        ("time", "2:00:00"),
        ("time", "1-12"),
        ("time", "1-12:30:00"),
        ("mem", 100),
        ("mem", "16G"),
        ("cpus", 4),
        ("gpus", "a100:2"),
        ("gres", "gpu:a100:1,lscratch:20G"),
        ("licenses", "matlab@server:1"),
        ("account", "lab_1"),
        ("qos", "high"),
        ("reservation", "course"),
        ("constraint", "[rack1|rack2]&ssd*2"),
        ("nodelist", "n[1-4],m1"),
        ("exclude", "n7"),
    ],
)
def test_values(key, value):
    assert read_mapping({key: value}) == {key: str(value)}
    assert read_needs("one", {"parallel": {"slurm": {key: value}}}).slurm == {
        key: str(value)
    }


@pytest.mark.parametrize(
    "key, value, error",
    [
        ("uid", 0, "any of partition, time"),
        ("wrap", "rm -r /", "not 'wrap'"),
        (True, 1, "not True"),
        ("partition", "", "a name"),
        ("partition", "a b", "not 'a b'"),
        ("partition", "a\n#SBATCH --uid=0", "a name"),
        ("partition", "gpu\n", "a name"),
        ("partition", ["gpu"], "a name"),
        ("partition", "${x}", "a name"),
        ("time", "2h", "minutes"),
        ("time", 1.5, "minutes"),
        ("time", True, "minutes"),
        ("mem", "16 G", "a size"),
        ("mem", "-1", "a size"),
        ("cpus", 0, "a positive integer"),
        ("cpus", "٣", "a positive integer"),
        ("gres", "gpu:1;reboot", "resources"),
        ("constraint", "$(reboot)", "features"),
        ("nodelist", "n1 --uid=0", "nodes"),
    ],
)
def test_what_makes_no_sense(key, value, error):
    with pytest.raises(ValueError, match=error) as exc:
        read_mapping({key: value})
    with pytest.raises(NeedsError) as of_stage:
        read_needs("one", {"parallel": {"slurm": {key: value}}})
    where = "stage 'one': meta.parallel.slurm: expected"
    assert str(of_stage.value).startswith(f"{where} {exc.value}")


@pytest.mark.parametrize(
    "text", ["partition", "partition=", "mem=1 mem=2", "uid=0", "=x", "mem==1"]
)
def test_texts_that_make_no_sense(text):
    with pytest.raises(ValueError, match=r"expected .* got") as exc:
        parse_slurm(text)
    assert text in str(exc.value)


def test_no_mapping():
    with pytest.raises(ValueError, match="a mapping such as"):
        read_mapping("mem=16G")
