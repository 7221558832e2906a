from hypothesis import given
from hypothesis import strategies as st
from pygtrie import Trie

from dvc_parallel.engine.path_conflicts import _Users

PLACES = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)


@given(st.lists(st.tuples(PLACES, PLACES)))
def test_stages_are_found_by_the_places_that_they_use(steps):
    """Compared with a trie, and asked in between."""
    trie, users = Trie(), _Users(())
    for rank, (place, asked) in enumerate(steps):
        trie.setdefault(place, []).append(rank)
        users.add(place, rank)
        above = [it for step in trie.prefixes(asked) for it in step.value]
        assert sorted(users.above(asked)) == sorted(above)
        below = trie.values(prefix=asked) if trie.has_node(asked) else []
        assert sorted(users.below(asked)) == sorted(it for its in below for it in its)
