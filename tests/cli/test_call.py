"""`amqproxy call` as it is typed, against a worker that `amqproxy serve` started."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from amqproxy.testing import free_port
from tests.cli.conftest import Invoke
from tests.processes import Ended, running
from tests.processes import amqproxy as command

Call = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def call(embedded_url: str) -> AsyncIterator[Call]:
    """`amqproxy call SERVICE`, with the service in front of the other arguments."""
    name = f"tests.{secrets.token_hex(4)}"
    serve = ("-m", "amqproxy", "serve", "served:Patient", "--name", name)
    async with running(*serve, AMQPROXY_URL=embedded_url) as worker:
        await worker.says(f"serving {name}")

        async def call(*arguments: str, stdin: str = "") -> Ended:
            return await command("call", name, *arguments, stdin=stdin, AMQPROXY_URL=embedded_url)

        yield call


async def test_result_is_printed_as_json(call: Call) -> None:
    ended = await asyncio.gather(
        call("add", "1", "-2"),
        call("add", "y=2", "x=1", "--json"),
        call("add", "-", stdin="[3, 4]"),
        call("greet", "--timeout", "5", "name=Ann"),
    )
    assert [(each.code, each.err) for each in ended] == [(0, "")] * 4
    assert [each.out for each in ended] == ["-1\n", "3\n", "7\n", '"hello Ann"\n']


async def test_an_encoding_is_used_or_what_there_is_is_told(call: Call) -> None:
    zstd, pickle, protobuf = await asyncio.gather(
        call("add", "1", "2", "--encoding", "zstd-json"),
        call("add", "1", "2", "--encoding", "pickle"),
        call("add", "1", "2", "--encoding", "protobuf"),
    )
    assert zstd == Ended(0, "3\n", "")
    assert (pickle.code, pickle.out) == (2, "")
    assert "there is no encoding 'pickle'; there are json, protobuf" in pickle.err
    assert (protobuf.code, protobuf.out) == (2, "")
    assert "protobuf travels between those who have the class" in protobuf.err


async def test_message_is_sent_by_its_class(call: Call) -> None:
    described = await call("nonsense", "--json")
    service = json.loads(described.err)["message"].split("'")[1].removesuffix(".nonsense")
    sent = await call("--message", f"{service}.add", "-", stdin='{"x": 3, "y": 4}')
    assert sent == Ended(0, "7\n", "")


async def test_failure_is_a_sentence_and_exit_code_1(call: Call) -> None:
    divide, sing, add = await asyncio.gather(call("divide", "1", "0"), call("sing"), call("add", "1", "two"))
    assert [(each.code, each.out) for each in (divide, sing, add)] == [(1, "")] * 3
    assert divide.err == "error: ZeroDivisionError: float division by zero\n"
    assert "does not serve" in sing.err
    assert "Expected `int`, got `str`" in add.err


async def test_failure_is_a_json_object_if_programs_want_it(call: Call) -> None:
    ended = await call("divide", "1", "0", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert json.loads(ended.err) == {
        "type": "ZeroDivisionError",
        "code": "unknown",
        "message": "float division by zero",
        "executed": "yes",
        "retryable": False,
        "details": None,
    }


async def test_call_without_an_answer_in_time_says_that_it_may_have_run(call: Call) -> None:
    ended = await call("never", "--timeout", "0.2")
    assert ended.code == 1
    assert "no answer within 0.2 s" in ended.err
    assert ended.err.endswith("may have run\n")
    told = json.loads((await call("never", "--timeout", "0.2", "--json")).err)
    assert (told["code"], told["executed"]) == ("deadline_exceeded", "maybe")


def test_unknown_service_fails_at_once(invoke: Invoke, embedded_url: str) -> None:
    ended = invoke("call", "tests.nobody", "add", "--json", "--url", embedded_url)
    assert ended.code == 1
    failure = json.loads(ended.err)
    assert (failure["type"], failure["code"], failure["executed"]) == ("Unroutable", "unavailable", "no")


def test_refused_connection_is_exit_code_3(invoke: Invoke) -> None:
    port = free_port()
    url = f"amqp://127.0.0.1:{port}/"
    ended = invoke("call", "calculator", "add", "--url", url)
    assert ended.code == 3
    assert ended.err.startswith(f"error: no broker listens at 127.0.0.1:{port}")
    ended = invoke("call", "calculator", "add", "--json", "--url", url)
    assert ended.code == 3
    assert json.loads(ended.err)["type"] == "BrokerUnavailable"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("calculator",), "which method of calculator?"),
        (("calculator", "add", "1", "y=2"), "all arguments by position or all by name"),
        (("calculator", "add", "--timeout", "0"), "--timeout is a number of seconds above 0"),
        (("calculator", "add", "--timeout", "inf"), "--timeout is a number of seconds above 0"),
        (("calculator", "add", "--header", "x"), "--header x is not NAME=VALUE"),
        (("calculator", "add", "--url", "x"), "a broker URL starts with"),
        (("calculator", "add", "--url", "embedded:"), "no other can reach it: start one for all of them with"),
        (("calculator", "--message", "Add", "1"), "the fields of a message are given by name"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("call", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert "Traceback" not in ended.err
