"""Anything may come over a connection: it is answered or closed, costs no more than it may, and nobody else notices."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.broker.session import State
from tests.fuzz.arena import cut, one_by_one, play, play_all_ways
from tests.fuzz.seeds import OPEN, SEEDS
from tests.fuzz.streams import mutated, places, streams
from tests.unit.broker.wire import PROTOCOL_HEADER, Client, broker, marshal, message, raw

examples = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", SEEDS)
def test_what_broke_others_breaks_nothing_however_it_is_cut(name: str) -> None:
    data = SEEDS[name]
    if len(data) < 20_000:
        play_all_ways(data, range(0, len(data), 7))
    else:
        assert play(cut(data, range(0, len(data), 9973))) == play([data])


def test_an_ordinary_day_goes_through() -> None:
    outcome = play([SEEDS["an ordinary day"]])
    assert (outcome.state, [taken for _, _, taken in outcome.confirmed]) == (State.CLOSED, [True] * 4)
    assert ("z", 1) not in outcome.queues


@examples
@given(streams, places)
def test_it_makes_no_difference_how_a_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    play_all_ways(data, cuts)


@examples
@given(mutated(), places)
def test_a_stream_with_mistakes_is_answered_or_closed_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    play_all_ways(data, cuts)


@examples
@given(st.binary(max_size=300), places, st.sampled_from([b"", PROTOCOL_HEADER, OPEN]))
def test_any_bytes_are_answered_or_closed_however_they_are_cut(data: bytes, cuts: list[int], before: bytes) -> None:
    play_all_ways(before + data, cuts)


@examples
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 8, 0, 9]), st.integers(0, 3), st.binary(max_size=40)), max_size=10),
    places,
)
def test_any_frames_are_answered_or_closed(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    play_all_ways(OPEN + b"".join(raw(*frame) for frame in frames), cuts)


def test_a_frame_that_drips_in_is_put_together_once() -> None:
    client = Client(broker())
    client.channel().declare("q")
    data = marshal(1, *message("q", b"x" * 20_000))
    for at, byte in enumerate(one_by_one(data[:-1]), 1):
        client.session.receive(byte)
        assert client.session._gathered <= at
    assert len(client.session._rest) > 19_000, "joined with each byte, and that costs the square of its length"
    client.session.receive(data[-1:])
    assert client.session._gathered == 0
    assert client.session.channels[1].vhost.queues["q"].ready_bytes == 20_000


def test_what_is_claimed_is_not_held() -> None:
    client = Client(broker())
    client.channel()
    client.session.receive(b"\x03\0\1" + (131072).to_bytes(4, "big") + b"x" * 1000)
    assert client.session._gathered == 1007
    client.session.receive(b"y" * (131072 - 1000) + b"\0")
    assert client.session._gathered == 0
