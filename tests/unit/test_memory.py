"""What a worker remembers: bounded in number, time and bytes. Against a model that is slow and plainly right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqproxy.memory import Memory


def test_what_was_put_is_there_until_its_time_is_over() -> None:
    memory = Memory(entries=10, seconds=5.0, max_bytes=100)
    memory.put("a", b"1", 1.0)
    assert memory.get("a", 5.9) == b"1"
    assert memory.get("a", 6.0) is None
    assert memory.get("b", 1.0) is None


def test_the_oldest_go_when_there_are_too_many() -> None:
    memory = Memory(entries=2, seconds=5.0, max_bytes=100)
    for key in "abc":
        memory.put(key, key.encode(), 1.0)
    assert [memory.get(key, 1.0) for key in "abc"] == [None, b"b", b"c"]
    assert len(memory) == 2


def test_the_oldest_go_when_they_are_too_large_together() -> None:
    memory = Memory(entries=10, seconds=5.0, max_bytes=5)
    for key in "abc":
        memory.put(key, b"xx", 1.0)
    assert [memory.get(key, 1.0) for key in "abc"] == [None, b"xx", b"xx"]
    assert memory.bytes == 4


def test_what_is_too_large_for_all_of_it_drives_nobody_out() -> None:
    memory = Memory(entries=10, seconds=5.0, max_bytes=5)
    memory.put("a", b"xx", 1.0)
    memory.put("b", b"xxxxxx", 1.0)
    assert (memory.get("a", 1.0), memory.get("b", 1.0), memory.bytes) == (b"xx", None, 2)


def test_what_is_over_takes_no_room() -> None:
    memory = Memory(entries=10, seconds=5.0, max_bytes=100)
    for moment in range(100):
        memory.put(str(moment), b"1", float(moment))
    assert len(memory) == 5


def test_a_time_too_short_for_the_clock_keeps_nothing() -> None:
    """A loop's clock counts the seconds since the machine was started, in 53 bits."""
    memory = Memory(entries=10, seconds=1e-13, max_bytes=100)
    memory.put("a", b"1", 123_456.0)
    assert (memory.get("a", 123_456.0), len(memory), memory.bytes) == (None, 0, 0)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.binary(max_size=6), st.floats(0, 2)), max_size=30),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_it_is_what_the_model_is(steps: list[tuple[str, bytes, float]], entries: int, max_bytes: int) -> None:
    memory, model, now = (
        Memory(entries=entries, seconds=3.0, max_bytes=max_bytes),
        list[tuple[str, bytes, float]](),
        0.0,
    )
    for key, value, pause in steps:
        now += pause
        memory.put(key, value, now)
        model = [one for one in model if one[0] != key and one[2] > now]
        if len(value) <= max_bytes:
            model.append((key, value, now + 3.0))
        while len(model) > entries or sum(len(one[1]) for one in model) > max_bytes:
            del model[0]
        found = {key: memory.get(key, now) for key in "abcd"}
        assert found == {**dict.fromkeys("abcd"), **{key: value for key, value, _ in model}}
        assert memory.bytes <= max_bytes
        assert len(memory) <= entries
