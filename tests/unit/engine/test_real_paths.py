import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvc_parallel.engine.real_paths import RealPaths

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=4)
# What is made, in this order: folders, files, and links, relative or absolute ones.
TREES = st.lists(
    st.one_of(
        st.tuples(st.just("folder"), PATHS),
        st.tuples(st.just("file"), PATHS),
        st.tuples(st.just("link"), PATHS, st.booleans(), TARGETS.map("/".join)),
    ),
    max_size=8,
)


def make(root, tree):
    for kind, name, *more in tree:
        path = os.path.join(root, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == "folder":
                os.makedirs(path, exist_ok=True)
            elif kind == "file":
                with open(path, "x"):
                    pass
            else:
                is_absolute, target = more
                os.symlink(os.path.join(root, target) if is_absolute else target, path)
        except OSError:
            pass  # something else is there


def write(path):
    """Write a file as a command would in whose folder nothing is missing."""
    os.makedirs(os.path.realpath(os.path.dirname(path)), exist_ok=True)
    with open(path, "a"):
        pass


@given(tree=TREES, one=PATHS, other=PATHS)
@settings(max_examples=300)
def test_two_paths_are_one_place_if_they_are_one_file(
    tmp_path_factory, tree, one, other
):
    root = str(tmp_path_factory.mktemp("tree"))
    make(root, tree)
    one, other = os.path.join(root, one), os.path.join(root, other)
    paths = RealPaths(root)
    routes = [paths.route(path) for path in (one, other)]
    exist = [os.path.exists(path) for path in (one, other)]
    try:
        write(one)
        write(other)
    except OSError:
        return  # one is a folder, in a file, or a circle of links
    assert [route.exists for route in routes] == exist
    places = [route.places[-1] for route in routes]
    assert (places[0] == places[1]) == os.path.samefile(one, other)
    real = [os.path.realpath(path) + "/" for path in (one, other)]
    assert (places[1][: len(places[0])] == places[0]) == real[1].startswith(real[0])


@pytest.fixture
def paths(tmp_path):
    return RealPaths(str(tmp_path), str(tmp_path / "cache"))


def test_a_link_is_a_place_and_leads_to_others(tmp_path, paths):
    (tmp_path / "folder").mkdir()
    (tmp_path / "up").symlink_to("folder")
    (tmp_path / "folder" / "one").symlink_to("../up/two")
    (tmp_path / "folder" / "two").symlink_to(tmp_path / "three")
    route = paths.route(str(tmp_path / "up" / "one"))
    names = [place[-2:] for place in route.places]
    assert names[:2] == [("folder", "one"), ("folder", "two")]
    assert names[2][-1] == "three"
    assert not route.exists
    assert {place[-1] for place in route.links} == {"up"}


def test_links_to_the_cache_are_not_followed(tmp_path, paths):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "object").touch()
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tmp_path / "cache" / "object")
    one, two = (paths.route(str(tmp_path / name)).places for name in ("one", "two"))
    assert not {*one} & {*two}
    assert not paths.links_in(str(tmp_path))


def test_names_without_links_and_files_with_several(tmp_path, paths):
    (tmp_path / "store").mkdir()
    (tmp_path / "data").symlink_to("store")
    (tmp_path / "store" / "x").touch()
    x = paths.route(str(tmp_path / "data" / "x"))
    assert x.names == (str(tmp_path / "store" / "x"),)
    assert x.file is None
    os.link(tmp_path / "store" / "x", tmp_path / "y")
    paths.forget_links()
    x, y = (paths.route(str(tmp_path / name)) for name in ("data/x", "y"))
    assert x.file == y.file is not None
    assert not {*x.places} & {*y.places}
    meet = [
        paths.meet(str(tmp_path / name), str(tmp_path / other))
        for name, other in [("data/x", "store/x"), ("data", "store/x"), ("y", "data")]
    ]
    assert meet == [True, True, False]


def test_links_in_a_folder(tmp_path, paths):
    for name in ("data", "data/.git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(tmp_path / "else")
    assert paths.links_in(str(tmp_path / "data")) == [str(tmp_path / "data" / "link")]
    assert not paths.links_in(str(tmp_path / "else"))


def test_a_link_that_is_made_later(tmp_path, paths):
    data, store = str(tmp_path / "data" / "x"), str(tmp_path / "store" / "x")
    assert paths.route(data).places != paths.route(store).places
    (tmp_path / "data").symlink_to("store")
    paths.forget_links()
    assert paths.route(data).places == paths.route(store).places


def test_where_the_case_of_names_is_ignored(tmp_path, paths, monkeypatch):
    lstat = os.lstat
    (tmp_path / "ignores").mkdir()
    (tmp_path / "ignores" / "File").touch()
    (tmp_path / "heeds").mkdir()
    (tmp_path / "heeds" / "File").touch()

    def lstat_there(path):
        if os.path.basename(os.path.dirname(path)) == "ignores":
            path = os.path.join(os.path.dirname(path), "File")
        return lstat(path)

    monkeypatch.setattr(os, "lstat", lstat_there)

    def is_one_place(folder, one, other):
        routes = (paths.route(str(tmp_path / folder / name)) for name in (one, other))
        return len({route.places for route in routes}) == 1

    assert is_one_place("ignores", "a", "A")
    assert is_one_place("ignores", "new/ä", "NEW/A\u0308")
    assert not is_one_place("ignores", "a", "b")
    assert not is_one_place("heeds", "a", "A")
    assert not is_one_place("heeds", "new/a", "new/A")
