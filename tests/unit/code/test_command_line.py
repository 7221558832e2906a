"""What is read from commands of stages."""

import pytest

from dvc_parallel.code.command_line import CommandLine, ProgramRun, PythonRun

SCRIPT = PythonRun("src/train.py")
MODULE = PythonRun("pkg.train", is_module=True)


@pytest.mark.parametrize(
    "cmd, runs",
    [
        ("python src/train.py", [SCRIPT]),
        ("python3.11 -u -W ignore src/train.py data.py --lr 1", [SCRIPT]),
        ("/opt/venv/bin/python3 -Bu src/train.py", [SCRIPT]),
        ("python -m pkg.train --out x", [MODULE]),
        ("python -um pkg.train", [MODULE]),
        ("python -mpkg.train", [MODULE]),
        ("uv run src/train.py", [SCRIPT]),
        ("uv run --with numpy python src/train.py", [SCRIPT]),
        ("uv run --with numpy -m pkg.train", [MODULE]),
        ("poetry run python -m pkg.train", [MODULE]),
        ("pipenv run src/train.py", [SCRIPT]),
        ("conda run -n env --no-capture-output python src/train.py", [SCRIPT]),
        ("./src/train.py --x", [PythonRun("./src/train.py")]),
        ("CUDA_VISIBLE_DEVICES=0 python src/train.py", [SCRIPT]),
        ("env A=1 nice -n 5 python src/train.py", [SCRIPT]),
        ("PYTHONPATH=.:lib python src/train.py", [(SCRIPT, "", (".", "lib"))]),
        ("PYTHONPATH=$PYTHONPATH:$PWD/a python -m pkg.train", [(MODULE, "", ("./a",))]),
        ("export PYTHONPATH=a; python src/train.py", [(SCRIPT, "", ("a",))]),
        ("cd sub && python src/train.py", [(SCRIPT, "sub", ())]),
        ("(cd a; cd b; python src/train.py)", [(SCRIPT, "a/b", ())]),
        ("python src/train.py > log.txt 2>&1", [SCRIPT]),
        ("python src/train.py|tee log.txt", [SCRIPT]),
        (
            "mkdir -p out && python src/train.py || python -m pkg.train",
            [SCRIPT, MODULE],
        ),
        (["echo a", "python src/train.py", "python -m pkg.train"], [SCRIPT, MODULE]),
        ("# python x.py\npython \\\n  src/train.py # python y.py", [SCRIPT]),
        ("python 'src/train.py' \"a && b\"", [SCRIPT]),
        ("torchrun --nproc_per_node 2 src/train.py --x y.py", [SCRIPT]),
        ("accelerate launch src/train.py", [SCRIPT]),
        ("python -m torch.distributed.run --x 2 src/train.py", [SCRIPT]),
        ("python -m coverage run -m pkg.train", [MODULE]),
        ("mpirun -n 4 python src/train.py", [SCRIPT]),
        ("cp src/train.py other.py", []),
        ("cat a.txt > b.txt", []),
        ("python --version", []),
        ("", []),
        (None, []),
    ],
)
def test_runs(cmd, runs):
    found = CommandLine.of(cmd)
    assert [
        (PythonRun(run.name, run.is_module), run.folder, run.paths)
        for run in found.runs
    ] == [run if isinstance(run, tuple) else (run, "", ()) for run in runs]
    assert not found.unclear


@pytest.mark.parametrize(
    "cmd, why",
    [
        ("papermill in.ipynb out.ipynb", "notebooks are not read"),
        ("jupytext --to py --execute x.md", "notebooks are not read"),
        ("uv run jupyter nbconvert --execute a.ipynb", "notebooks are not read"),
        ("bash run.sh", "scripts of a shell are not read"),
        ("./run.sh", "scripts of a shell are not read"),
        ("python -c 'import a'", "code in a command is not read"),
        ("python - < x.py", "code in a command is not read"),
        ("python $SCRIPT", "the shell makes up '$SCRIPT' as it runs"),
        ("python -m pdb -c continue", "which script 'pdb' runs is unknown"),
        ("make train", "files of make are not read"),
        ("python 'x", "no closing quotation"),
    ],
)
def test_what_is_not_understood_is_named(cmd, why):
    found = CommandLine.of(cmd)
    assert not found.runs
    (text,) = found.unclear
    assert text.endswith(why)


@pytest.mark.parametrize(
    "cmd, words",
    [
        ("mytool train --lr 1", ("mytool",)),
        ("A=1 .venv/bin/mytool train", (".venv/bin/mytool",)),
        ("uv run mytool train", ("uv", "run", "mytool", "train")),
        ("timeout 5 mytool train", ("timeout", "5", "mytool", "train")),
    ],
)
def test_other_programs(cmd, words):
    (run,) = CommandLine.of(f"cd sub && {cmd}").programs
    assert (run.words, run.folder) == (words, "sub")
    assert isinstance(run, ProgramRun)
    assert not CommandLine.of("python x.py; ./x.py; bash x.sh").programs
