"""A service whose names and types are hard on other languages; it is generated and compiled, and never called."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar

import msgspec
import pydantic

import amqproxy

T = TypeVar("T")


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Words(enum.Enum):
    class_ = 'say "#{it}" and \\'
    null = "$null"
    größe = "größe"
    lines = "\u2028a\u2029b\x85c"


@dataclass
class String:
    List: list[String]
    Map: dict[str, String] = field(default_factory=dict)


class Client(msgspec.Struct, tag="client", array_like=True):
    getClass: int
    tYpe: str
    Type: str
    level: Level | None = None


class RemoteError(msgspec.Struct, tag_field="kind", rename="kebab"):
    hash_code: Literal[1, 2, None] = None
    the_words: list[Words] = []
    data: bytes = b""
    maybe: list[int] | None = None


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: Optional[Page[T]] = None  # noqa: UP045  # a quoted type variable cannot be joined with |


class Empty(msgspec.Struct):
    r"""*/ is what this is: \u0022, #{nothing} <b>{@code x}</b>."""


class Nobody(NamedTuple):
    pass


class Marshaller(NamedTuple):
    marshal_json: int
    unmarshal_json: int


class Odd(msgspec.Struct):
    quoted: int = msgspec.field(name="a `ticked`, name")


class Model(pydantic.BaseModel):
    x: int


@amqproxy.message("com.example.Strange$Ask")
@dataclass
class Ask:
    """Ask(me)."""

    what: Any
    level: Level = Level.LOW


@amqproxy.serve("42-strange.größe of $x's #{1}")
class Strange:
    r"""Says "*/" and \u0022 and #{this} and `that`.

    - an item,
      which goes on

      and on
    - another

    Example::

        strange.call()

            indented more
    1. one
    """

    def call(self, call: int, arguments: int, result: int, options: int, ctx: int, c: int, err: int, link: int) -> int:
        return call

    def arguments(self, string: str, len: str, error: str, any: str, nil: str, map: str, json: str) -> str:
        return string

    def given(self, self_: int, then: int, end: int, nil: int, begin: int, OMITTED: int, given: int = 1) -> int:
        return then

    def then(self, this: int, new: int, await_: int, Buffer: bytes, base64: bytes, undefined: int = 1) -> bytes | None:
        return None

    def close(self, *, class_: int, default: int | None = None) -> list[bytes]:
        return []

    def getClass(self) -> Level:
        return Level.LOW

    def get_class(self, words: Words, level: Level, levels: list[Level | None]) -> dict[Level, Words]:
        return {}

    def hash(self, größe: float, 日本: int, _x: int = 0, x: int = 0) -> tuple[int, int] | None:
        return None

    def initialize(self, string: String, client: Client, error: RemoteError, page: Page[int]) -> Page[String]:
        return Page([])

    def to_string(self, empty: Empty, nobody: Nobody, model: Model, ask: Ask | None) -> Client | int:
        return 1

    def inspect(self, one: Literal["a"], two: Literal[1, "b"], three: tuple[()], four: Annotated[int, "x"]) -> None:
        """Inspect.

            indented from the start

        Returns: nothing; see {@link this} & <that>.
        """

    def search(self, search_options: dict[str, int], odd: Odd, marshaller: Marshaller, limit: int = 10) -> Odd:
        return odd

    def URL(
        self, when: date, at: time, for_: timedelta, pairs: Mapping[int, Sequence[tuple[str, int]]]
    ) -> frozenset[int]:
        return frozenset()

    def Call_timeout(self, a: int = 1, b: list[int] | None = None, *, c: bytes = b"", d: tuple[int, ...] = ()) -> Any:
        return a

    @amqproxy.method(timeout=0.0001)
    def ask(self, request: Ask) -> bytes | None:
        return None

    def method_missing(self, __proto__: int) -> None:
        """Has ``ticks`` and ''quotes''."""

    def initialize_copy(self, __proto__: bytes = b"") -> bytes:
        return __proto__

    def untyped(self, x, y=1):  # type: ignore[no-untyped-def]  # which may be served as well
        return x


@amqproxy.serve("tests.shout")
def shout(text: str) -> str:
    """Say it aloud."""
    return text.upper()
