"""Which answers share a message. How batches run is in tests/contract/test_batches_served.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.batching import runs

examples = settings(max_examples=300, deadline=None, derandomize=True, database=None)

answers = st.dictionaries(st.integers(0, 30), st.tuples(st.binary(max_size=20), st.booleans()), max_size=25)


@examples
@given(answers, st.randoms(use_true_random=False), st.integers(0, 100))
def test_every_answer_is_in_one_message_with_those_that_follow_it(
    ready: dict[int, tuple[bytes, bool]], random: object, limit: int
) -> None:
    shuffled = [(place, body, failed) for place, (body, failed) in ready.items()]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    found: dict[int, tuple[bytes, bool]] = {}
    for first, bodies, failed in runs(shuffled, limit):
        assert bodies
        assert len(bodies) == 1 or not failed, "a failure stands alone"
        assert len(bodies) == 1 or sum(map(len, bodies)) + 4 * len(bodies) <= limit
        for place, body in enumerate(bodies, first):
            assert place not in found
            found[place] = body, failed
    assert found == ready


def test_answers_are_put_in_order_and_cut_where_one_is_missing() -> None:
    ready = [(3, b"d", False), (0, b"a", False), (1, b"b", False), (5, b"!", True), (6, b"g", False), (4, b"e", False)]
    assert list(runs(ready, 1000)) == [
        (0, [b"a", b"b"], False),
        (3, [b"d", b"e"], False),
        (5, [b"!"], True),
        (6, [b"g"], False),
    ]


def test_a_message_has_no_more_than_its_limit_unless_one_answer_has() -> None:
    ready = [(place, b"x" * 10, False) for place in range(5)]
    assert [len(bodies) for _, bodies, _ in runs(ready, 28)] == [2, 2, 1]
    assert [len(bodies) for _, bodies, _ in runs(ready, 1)] == [1] * 5
