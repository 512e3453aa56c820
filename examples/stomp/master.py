"""Hands out work on a topic over STOMP, and gathers the answers.

python master.py [URL [SERVICE [TOPIC [COUNT [SECONDS]]]]]: asks the workers of SERVICE that listen to TOPIC for COUNT
sums, and waits so many SECONDS for them.
"""

import concurrent.futures
import json
import sys
import uuid
from concurrent.futures import Future
from urllib.parse import unquote, urlsplit

from stomp.connect import StompConnection12
from stomp.listener import ConnectionListener
from stomp.utils import Frame

FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


class Master(ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    def __init__(self, url: str) -> None:
        self._answers: dict[str | None, Future[Frame]] = {}
        self._reply_queue = f"answers.{uuid.uuid4()}"
        parts = urlsplit(url)
        self.connection = StompConnection12(
            [(parts.hostname, parts.port or 61613)],
            vhost=unquote(parts.path[1:]) or "/",  # stomp.py's default is the host's name
            auto_decode=False,  # bodies are bytes
            heartbeats=(10_000, 10_000),
        )
        self.connection.set_listener("master", self)
        self.connection.connect(unquote(parts.username or "guest"), unquote(parts.password or "guest"), wait=True)
        mine = {"durable": "false", "auto-delete": "true", "exclusive": "true"}  # the queue goes when we go
        self.connection.subscribe(f"/queue/{self._reply_queue}", "answers", "auto", mine)

    def hand_out(self, topic: str, content_type: str, body: bytes, seconds: float) -> Future[Frame]:
        request_id = str(uuid.uuid4())
        answer = self._answers[request_id] = Future()
        headers = {
            "content-encoding": "json",
            "correlation-id": request_id,
            "reply-to": self._reply_queue,  # its bare name: workers that speak AMQP know nothing of /queue/NAME
            "expiration": int(seconds * 1000),  # nobody is to begin what nobody waits for any more
        }
        self.connection.send(f"/topic/{topic.replace('/', '%2F')}", body, content_type, headers)
        return answer

    def on_message(self, frame: Frame) -> None:
        # Work is done twice when a worker dies between its answer and its ACK: the first answer counts.
        if answer := self._answers.pop(frame.headers.get("correlation-id"), None):
            answer.set_result(frame)

    def on_error(self, frame: Frame) -> None:
        print(frame.body.decode(), file=sys.stderr)


def main(
    url: str = "stomp://guest:guest@localhost:61613/",
    service: str = "calculator",
    topic: str = "work.calculator",
    count: str = "100",
    seconds: str = "10",
) -> None:
    master = Master(url)
    limit = float(seconds)
    work = [
        master.hand_out(topic, f"{service}.add", json.dumps({"x": number, "y": number}).encode(), limit)
        for number in range(int(count))
    ]
    done, missing = concurrent.futures.wait(work, limit)
    frames = [answer.result() for answer in done]
    sums = [json.loads(frame.body) for frame in frames if frame.headers["content-type"] != FAILURE]
    print(f"{len(sums)} sums came, {sum(sums)} in all; {len(frames) - len(sums)} failed, {len(missing)} are missing")
    master.connection.disconnect(receipt="bye")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
