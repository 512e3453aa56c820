"""A service with ten methods, which have all kinds of types between them."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import attrs
import msgspec

import amqproxy


class Colour(enum.Enum):
    """What paint comes in."""

    RED = "red"
    DARK_GREEN = "dark-green"


class Point(NamedTuple):
    x: float
    y: float


class Size(msgspec.Struct, rename="camel"):
    """How large it is."""

    full_width: int
    height: int = 1


@attrs.define
class Frame:
    colour: Colour
    size: Size
    class_: str = "plain"


class Label(TypedDict):
    text: str
    lang: NotRequired[str]


@dataclass
class Picture:
    """A picture on the wall."""

    id: UUID
    frame: Frame
    at: Point
    labels: list[Label]
    painted: datetime | None = None
    parts: list[Picture] = field(default_factory=list)


@amqproxy.message("com.example.Gallery$MoveRequest")
@dataclass
class MoveRequest:
    picture: Picture
    to: Point


@amqproxy.message("com.example.Gallery$MoveResponse")
@dataclass
class MoveResponse:
    picture: Picture
    distance: float


@amqproxy.serve("tests.gallery")
class Gallery:
    """Pictures, which can be moved.

    It is there for tests.
    """

    def __init__(self) -> None:
        self.asleep = asyncio.Event()

    async def add(self, x: int, y: int) -> int:
        r"""Return x + y, if <x> & y are numbers; a comment may end with */ or hold C:\users."""
        return x + y

    async def greet(self, name: str, title: str | None = None, *, times: int = 1, mark: str = "!") -> str:
        """Greet somebody.

        Somebody is:
            anybody, unless they are nobody
        """
        return " ".join(filter(None, ("hello", title, name))) + mark * times

    async def end(self, class_: str, def_: bool, func: float | None, max_items: dict[str, int]) -> dict[str, Any]:
        return {"class": class_, "def": def_, "func": func, "maxItems": max_items}

    async def reverse(self, data: bytes, more: bytes | None = None) -> bytes:
        return bytes(reversed(data + (more or b"")))

    async def sort(
        self,
        numbers: set[int],
        pair: tuple[int, str],
        order: Literal["up", "down"],
        cost: Decimal,
        anything: Any = None,
    ) -> tuple[int, ...]:
        """Sort numbers."""
        assert (pair, cost) == ((1, "one"), Decimal("1.10")), (pair, cost)
        assert anything in (None, [1, {"a": None}]), anything
        return tuple(sorted(numbers, reverse=order == "down"))

    async def paint(self, picture: Picture, colour: Colour, when: datetime) -> Picture:
        picture.frame.colour = colour
        picture.painted = when
        return picture

    async def move(self, request: MoveRequest) -> MoveResponse:
        """Hang it elsewhere."""
        was, request.picture.at = request.picture.at, request.to
        return MoveResponse(request.picture, abs(was.x - request.to.x) + abs(was.y - request.to.y))

    @amqproxy.method(timeout=4e6)  # which is longer than a timer of Node's or an int of Java's
    async def check(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"{value} is less than 0")

    async def find(self, id: int | str) -> Any:
        raise amqproxy.RemoteError(f"no picture {id}", code="not_found", retryable=True, details={"id": id})

    @amqproxy.method(timeout=0.2)
    async def sleep(self) -> None:
        self.asleep.set()
        await asyncio.sleep(60)


@amqproxy.serve("tests.gallery.nobody")
class Nobody:
    """Is never served."""

    def nothing(self) -> None:
        return None
