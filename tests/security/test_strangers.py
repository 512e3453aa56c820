"""Requests and replies from those who mean no good: refused or passed over, and nobody else notices.

These are the rules S01 to S06, S10, S12, S18, S19 and S23 of docs/security.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.properties import Properties
from amqproxy.shown import shown
from tests.contract.raw import Raw
from tests.patience import until
from tests.security.served import SECRET, Vault, failure, refused, vault


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


PICKLE_NAMES = (
    *("application/python-pickle", "application/x-python-serialize", "application/x-python-pickle", "pickle"),
    *("application/x-java-serialized-object", "application/x-yaml", "application/x-python", "marshal"),
)


async def test_a_pickle_is_never_opened(mq: amqproxy.Client, raw: Raw, service: str, tmp_path: Path) -> None:
    bomb = pickle.dumps(Touch(tmp_path / "opened"))
    async with vault(mq, service):
        for name in PICKLE_NAMES:
            for properties in (
                {"content_type": name.encode()},
                {"content_type": f"{service}.add".encode(), "content_encoding": name.encode()},
                {"content_type": name.encode(), "content_encoding": b"pickle"},
            ):
                error = await refused(raw, service, bomb, **properties)
                assert (error["code"], error["executed"]) == ("unimplemented", "no")
        error = await refused(raw, service, bomb, content_type=f"{service}.add".encode())
        assert error["code"] == "invalid_argument"
    assert not (tmp_path / "opened").exists()
    pickle.loads(bomb)
    assert (tmp_path / "opened").exists()  # it would have been


async def test_a_reply_that_is_a_pickle_is_never_opened(
    mq: amqproxy.Client, raw: Raw, service: str, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Touch(tmp_path / "opened"))
    for name in PICKLE_NAMES:
        with pytest.raises(amqproxy.BadReply):
            await answered(mq, raw, bomb, content_type=name.encode(), content_encoding=name.encode())
        with pytest.raises(amqproxy.BadReply):
            await answered(mq, raw, bomb, content_type=name.encode())
    assert not (tmp_path / "opened").exists()


async def answered(mq: amqproxy.Client, raw: Raw, body: bytes, **properties: Any) -> Any:
    """What a caller makes of a reply."""
    call = asyncio.create_task(mq.proxy("x", routing_key=raw.reply_to.decode()).add(1, 2))
    asked = (await raw.next_message()).properties
    assert asked.reply_to is not None
    raw.publish(asked.reply_to.decode(), body, correlation_id=asked.correlation_id, **properties)
    return await call


CLASSES = (
    *("os.system", "builtins.eval", "subprocess.Popen", "java.lang.Runtime", "java.lang.ProcessBuilder", "vault"),
    *("SERVICE", "SERVICE.", ".add", "SERVICE.ADD", "service.add", "SERVICE.add ", " SERVICE.add", "SERVICE.add\0"),
    *("SERVICE.add;charset=utf-8", "SERVICE.add; v=1", "application/json", "application/x-java-serialized-object"),
    *("amqproxy.Describe", "amqproxy.Cancel", "amqproxy.Nothing", "x" * 255, "%s%n", "{0.__class__}", "*", "#"),
)


async def test_classes_that_are_not_served_are_refused_unread(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with vault(mq, service):
        for name in CLASSES:
            text = name.replace("SERVICE", service) if name != "service.add" else service.upper() + ".add"
            error = await refused(raw, service, b"\x80\x04no JSON at all", content_type=text.encode())
            assert (error["code"], error["executed"]) == ("unimplemented", "no"), name


METHODS = (
    *("_private", "__secret__", "__class__", "__init__", "__init__.__globals__", "__dict__", "__getattribute__"),
    *("password", "opened", "key", "level", "add.__func__", "add.__globals__", "add.im_func", "query.__code__"),
    *(
        "",
        ".",
        "..",
        "a.b",
        "mro",
        "Reply",
        "open.Reply",
        "\N{CYRILLIC SMALL LETTER A}dd",
        "\N{FULLWIDTH LATIN SMALL LETTER A}dd",
        "add\u200b",
        "aḋd",
    ),
    *("Add", "ADD", "add()", "add ", "x" * 200, "add\n", "add\r\nadd", "../add", "add/../open"),
)


async def test_only_what_is_exported_can_be_called(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with vault(mq, service) as (one, _):
        for name in METHODS:
            for body in (b"[]", b"{}", b'["self"]'):
                error = await refused(raw, service, body, content_type=f"{service}.{name}".encode())
                assert (error["code"], error["executed"]) == ("unimplemented", "no"), name
                assert SECRET not in error["text"]
        assert one.opened == []
        untyped = mq.proxy(service)
        for name in METHODS:
            if name and not name.startswith("_"):  # those a proxy refuses itself
                with pytest.raises((amqproxy.RemoteError, amqproxy.ContractError), match=r"does not serve|cannot have"):
                    await getattr(untyped, name)()


async def test_a_name_of_ten_thousand_letters_goes_nowhere(mq: amqproxy.Client, service: str) -> None:
    async with vault(mq, service):
        with pytest.raises((amqproxy.CallError, ValueError, TypeError), match="255"):
            await getattr(mq.proxy(service), "x" * 10_000)()


PEOPLE = (
    *("builtins.SystemExit", "SystemExit", "KeyboardInterrupt", "builtins.KeyboardInterrupt", "GeneratorExit"),
    *("os._exit", "os.system", "subprocess.Popen", "asyncio.CancelledError", "CancelledError", "BaseException"),
    *("StopIteration", "StopAsyncIteration", "ConnectionError", "ConnectionResetError", "MemoryError", "Warning"),
    *("amqproxy.errors.ConnectionLost", "amqproxy.connection.Connection", "eval", "type", "object", "", "é", "a" * 999),
    *("__import__('os').system('x')", "ValueError.__subclasses__", "builtins", "None", "Exception"),
)


@pytest.mark.parametrize("name", PEOPLE)
async def test_a_remote_exception_is_named_and_never_made(mq: amqproxy.Client, raw: Raw, name: str) -> None:
    body = {
        "message": "x",
        "throwableAsString": f"{name}: x",
        "exc_module": "os",
        "exc_type": "system",
        "error": {
            "code": "unknown",
            "type": name,
            "py/object": name,
            "details": {"__class__": name, "py/reduce": [name]},
        },
    }
    for error in (body, {k: v for k, v in body.items() if k != "error"}):
        with pytest.raises(amqproxy.RemoteError) as caught:
            await answered(mq, raw, json.dumps(error).encode(), content_type=FAILURE)
        assert type(caught.value) is amqproxy.RemoteError
        assert caught.value.executed == "maybe"


FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


async def test_an_exception_type_is_rebuilt_by_registration_only(mq: amqproxy.Client, raw: Raw) -> None:
    """An empty list means none, and a name chooses nothing else."""
    name = f"{Unregistered.__module__}.{Unregistered.__qualname__}"
    body = json.dumps({"message": "x", "error": {"type": name}}).encode()
    with pytest.raises(amqproxy.RemoteError) as caught:
        await answered(mq, raw, body, content_type=FAILURE)
    assert not isinstance(caught.value, Unregistered)
    assert Unregistered.made == 0


class Unregistered(Exception):
    made = 0

    def __init__(self, *args: object) -> None:
        type(self).made += 1
        super().__init__(*args)


IDS = (b"\xff" * 255, b"", b"x" * 255, "\N{PILE OF POO}".encode() * 60, b"\n[ERROR] all is lost", b"\0", b"\x1b[2J")


async def test_correlation_ids_come_back_byte_for_byte_and_go_nowhere_else(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with vault(mq, service):
        for id in IDS:
            answer = await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode(), correlation_id=id)
            assert (answer.body, answer.properties.correlation_id) == (b"3", id)
    assert "all is lost" not in caplog.text


ADDRESSES = (
    *(b"\xff" * 255, b"x" * 255, "\N{PILE OF POO}".encode() * 60, b"\n[ERROR] all is lost", b"\0", b"/", b" "),
    *(b"amq.rabbitmq.reply-to.", b"amq.direct"),
    *(b"amq.gen-\xff", b"amq.gen-nobody", b"/temp-queue/x", b"/exchange/amq.direct/x", b"amq.direct/x", b"#", b"*"),
    *(b"amqproxy.SERVICE", b"SERVICE", b"a" * 254),
)


async def test_any_reply_to_harms_nobody(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with vault(mq, service):
        for name in ADDRESSES:
            for body in (b"[1,2]", b"no JSON"):
                raw.publish(
                    service,
                    body,
                    content_type=f"{service}.add".encode(),
                    reply_to=name.replace(b"SERVICE", service.encode()),
                    correlation_id=b"1",
                )
        answer = await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode(), correlation_id=b"last")
        assert answer.properties.correlation_id == b"last"
    assert not [line for line in caplog.text.splitlines() if line.startswith("[ERROR]")]


@pytest.mark.parametrize("method", ["add", "chat"])
async def test_a_made_up_address_of_direct_reply_to_harms_at_most_once(
    mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ 3.10 ends the connection of whoever writes there: that must not be done again and again."""
    one = Vault()
    async with amqproxy.connect(amqp_url) as own, own.serve(one, name=service, auto_delete=False) as worker:
        proxy = amqproxy.options(mq.proxy(Vault, name=service), idempotent=True)
        for name in (b"garbage==.x", b"g1h2AA5yZXBseUAxNDEw.ssNBLZJ3TyFWHw==", b"x" * 200):
            raw.publish(
                service,
                b"[1,2]" if method == "add" else b"[]",
                content_type=f"{service}.{method}".encode(),
                reply_to=b"amq.rabbitmq.reply-to." + name,
                correlation_id=b"1",
                headers={"x-stream-credit": 10, "x-heartbeat-ms": 50} if method == "chat" else {},
            )
            answered = worker.answered
            await until(lambda before=answered: worker.answered > before, within=20)  # type: ignore[misc]
            assert await proxy.add(1, 2) == 3
        assert caplog.text.count("lost the connection") <= 3
        raw.publish(service, b"", content_type=b"x")
        link = await own._live_connection().link()
        await link._declare(lambda channel: channel.queue_delete(service))


@pytest.mark.parametrize("content_type", ["SERVICE.add", "SERVICE.nothing", "amqproxy.Ping"])
async def test_all_workers_answer_to_queues_alone(
    amqp_url: str, raw: Raw, service: str, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Or one message with a made-up address of direct reply-to would end the connections of all at once."""
    about = {"content_type": content_type.replace("SERVICE", service).encode(), "correlation_id": b"1"}
    async with (
        amqproxy.connect(amqp_url) as one,
        amqproxy.connect(amqp_url) as other,
        one.serve(Vault(), name=service, auto_delete=True) as first,
        other.serve(Vault(), name=service, auto_delete=True) as second,
    ):
        sessions = first.session, second.session
        raw.publish(
            "", b"[1,2]", exchange=f"amqproxy.{service}", reply_to=b"amq.rabbitmq.reply-to.garbage==.x", **about
        )
        for _ in sessions:  # each answers behind the other message, and has what came of that by now
            raw.publish("", b"[1,2]", exchange=f"amqproxy.{service}", reply_to=raw.reply_to, **about)
            assert {(await raw.next_message()).properties.correlation_id for _ in sessions} == {b"1"}
        assert (first.session, second.session) == sessions
        assert caplog.text.count("what all workers answer goes to queues alone") == 2
        assert "lost the connection" not in caplog.text


async def test_a_worker_does_not_write_where_it_is_told_to(
    mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker may write to each queue of the broker, and whoever asks may not: what would be a way around that."""
    orders = f"orders.{service}"
    async with vault(mq, service), Raw.connected(amqp_url) as other:
        await other.joins(orders)
        for content_type in (f"{service}.add", f"{service}.chat", "nothing", "amqproxy.Ping"):
            about: dict[str, Any] = {
                "content_type": content_type.encode(),
                "reply_to": orders.encode(),
                "correlation_id": b"1",
            }
            raw.publish(service, b"[1,2]", **about)
            raw.publish(service, b"[]", headers={"x-stream-credit": 10, "x-heartbeat-ms": 50}, **about)
            raw.publish("", b"[1,2]", exchange=f"amqproxy.{service}", **about)
        await until(lambda: caplog.text.count(f"dropped a reply to '{orders}'") >= 10, lambda: caplog.text)
        other.publish(orders, b"the only one")
        assert (await other.next_message()).body == b"the only one"


async def test_queues_of_ones_own_can_be_let_in(mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str) -> None:
    orders = f"orders.{service}"
    async with vault(mq, service, reply_queues=r"orders\..+|amq\..+"), Raw.connected(amqp_url) as other:
        await other.joins(orders)
        raw.publish(service, b"[1,2]", content_type=f"{service}.add".encode(), reply_to=orders.encode())
        assert (await other.next_message()).body == b"3"
    async with mq.serve(Vault(), name=f"{service}.2", auto_delete=True, reply_queues="mine"):
        with pytest.raises(amqproxy.CallTimeout):  # who takes none of the usual names has no such callers
            await mq.proxy(f"{service}.2", timeout=0.5).open("x")


async def test_a_caller_does_not_write_where_a_worker_says(
    mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str
) -> None:
    orders = f"orders.{service}"
    async with Raw.connected(amqp_url) as other:
        await other.joins(orders)
        for kind in (b"amqproxy.Alive", b"amqproxy.Credit"):
            stream = mq.proxy(Vault, name=service, routing_key=raw.reply_to.decode()).chat()
            call = asyncio.ensure_future(anext(stream))
            asked = (await raw.next_message()).properties
            assert asked.reply_to is not None
            said: dict[str, Any] = {
                "content_type": kind,
                "correlation_id": asked.correlation_id,
                "reply_to": orders.encode(),
            }
            raw.publish(asked.reply_to.decode(), b"1", **said)
            with pytest.raises(amqproxy.BadReply, match="is no name of a worker's own queue"):
                await call
            raw.publish(asked.reply_to.decode(), b"1", **said)  # of a call that is over: no Cancel goes there either
        other.publish(orders, b"the only one")
        assert (await other.next_message()).body == b"the only one"


async def test_a_reply_needs_an_id_that_nobody_can_guess(mq: amqproxy.Client, amqp_url: str, raw: Raw) -> None:
    call = asyncio.create_task(mq.proxy("x", routing_key=raw.reply_to.decode()).add(1, 2))
    asked = (await raw.next_message()).properties
    assert asked.reply_to is not None and asked.correlation_id is not None
    strays, prefix = mq.caller.strays, asked.correlation_id[:16]
    assert re.fullmatch(rb"[A-Za-z0-9_-]{16}", prefix), "96 bits of os.urandom"
    for id in (None, b"", b"0", b"1", asked.correlation_id[16:], prefix, b"A" * 16 + asked.correlation_id[16:]):
        raw.publish(asked.reply_to.decode(), b"666", correlation_id=id)
    raw.publish(asked.reply_to.decode(), b"3", correlation_id=asked.correlation_id)
    assert await call == 3
    raw.publish(asked.reply_to.decode(), b"666", correlation_id=asked.correlation_id)
    assert mq.caller.strays - strays >= 6
    async with amqproxy.connect(amqp_url) as other:
        another = asyncio.create_task(other.proxy("x", routing_key=raw.reply_to.decode()).add(1, 2))
        assert ((await raw.next_message()).properties.correlation_id or b"")[:16] != prefix
        another.cancel()
        await asyncio.wait((another,))


async def test_a_reply_queue_is_its_callers_alone(mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str) -> None:
    """Nobody else can read there, or find its name out by asking."""
    call = asyncio.create_task(mq.proxy("x", routing_key=raw.reply_to.decode(), timeout=5).add(1, 2))
    asked = (await raw.next_message()).properties
    assert asked.reply_to is not None and len(asked.reply_to) >= 24
    with pytest.raises(amqproxy.TopologyConflict, match=r"exclusive|RESOURCE_LOCKED"):
        async with amqproxy.connect(amqp_url) as other:
            link = await other._live_connection().link()
            await link.queue_counts(asked.reply_to.decode())
    call.cancel()
    await asyncio.wait((call,))


async def test_failures_tell_nothing_of_the_inside(
    mq: amqproxy.Client, raw: Raw, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "s.token")
    async with vault(mq, service):
        answer = await raw.ask(service, b'["ann"]', content_type=f"{service}.query".encode())
        text = answer.body.decode() + repr(answer.properties)
        error = failure(answer)
        assert (error["traceback"], error["type"]) == (None, "ConnectionResetError")
        for inside in (
            SECRET,
            "RuntimeError",
            "served.py",
            str(Path(__file__).parent),
            "Traceback",
            "line ",
            "s.token",
        ):
            assert inside not in text
    async with vault(mq, f"{service}.2", debug=True):
        answer = await raw.ask(f"{service}.2", b'["ann"]', content_type=f"{service}.2.query".encode())
        assert SECRET in answer.body.decode() and "served.py" in answer.body.decode()


FORGED = "x\n2026-01-01 ERROR root: all is lost\r\x1b[2J\x1b]0;title\x07\u2028\x9b31m"


async def test_logs_have_one_line_for_each_thing_that_is_said(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S23: what others sent is shown in a form that begins no line, and moves no cursor."""
    caplog.set_level(logging.DEBUG)
    async with vault(mq, service):
        caplog.clear()
        for properties in (
            {"content_type": FORGED.encode()},
            {"content_type": f"{service}.add".encode(), "content_encoding": FORGED.encode()},
            {
                "content_type": f"{service}.add".encode(),
                "correlation_id": FORGED.encode(),
                "message_id": FORGED.encode(),
            },
            {"content_type": f"{service}.add".encode(), "reply_to": FORGED.encode()},
            {"content_type": f"{service}.add".encode(), "app_id": FORGED.encode(), "headers": {FORGED: FORGED}},
        ):
            for body in (FORGED.encode(), json.dumps({FORGED: FORGED}).encode(), json.dumps(FORGED).encode()):
                raw.publish(service, body, **properties)
                raw.publish("", body, exchange=f"amqproxy.{service}", **properties)
        raw.publish(service, json.dumps([FORGED]).encode(), content_type=f"{service}.query".encode())
        await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode(), correlation_id=b"last")
        records = [record for record in caplog.records if record.name.startswith("amqproxy")]
    assert len(records) >= 10
    for record in records:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", record.getMessage()), repr(record.getMessage())


async def test_what_a_caller_logs_of_a_reply_has_one_line_too(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with vault(mq, service) as (_, proxy):
        queue = proxy.add.line.reply_to.decode()
        forged: list[dict[str, Any]] = [{"correlation_id": FORGED.encode()}, {"content_type": FORGED.encode()}, {}]
        for properties in forged:
            raw.publish(queue, FORGED.encode(), **properties)
        await until(lambda: mq.caller.strays >= 3)
    assert f"its correlation id '{shown(FORGED)[:20]}" in caplog.text
    for record in caplog.records:
        if record.name.startswith("amqproxy"):
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", record.getMessage()), repr(record.getMessage())


def test_a_property_may_have_255_bytes_and_no_more() -> None:
    with pytest.raises(ValueError, match="255 bytes at most"):
        Properties(correlation_id=b"x" * 256).encode()
