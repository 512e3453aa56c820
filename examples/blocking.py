"""A script without an event loop: the same calls, and no `await`."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import amqproxy


@amqproxy.serve("ovens", auto_delete=True)
class Oven:
    def bake(self, loaves: int) -> str:
        return f"{loaves} loaves"

    def watch(self, minutes: int) -> Iterator[str]:
        for minute in range(1, minutes + 1):
            time.sleep(0.01)  # it is a quick oven
            yield f"minute {minute}"

    def count(self, loaves: Iterator[int]) -> int:
        return sum(loaves)


def main() -> None:
    with amqproxy.sync.connect() as mq, mq.serve(Oven()):
        oven = mq.proxy(Oven)
        print(oven.bake(3))
        for word in oven.watch(minutes=1000):  # a stream is an iterator: who leaves it stops the worker
            print(word)
            if word == "minute 2":
                break
        print(oven.count(n * n for n in range(4)), "loaves were counted")  # and an iterator can be fed
        with ThreadPoolExecutor() as threads:  # any number of threads may share a connection
            print(*threads.map(oven.bake, range(3)), sep=", ")
        for answer in mq.broadcast(Oven).bake(1):
            print("each oven bakes", answer.value)


if __name__ == "__main__":
    main()
