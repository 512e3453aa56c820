"""Calls that are given up: what waits is never begun, and what runs is stopped."""

import asyncio
import time

import amqproxy


@amqproxy.serve("reports", auto_delete=True)
class Reports:
    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    async def write(self) -> str:
        try:
            await asyncio.sleep(60)
            return "a report"
        finally:  # an `async def` is cancelled, as a task is
            print("write has stopped")
            self.stopped.set()

    def compute(self) -> int:
        rounds = 0
        while not amqproxy.current().cancelled:  # a plain `def` runs in a thread, and may look at this
            time.sleep(0.01)
            rounds += 1
        print("compute has stopped")
        self.loop.call_soon_threadsafe(self.stopped.set)
        return rounds


async def main() -> None:
    served = Reports()
    async with amqproxy.connect() as mq, mq.serve(served):
        reports = mq.proxy(Reports)
        try:
            async with asyncio.timeout(0.2):
                await reports.write()
        except TimeoutError:
            print("too late")
        await served.stopped.wait()

        served.stopped.clear()
        call = asyncio.ensure_future(mq.proxy("reports").compute())
        await asyncio.sleep(0.2)
        call.cancel()
        await served.stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
