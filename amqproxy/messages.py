"""Message classes: in which form they are written, and the names under which they travel.

A message class is what `@amqproxy.message` marks, and each class that protoc or Thrift generated. The libraries of both
are extras: a class of theirs tells by itself that its library is there, so nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from .options import MAX_SHORT_STRING

MessageClass = TypeVar("MessageClass", bound=type)
Form = Literal["plain", "protobuf", "thrift"]
"""Who writes a value: we do (dataclasses and their like, built-in types), or generated code."""

Style = Literal["sent", "java", "protobuf"]

_MESSAGE = "__amqproxy_message__"


def message(name: str | MessageClass | None = None) -> Any:
    """Make a class a message class: it travels as a whole, under this name, which other languages can share.

    Without a name the class is called `module.QualName`, with `$` between nested classes, as on the JVM. A generated
    class, which cannot be decorated, is named by a call: `amqproxy.message("com.example.Person")(Person)`.
    """
    if isinstance(name, type):
        return message()(name)
    if name is not None:
        check_name("message class", name)

    def describe(kind: MessageClass) -> MessageClass:
        wire_name = name or class_name(kind)
        check_name("message class", wire_name)
        setattr(kind, _MESSAGE, wire_name)
        return kind

    return describe


def class_name(kind: type) -> str:
    """The wire name of a class that was given none."""
    if form_of(kind) == "protobuf":
        return java_name(kind.DESCRIPTOR)  # type: ignore[attr-defined]  # what makes it of that form
    qualified = kind.__qualname__.replace(".<locals>.", "$").replace(".", "$")
    return f"{kind.__module__}.{qualified}"


def form_of(kind: Any) -> Form:
    """The form of a type; annotations that are no classes are plain."""
    if not isinstance(kind, type):
        return "plain"
    if getattr(kind, "DESCRIPTOR", None) is not None and hasattr(kind, "SerializeToString"):
        return "protobuf"
    if hasattr(kind, "thrift_spec") and hasattr(kind, "read") and hasattr(kind, "write"):
        return "thrift"
    return "plain"


def naming(kind: Any) -> dict[Style, str]:
    """The names under which a message class is known: the one that it is sent under, Java's, and protobuf's.

    Nothing if it is no message. A subclass is not its parent's message.
    """
    if not isinstance(kind, type):
        return {}
    given = vars(kind).get(_MESSAGE)
    names: dict[Style, str] = {}
    if isinstance(given, str):
        names["sent"] = given
    elif form_of(kind) != "plain":
        names["sent"] = class_name(kind)
    if form_of(kind) == "protobuf":
        descriptor = kind.DESCRIPTOR  # type: ignore[attr-defined]  # it has one
        names |= {"java": java_name(descriptor), "protobuf": descriptor.full_name}
    return names


def message_name(kind: Any) -> str | None:
    """The name under which a message class is sent, or None if `kind` is not one."""
    return naming(kind).get("sent")


def java_name(descriptor: Any) -> str:
    """What `getName()` says of the class that protoc generates for Java, derived from the message's descriptor.

    Source: protobuf's guide to generated Java code, "Packages" and "Messages". Files of edition 2024 and later, where
    the rules are others, want a name of their own: `amqproxy.message("com.example.Person")(Person)`.
    """
    nesting = [descriptor.name]
    while descriptor.containing_type is not None:
        descriptor = descriptor.containing_type
        nesting.insert(0, descriptor.name)
    file = descriptor.file
    options = file.GetOptions()
    if not options.java_multiple_files:
        nesting.insert(0, options.java_outer_classname or _outer_class(file))
    package = options.java_package if options.HasField("java_package") else file.package
    name = "$".join(nesting)
    return f"{package}.{name}" if package else name


def _outer_class(file: Any) -> str:
    """The class around all messages of a file that does not name one: the file's name in camel case."""
    path = file.name.rpartition("/")[2]
    stem = path.removesuffix(".protodevel") if path.endswith(".protodevel") else path.removesuffix(".proto")
    name, capital = "", True
    for letter in stem:
        if letter.isascii() and letter.isalnum():
            name += letter.upper() if capital else letter
        capital = not (letter.isascii() and letter.isalpha())
    taken = {*file.services_by_name, *file.enum_types_by_name}
    messages = list(file.message_types_by_name.values())
    while messages:
        one = messages.pop()
        taken |= {one.name, *one.enum_types_by_name}
        messages += one.nested_types
    return f"{name}OuterClass" if name in taken else name


def new_message(kind: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A message made of its fields, given by position or by name; TypeError or ValueError if they do not fit."""
    if form_of(kind) != "protobuf" or not args:
        return kind(*args, **kwargs)
    first = kind.DESCRIPTOR.fields[0].message_type if kind.DESCRIPTOR.fields else None
    if (
        len(args) == 1
        and naming(type(args[0]))
        and (first is None or getattr(args[0], "DESCRIPTOR", None) is not first)
    ):
        raise TypeError(f"Expected `{kind.__name__}`, got `{type(args[0]).__name__}`")
    fields = [field.name for field in kind.DESCRIPTOR.fields]
    if len(args) > len(fields):
        raise TypeError(f"{kind.__name__} has {len(fields)} fields, but {len(args)} were given")
    by_position = dict(zip(fields, args, strict=False))
    if twice := by_position.keys() & kwargs.keys():
        raise TypeError(f"{kind.__name__} got multiple values for {min(twice)!r}")
    return kind(**by_position, **kwargs)


def check_name(what: str, name: str) -> None:
    """ValueError if this cannot be a name on the wire."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"a {what} has a name that is not empty")
    if len(name.encode()) > MAX_SHORT_STRING or any(ord(c) < 32 for c in name):
        raise ValueError(f"the {what} name {name[:40]!r} is not at most {MAX_SHORT_STRING} printable bytes")
