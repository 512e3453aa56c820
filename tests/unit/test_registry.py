"""Which codecs there are: every message in each encoding that carries it, further ones, and those not installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import Codec, DecodingFailed, Mismatch, Shape, carries, listing, natural_encoding, not_carried
from amqproxy.codecs import registry as the_registry
from amqproxy.codecs.compression import COMPRESSIONS
from amqproxy.codecs.json import JSON
from amqproxy.codecs.registry import EXTRAS, OWN, codecs, missing_extra
from amqproxy.contract import Method, contract_of
from amqproxy.errors import ContractError, EncodingFailed, MessageTooLarge
from amqproxy.options import CallOptions, ServeOptions
from tests.idl import closed_pb2 as closed
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty
from tests.idl.values import messages, structs, texts

examples = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LIMIT = 1 << 20
PLAIN = ["json", "protobuf", "thrift", "thrift-compact"]


@dataclass
class Page:
    items: list[str]
    number: int = 1


class Library:
    def plain(self, page: Page, text: str = "") -> dict[str, Page]:
        raise NotImplementedError

    def protobuf(self, value: kinds.Kinds) -> closed.Order:
        raise NotImplementedError

    def thrift(self, value: thrifty.Kinds) -> thrifty.Tree:
        raise NotImplementedError

    def half(self, value: kinds.Scalars) -> int:
        raise NotImplementedError

    def nothing(self) -> None:
        raise NotImplementedError

    def ping(self) -> kinds.Plain:
        raise NotImplementedError

    def forget(self, value: thrifty.Item) -> None:
        raise NotImplementedError


class Torn:
    def mixed(self, value: kinds.Kinds) -> thrifty.Tree:
        raise NotImplementedError


METHODS = contract_of(Library).methods
MIXED = contract_of(Torn).methods["mixed"]
pages = st.builds(Page, st.lists(texts, max_size=3), st.integers(-(2**63), 2**63 - 1))
CALLS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "plain": (st.tuples(pages, texts), st.dictionaries(texts, pages, max_size=2)),
    "protobuf": (st.tuples(messages(kinds.Kinds, depth=2)), messages(closed.Order, depth=2)),
    "thrift": (st.tuples(structs(thrifty.Kinds, depth=2)), structs(thrifty.Tree, depth=2)),
    "half": (st.tuples(messages(kinds.Scalars)), st.integers(-(2**63), 2**63 - 1)),
    "nothing": (st.just(()), st.none()),
    "ping": (st.just(()), messages(kinds.Plain)),
    "forget": (st.tuples(structs(thrifty.Item)), st.none()),
}


class Further:
    """A codec as a user would write one, though it writes nothing."""

    name = "further"
    forms = frozenset(("plain",))

    def request(self, method: Method) -> Shape:
        return JSON().request(method)

    def result(self, method: Method) -> Shape:
        return JSON().result(method)

    def anything(self) -> Shape:
        return JSON().anything()


def further(**changes: Any) -> Any:
    return type("Changed", (Further,), changes)()


def test_there_is_each_codec_as_it_is_and_within_each_compression() -> None:
    found = codecs(LIMIT)
    assert set(found) == {*PLAIN, *(f"{prefix}-{name}" for prefix in COMPRESSIONS for name in PLAIN)}
    assert [codec.name for codec in OWN] == PLAIN
    for name, codec in found.items():
        assert codec.name == name
        assert len(name.encode()) < 256


def test_nothing_that_runs_code_is_a_codec() -> None:
    for name in ("pickle", "yaml", "marshal", "dill", "cloudpickle", "application/x-python-serialize", "", "JSON"):
        assert name not in codecs(LIMIT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", {"json"}),
        ("protobuf", {"json", "protobuf"}),
        ("thrift", {"thrift", "thrift-compact"}),
        ("half", {"json"}),
        ("nothing", set(PLAIN)),
        ("ping", {"json", "protobuf"}),
        ("forget", {"thrift", "thrift-compact"}),
    ],
)
def test_a_method_travels_in_what_carries_both_its_request_and_its_result(name: str, expected: set[str]) -> None:
    carried = {codec.name for codec in codecs(LIMIT).values() if carries(codec, METHODS[name])}
    assert carried == expected | {f"{prefix}-{plain}" for prefix in COMPRESSIONS for plain in expected}
    assert natural_encoding(METHODS[name]) in expected


def test_the_natural_encoding_is_the_one_that_messages_were_made_for() -> None:
    assert {name: natural_encoding(method) for name, method in METHODS.items()} == {
        "plain": "json",
        "protobuf": "protobuf",
        "thrift": "thrift",
        "half": "json",
        "nothing": "json",
        "ping": "protobuf",
        "forget": "thrift",
    }


@pytest.mark.parametrize("name", METHODS)
@examples
@given(data=st.data())
def test_calls_of_every_form_go_there_and_back_in_every_encoding(name: str, data: st.DataObject) -> None:
    method, (arguments, results) = METHODS[name], CALLS[name]
    given_arguments, result = data.draw(arguments), data.draw(results)
    for codec in codecs(LIMIT).values():
        if carries(codec, method):
            shape = codec.request(method)
            request = shape.decode(shape.encode(method.bind(given_arguments, {})))
            assert method.call(lambda *args, **kwargs: (*args, *kwargs.values()), request) == given_arguments
            shape = codec.result(method)
            assert shape.decode(shape.encode(result)) == result


@pytest.mark.parametrize("name", METHODS)
@examples
@given(body=st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_or_decoded_in_every_encoding(name: str, body: bytes) -> None:
    for codec in codecs(LIMIT).values():
        if carries(codec, METHODS[name]):
            for shape in (codec.request(METHODS[name]), codec.result(METHODS[name])):
                try:
                    shape.decode(body)
                except DecodingFailed as error:
                    assert str(error)


def test_nothing_is_written_where_nothing_is_due() -> None:
    for codec in codecs(LIMIT).values():
        shape = codec.result(METHODS["nothing"])
        assert shape.decode(shape.encode(None)) is None
        with pytest.raises(Mismatch):
            shape.encode(5)
        with pytest.raises(DecodingFailed):
            shape.decode(b"\x08\x01 and more")


def test_why_a_method_is_not_carried_is_told_with_what_does() -> None:
    known = codecs(LIMIT)
    after = "(each also after snappy-, zstd-, gzip-, lz4-)"
    told = not_carried(known["thrift"], METHODS["plain"], known.values())
    assert told.startswith("Library.plain(page: ") and "does not travel as thrift" in told
    assert told.endswith(f"since its messages are plain; it does as json {after}")
    told = not_carried(known["gzip-json"], METHODS["thrift"], known.values())
    assert told.endswith(f"since its messages are thrift; it does as thrift, thrift-compact {after}")
    told = not_carried(known["json"], MIXED, known.values())
    assert told.endswith("it does as nothing else")
    assert listing(known) == f"json, protobuf, thrift, thrift-compact {after}"


# Further codecs


def test_a_further_codec_is_there_within_each_compression_too() -> None:
    codec: Codec = further()
    found = codecs(LIMIT, (codec,))
    assert found["further"].name == codec.name
    shape = found["zstd-further"].result(METHODS["plain"])
    assert shape.decode(shape.encode({"a": Page(["b"])})) == {"a": Page(["b"])}
    assert set(found) - set(codecs(LIMIT)) == {"further", *(f"{prefix}-further" for prefix in COMPRESSIONS)}
    assert "further" not in codecs(LIMIT)


def test_codecs_that_cannot_be_hashed_and_are_equal_to_each_other_are_taken() -> None:
    one, other = (
        further(name="one", __hash__=None),
        further(name="other", __eq__=lambda self, other: True, __hash__=None),
    )
    found = codecs(LIMIT, (one, other))
    assert (found["one"].name, found["other"].name) == ("one", "other")
    assert codecs(LIMIT, [one])["one"].name == "one"


@pytest.mark.parametrize("name", [*PLAIN, "snappy-json", "lz4-thrift-compact"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^there is an encoding '{name}' already$"):
        codecs(LIMIT, (further(name=name),))


def test_two_codecs_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^there is an encoding 'further' already$"):
        codecs(LIMIT, (further(), further()))


@pytest.mark.parametrize(
    "name", ["", 5, None, b"further", "x" * 256, "x" * 250, "ü", "a\nb", "a\0", "\ud800", "snappy-x", "gzip-json"]
)
def test_names_that_no_codec_can_have_are_refused_in_the_options(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="codec"):
        ServeOptions(codecs=(further(name=name),))
    with pytest.raises((TypeError, ValueError), match="codec"):
        CallOptions(encoding=further(name=name))


def test_what_is_no_codec_is_refused_in_the_options() -> None:
    for wrong, text in (
        (Further, "is a class, give an instance"),
        (object(), "lacks name, forms, request, result, anything"),
        (further(forms="plain"), "forms"),
    ):
        with pytest.raises(TypeError, match=text):
            ServeOptions(codecs=(wrong,))
        with pytest.raises(TypeError, match=text):
            CallOptions(encoding=wrong)


class Odd:
    """A shape that does what it is told to do."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def encode(self, value: Any) -> Any:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    decode = encode


OURS = (Mismatch("m"), EncodingFailed("e"), MessageTooLarge("l"))
FOREIGN = (ValueError("v"), KeyError("k"), RecursionError("r"), MemoryError("m"), DecodingFailed("d"))


@pytest.mark.parametrize("error", [*OURS, *FOREIGN], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("of", ["request", "result", "anything"])
def test_what_a_further_codec_raises_becomes_an_error_of_ours(of: str, error: Exception) -> None:
    codec = codecs(LIMIT, (further(**{of: lambda self, *method: Odd(error)}),))["further"]
    shape = getattr(codec, of)(*([] if of == "anything" else [METHODS["plain"]]))
    with pytest.raises(type(error) if error in OURS else EncodingFailed) as caught:
        shape.encode(5)
    assert str(error) in str(caught.value)
    with pytest.raises(DecodingFailed) as refusal:
        shape.decode(b"")
    assert str(error) in str(refusal.value)


@pytest.mark.parametrize("of", ["request", "result", "anything"])
def test_a_further_codec_that_has_no_shape_for_a_method_is_told_of_by_the_method(of: str) -> None:
    def refuse(self: Any, *method: Method) -> Shape:
        raise TypeError("a Page has no form")

    codec = codecs(LIMIT, (further(**{of: refuse}),))["further"]
    with pytest.raises(ContractError, match="further cannot carry this: a Page has no form") as caught:
        getattr(codec, of)(*([] if of == "anything" else [METHODS["plain"]]))
    assert ("Library.plain(" in str(caught.value)) == (of != "anything")


@pytest.mark.parametrize(
    "body", ["text", None, 5, bytearray(b"x"), memoryview(b"x"), [b"x"]], ids=lambda body: type(body).__name__
)
def test_what_a_further_codec_writes_is_bytes(body: Any) -> None:
    codec = codecs(LIMIT, (further(result=lambda self, method: Odd(body)),))["further"]
    with pytest.raises(EncodingFailed, match=f"further wrote a {type(body).__name__}, not bytes"):
        codec.result(METHODS["plain"]).encode(5)


# What is not installed


@pytest.mark.parametrize("prefix", ["", *(f"{name}-" for name in COMPRESSIONS)])
@pytest.mark.parametrize("name", EXTRAS)
def test_a_library_that_is_missing_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, prefix: str, name: str
) -> None:
    assert missing_extra(prefix + name) is None
    extra = name.partition("-")[0]
    expected = f"the encoding {prefix}{name} needs a library that is not installed: pip install 'amqproxy[{extra}]'"

    def without_the_package_around_it(package: str) -> Any:
        raise ModuleNotFoundError(package)

    for find in (lambda package: None, without_the_package_around_it):
        monkeypatch.setattr(the_registry, "find_spec", find)
        assert missing_extra(prefix + name) == expected
    for other in ("json", "snappy-json", "further", "", "-", f"nope-{name}", f"{name}-"):
        assert missing_extra(other) is None


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("google", "thrift"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import amqproxy
import amqproxy.cli
from amqproxy.codecs.registry import codecs, missing_extra
from amqproxy.contract import contract_of

def add(x: int, y: int) -> int:
    return x + y

method = contract_of(add).methods["add"]
for name, codec in codecs(1000).items():
    if name.endswith("json"):
        assert codec.request(method).decode(codec.request(method).encode(method.bind((1, 2), {}))).y == 2
        assert missing_extra(name) is None
    else:
        assert "pip install 'amqproxy[" in missing_extra(name), name
assert not any(name.partition(".")[0] in ("google", "thrift") for name in sys.modules)
print("ok")
"""


def test_all_else_works_where_neither_library_is_installed() -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("ok\n", "")
