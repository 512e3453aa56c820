"""The future of a call: its waiter runs at once when the reply comes, and in a turn of its own when an error does."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from amqproxy.answer import Answer, Reply

REPLY: Reply = (b"type", b"json", b"3")
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


async def waiting(answer: Answer) -> tuple[asyncio.Task[Reply], list[str]]:
    """A task that awaits the answer, and what it has noted."""
    notes: list[str] = []

    async def wait() -> Reply:
        variable.set("the task's")
        try:
            reply = await answer
        finally:
            notes.append(variable.get())
        return reply

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert not notes
    return task, notes


def outside_of_tasks(call: object, *args: object) -> asyncio.Future[None]:
    """Run a function as the event loop runs callbacks; done behind it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def run() -> None:
        call(*args)  # type: ignore[operator]
        done.set_result(None)

    loop.call_soon(run)
    return done


async def test_a_reply_resumes_its_task_before_giving_it_returns() -> None:
    answer = Answer(asyncio.get_running_loop())
    task, notes = await waiting(answer)
    seen: list[list[str]] = []

    def give() -> None:
        answer.give(REPLY)
        seen.append(list(notes))

    await outside_of_tasks(give)
    assert seen == [["the task's"]]
    assert await task == REPLY


async def test_an_error_resumes_it_in_a_turn_of_its_own() -> None:
    answer = Answer(asyncio.get_running_loop())
    task, notes = await waiting(answer)
    answer.fail(ValueError("no"))
    assert not notes
    with pytest.raises(ValueError, match="no"):
        await task
    assert notes == ["the task's"]


async def test_what_came_before_anybody_awaits_it_is_there_at_once() -> None:
    replied, failed = (Answer(asyncio.get_running_loop()) for _ in range(2))
    replied.give(REPLY)
    failed.fail(ValueError())
    assert await replied == REPLY
    with pytest.raises(ValueError):
        await failed


async def test_only_the_first_outcome_counts() -> None:
    answer = Answer(asyncio.get_running_loop())
    answer.give(REPLY)
    answer.give((None, None, b"other"))
    answer.fail(ValueError())
    assert not answer.cancel()
    assert await answer == REPLY


async def test_cancelling_the_task_cancels_it_and_a_later_reply_is_ignored() -> None:
    answer = Answer(asyncio.get_running_loop())
    task, _ = await waiting(answer)
    task.cancel("enough")
    assert answer.done()
    await outside_of_tasks(answer.give, REPLY)
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert Answer(asyncio.get_running_loop()).cancel()


async def test_a_task_that_was_cancelled_before_it_awaits_does_not_wait() -> None:
    answer = Answer(asyncio.get_running_loop())

    async def wait() -> Reply:
        return await answer

    task = asyncio.create_task(wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_asyncio_timeout_and_shield_work_around_it() -> None:
    answer = Answer(asyncio.get_running_loop())

    async def wait() -> Reply:
        return await answer

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await wait()
    second = Answer(asyncio.get_running_loop())
    inner = asyncio.ensure_future(_awaiting(second))
    await asyncio.sleep(0)
    await outside_of_tasks(second.give, REPLY)
    assert await asyncio.shield(inner) == REPLY


async def _awaiting(answer: Answer) -> Reply:
    return await answer


async def test_an_exception_of_the_resumed_task_is_the_tasks_own() -> None:
    answer = Answer(asyncio.get_running_loop())

    async def wait() -> None:
        await answer
        raise LookupError("in the task")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await outside_of_tasks(answer.give, REPLY)
    with pytest.raises(LookupError, match="in the task"):
        await task
