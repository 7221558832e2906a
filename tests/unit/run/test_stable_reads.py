import pytest
from dvc_data.hashfile.build import build as dvc_build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.fs import localfs

from dvc_parallel.engine.file_stamp import signature_of
from dvc_parallel.run.stable_reads import PAUSES, StableReads


class Everything:
    """Ignore rules that leave all files."""

    def walk(self, fs, path):
        return fs.walk(path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def hash_folder(tmp_path, folder):
    odb = LocalHashFileDB(localfs, str(tmp_path / "cache"))

    def hash_it(reads, *meanwhile):
        """Hash it; do something when it was listed for the first time, second, ..."""
        to_do, paused = list(meanwhile), []

        def build(ignore):
            if to_do:
                to_do.pop(0)()
            path = str(folder)
            return dvc_build(odb, path, localfs, "md5", ignore=ignore, dry_run=True)

        args = build, localfs, str(folder), Everything(), paused.append
        _, _, tree = reads.build(*args)
        return {"/".join(key): hi.value for key, _, hi in tree}, paused

    return hash_it


def test_what_stays_as_it_is_is_read_once(hash_folder):
    files, paused = hash_folder(StableReads())
    assert sorted(files) == ["a", "b", "sub/c"]
    assert not paused


def test_files_that_vanish_are_taken_as_vanished(hash_folder, folder):
    files, _ = hash_folder(StableReads(), (folder / "sub/c").unlink)
    assert sorted(files) == ["a", "b"]


def test_files_that_come_and_change_are_hashed(hash_folder, folder):
    def change():
        (folder / "new").write_text("new")
        (folder / "a").write_text("other")

    before, _ = hash_folder(StableReads())
    files, paused = hash_folder(StableReads(), change)
    assert sorted(files) == ["a", "b", "new", "sub/c"]
    assert files["a"] != before["a"]
    assert len(paused) == 1


def test_what_never_rests_is_read_a_few_times(hash_folder, folder):
    reads = StableReads()
    names = iter(range(100))

    def replace():
        for path in folder.glob("tmp-*"):
            path.unlink()
        (folder / f"tmp-{next(names)}").write_text("x")

    files, paused = hash_folder(reads, *[replace] * 100)
    assert {"a", "b", "sub/c"} <= {*files}
    assert len(paused) == len(PAUSES)
    files, paused = hash_folder(reads, *[replace] * 100)
    assert {"a", "b", "sub/c"} <= {*files}
    assert not paused


def test_errors_are_dvcs(hash_folder, folder):
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="broken"):
        hash_folder(StableReads())


def test_a_folder_that_vanishes(hash_folder, folder):
    def remove():
        folder.rename(folder.with_name("other"))

    with pytest.raises(FileNotFoundError, match="src"):
        hash_folder(StableReads(), remove)


@pytest.mark.parametrize("content", [None, "half"])
def test_a_file_that_is_being_replaced(tmp_path, content):
    path = tmp_path / "params.yaml"
    if content:
        path.write_text(content)

    def read(_):
        text = path.read_text()
        if text == "half":
            raise ValueError(text)
        return text

    args = str(path), read, lambda: signature_of(str(path))
    assert StableReads().read(*args, lambda _: path.write_text("whole")) == "whole"

    path.unlink()
    paused = []
    with pytest.raises(FileNotFoundError):
        StableReads().read(*args, paused.append)
    assert len(paused) == 1


def bytecode(number):
    return [("m.py",), *(("__pycache__", str(i)) for i in range(number))]


def test_bytecode_is_told_of_once(caplog):
    reads = StableReads()
    reads.in_command |= {"a", "b", "c"}
    for stage, number in (("a", 1), ("a", 1)):
        reads.watch("/src", "src", stage, bytecode(number))
    assert not caplog.records
    for stage, number in (("b", 2), ("c", 3)):
        reads.watch("/src", "src", stage, bytecode(number))
    (record,) = caplog.records
    text = record.getMessage()
    assert "'src', a dependency of stage 'b'" in text
    assert "(a, c)" in text
    assert ".dvcignore" in text
    assert "PYTHONDONTWRITEBYTECODE=1" in text


def test_bytecode_of_stages_that_run_alone_is_as_in_serial_dvc(caplog):
    reads = StableReads()
    for number in range(3):
        reads.in_command = {"a"}
        reads.watch("/src", "src", "a", bytecode(number))
    assert not caplog.records
