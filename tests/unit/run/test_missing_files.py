"""Which file a program has not found, by what programs say."""

import json

import pytest

from dvc_parallel.run.missing_files import MOST_BYTES, load_written, names_not_found

# What it prints, and the name in it.
SAID = {
    b"FileNotFoundError: [Errno 2] No such file or directory: 'a b.csv'": "a b.csv",
    b"FileNotFoundError: [Errno 2] File data/raw.csv does not exist": "data/raw.csv",
    b"OSError: data/raw.npy not found.": "data/raw.npy",
    b"cat: raw.csv: No such file or directory": "raw.csv",
    b"cat: a b.csv: No such file or directory": "a b.csv",
    b"cp: cannot stat 'raw.csv': No such file or directory": "raw.csv",
    b"/bin/bash: line 1: raw.csv: No such file or directory": "raw.csv",
    b"sh: 1: cannot open raw.csv: No such file": "raw.csv",
    b"  cannot open file 'raw.csv': No such file or directory": "raw.csv",
    "cannot open file \u2018raw.csv\u2019: No such file".encode(): "raw.csv",
    b"Error: 'raw.csv' does not exist in current working directory ('/w').": "raw.csv",
    b'SystemError: opening file "raw.csv": No such file or directory': "raw.csv",
    b"Error: ENOENT: no such file or directory, open 'raw.csv'": "raw.csv",
    b"java.io.FileNotFoundException: raw.csv (No such file or directory)": "raw.csv",
    b"make: *** No rule to make target 'raw.csv', needed by 'x'.  Stop.": "raw.csv",
    b"\x1b[31mcat: raw.csv: No such file or directory\x1b[0m": "raw.csv",
}


@pytest.mark.parametrize("line", SAID)
def test_names_that_were_not_found(line):
    assert SAID[line] in [*names_not_found(line)]


@pytest.mark.parametrize("line", [b"", b"reading raw.csv", b"No\x00 such file: \xff"])
def test_other_lines(line):
    assert not [*names_not_found(line)]


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "1", '{"a": 1}', '{"a": [1]}', "[" * 10**5]
)
def test_what_was_written_may_be_damaged(tmp_path, text):
    (tmp_path / "parallel").mkdir()
    file = tmp_path / "parallel" / "written.json"
    file.write_text(text)
    assert load_written(str(tmp_path)) == {}


def test_what_was_written_is_not_read_without_end(tmp_path):
    (tmp_path / "parallel").mkdir()
    file = tmp_path / "parallel" / "written.json"
    file.write_text(json.dumps({"dvc.yaml:a": ["x"]}))
    assert load_written(str(tmp_path)) == {"dvc.yaml:a": ["x"]}
    with open(file, "ab") as fobj:
        fobj.truncate(MOST_BYTES + 1)
    assert load_written(str(tmp_path)) == {}
