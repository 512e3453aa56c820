"""What the harness itself rests on, without any broker."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.differential.campaign import common_start, shorten
from tests.differential.differences import DIFFERENCES, apply_rules
from tests.differential.fields import Reader, Typed, decode_arguments, encode_arguments, encode_table
from tests.differential.language import Get, Publish
from tests.differential.link import Channel
from tests.differential.machine import compose
from tests.differential.order import take_in_order
from tests.differential.rendering import Names
from tests.differential.scenarios import SCENARIOS
from tests.differential.wire import Cutter, Frame, content_frames, decode_header, encode_frames

texts = st.text(max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20)
    | st.builds(Typed, st.just("l"), st.integers(-(2**63), 2**63 - 1))
    | st.builds(Typed, st.just("b"), st.integers(-128, 127))
    | st.builds(Typed, st.just("T"), st.integers(0, 2**64 - 1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_table_is_decoded_to_what_was_encoded(table: dict[str, object]) -> None:
    assert Reader(encode_table(table)).table() == table


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 2**32 - 1))
def test_bits_share_octets(bits: list[bool], number: int) -> None:
    types = ["long", *["bit"] * len(bits), "short"]
    encoded = encode_arguments(types, [number, *bits, 7])
    assert decode_arguments(types, encoded) == [number, *bits, 7]
    assert len(encoded) == 6 + (len(bits) + 7) // 8


@given(st.binary(max_size=50), st.integers(9, 20), st.integers(1, 30))
def test_frames_are_cut_wherever_the_bytes_break(body: bytes, limit: int, step: int) -> None:
    frames = content_frames(3, {"priority": 1}, body, limit)
    data = encode_frames(frames)
    cutter = Cutter()
    cut = [frame for at in range(0, len(data), step) for frame in cutter.feed(data[at : at + step])]
    assert cut == frames
    assert isinstance(cut[0], Frame)
    assert decode_header(cut[0].payload) == ({"priority": 1}, len(body))


def test_invented_names_become_placeholders_and_are_found_again() -> None:
    names = Names("aside")
    said = names.normalise("queue.declare-ok queue='amq.gen-AbC_d-1' in vhost 'aside'")
    assert said == "queue.declare-ok queue='<queue 1>' in vhost '/'"
    assert names.normalise("'amq.gen-zz' and 'amq.gen-AbC_d-1'") == "'<queue 2>' and '<queue 1>'"
    assert names.resolve({"a": ["<queue 2>", "<queue 9>", 5]}) == {"a": ["amq.gen-zz", "<queue 9>", 5]}


def deliver(consumer: str, tag: int, body: str) -> str:
    return f"basic.deliver consumer_tag='{consumer}' delivery_tag={tag} redelivered=False | {{}} | '{body}'"


def test_deliveries_of_several_queues_are_put_in_the_order_of_the_queues() -> None:
    channel = Channel(consumers={"b1": "b", "a1": "a"}, unsettled=[4, 5, 6])
    channel.events = [deliver("b1", 4, "x"), deliver("a1", 5, "y"), deliver("b1", 6, "z")]
    assert take_in_order(channel) == [deliver("a1", 4, "y"), deliver("b1", 5, "x"), deliver("b1", 6, "z")]
    assert channel.unsettled == [5, 4, 6], "the oldest is still that of the first line"


def test_deliveries_of_one_queue_stay_as_they_came() -> None:
    channel = Channel(consumers={"1": "q", "2": "q"})
    channel.events = came = [deliver("2", 1, "x"), deliver("1", 2, "y")]
    assert take_in_order(channel) == came


def test_deliveries_of_a_connection_that_ends_are_left_out() -> None:
    channel = Channel(events=[deliver("a", 1, "x"), "channel.close-ok"])
    assert take_in_order(channel, ending=True) == ["channel.close-ok"]


def test_a_lone_confirm_stays_where_it_was_and_several_are_sorted() -> None:
    channel = Channel(events=["basic.ack 1", "basic.return x"])
    assert take_in_order(channel) == ["basic.ack 1", "basic.return x"]
    channel.events = ["basic.ack 10", "basic.nack 9", "basic.return x"]
    assert take_in_order(channel) == ["basic.return x", "basic.nack 9", "basic.ack 10"]


def test_operations_are_left_out_until_nothing_more_can_be() -> None:
    operations = tuple(Get(str(number)) for number in range(20))
    needed = {operations[3], operations[17]}
    assert set(shorten(lambda tried: needed <= set(tried), operations)) == needed


def test_transcripts_agree_up_to_where_they_part() -> None:
    assert common_start([("a", "b", "c"), ("a", "b", "d"), ("a", "b")]) == ("a", "b")


def test_operations_print_what_differs_from_the_defaults() -> None:
    assert repr(Publish("", "q", mandatory=True)) == "Publish(exchange='', routing_key='q', mandatory=True)"


def test_a_seed_makes_the_same_sequence_again() -> None:
    assert compose(Random("1/5")) == compose(Random("1/5")) != compose(Random("1/6"))


def test_scenarios_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(map(str, SCENARIOS)).items() if count > 1] == []


def test_differences_are_of_scenarios_that_there_are() -> None:
    assert set(DIFFERENCES) <= set(map(str, SCENARIOS))


@pytest.mark.parametrize("kind", ["configure", "write", "read"])
def test_wording_of_versions_is_no_difference(kind: str) -> None:
    text = "ACCESS_REFUSED - {}access to queue 'q' in vhost '/' refused for user 'u'"
    assert apply_rules(text.format(f"{kind} ")) == text.format("")
