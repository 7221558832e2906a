"""Stages on workers with clones leave what serial DVC leaves."""

from tests.project import assert_same

from .workers import reproduce

DAG = """\
    stages:
      a:
        cmd: cat in.txt > a.txt && echo a >> a.txt
        deps: [in.txt]
        outs: [a.txt]
      b:
        cmd: [mkdir -p b, cat in.txt > b/one, echo two > b/two]
        deps: [in.txt]
        outs: [b]
      c:
        cmd: cat a.txt b/* > c.txt && echo '{"n":' $(cat c.txt | wc -l) '}' > m.json
        deps: [a.txt, b]
        params: [p]
        outs: [c.txt]
        metrics: [{m.json: {cache: false}}]
      d:
        cmd: cat c.txt m.json b/one > d.txt
        deps: [c.txt, m.json, b/one]
        outs: [d.txt]
    """


def test_a_pipeline_that_splits_and_merges(twins, make_workers, with_remote):
    serial, parallel = twins(DAG, {"in.txt": "in\n", "params.yaml": "p: 1\n"})
    with_remote(serial, parallel)
    workers = make_workers()
    for number in range(2):
        for project in (serial, parallel):
            project.write({"in.txt": f"in {number}\n"})
        expected = serial.reproduce()
        assert reproduce(parallel, workers) == expected == ["a", "b", "c", "d"]
        assert_same(serial, parallel)
    assert len(workers.requests) > 8  # some came again, with a pack
