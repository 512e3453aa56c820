"""A client in Go, on amqp091-go. What it looks like is what gofmt makes of it, down to the columns of structs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from .naming import Names, camel, pascal, snake, vocabulary, words
from .service import Operation, Parameter, Service
from .shapes import NONE, Choice, Field, ListOf, MapOf, Named, Nullable, OneOf, Record, Scalar, Shape, TupleOf
from .source import Order, Source
from .template import comment, fill, literal, one_of, paragraphs, sentence_of, spans

_INITIALISMS = vocabulary(
    "api ascii cpu css dns eof http https html id ip json sql ssh tcp tls ttl udp uri url utf8 uuid xml"
)
KEYWORDS = vocabulary(
    "break case chan const continue default defer else fallthrough for func go goto if import interface map package "
    "range return select struct switch type var"
)
_PREDECLARED = vocabulary(
    "any append bool byte cap clear close comparable complex complex64 complex128 copy delete error false float32 "
    "float64 imag int int8 int16 int32 int64 iota len make max min new nil panic print println real recover rune "
    "string true uint uint8 uint16 uint32 uint64 uintptr"
)
_PACKAGES = vocabulary("amqp context errors fmt hex json os rand strconv strings sync time utf8")
_LOCALS = KEYWORDS | _PREDECLARED | _PACKAGES | {"_", "arguments", "c", "ctx", "err", "options", "result"}
_TYPES = vocabulary("Client ErrBadArguments ErrBadReply ErrConnectionLost ErrTimeout ErrUnroutable RemoteError")
_METHODS = frozenset(("Close", "Config", "Timeout", "URL"))
_SCALARS = {
    "any": "any",
    "none": "any",
    "bool": "bool",
    "int": "int64",
    "float": "float64",
    "text": "string",
    "bytes": "[]byte",
}
_ITEM = re.compile(r"([-*+•]|\d+[.)])\s")


def package_of(service: Service) -> str:
    """The package when nobody names one: the last part of the service's name, as Go's packages are called."""
    name = "".join(words(service.name.rpartition(".")[2] or service.name)).lower() or "client"
    return Names(KEYWORDS | _PREDECLARED | {"main"}).take(name if name[0].isalpha() else f"x{name}")


_OF_ARRAYS = ("MarshalJSON", "UnmarshalJSON")
"""The methods of what is written as an array, which no field can be called by."""


def source(order: Order) -> Source:
    """The file `…_client.go`."""
    service = order.service
    package = order.package or package_of(service)
    writer = _Writer(service)
    methods = [writer.method(each) for each in service.operations]
    left_out = [comment(sentence_of(reason), "//") for reason in service.left_out.values()]
    types = paragraphs(*(writer.named(each) for each in service.named.values()))
    text = fill(
        "go/client.go",
        command=order.command,
        doc=_doc(f"Package {package} calls the service {service.name} over RabbitMQ.", service.doc),
        package=package,
        queue=literal(service.queue),
        methods=paragraphs(*methods, *left_out),
        types=f"{types}\n\n" if types else "",
    )
    return Source(f"{snake(service.name)}_client.go", text)


class _Writer:
    """What is written with the names of the service's types at hand."""

    def __init__(self, service: Service) -> None:
        self._types = Names(_TYPES)
        self._names = {key: self._types.take(_pascal(key)) for key in service.named}
        self._methods = Names(_METHODS)

    def method(self, operation: Operation) -> str:
        """The method, behind the type of its options if it has any."""
        name = self._methods.take(_pascal(operation.name))
        options = self._types.take(f"{name.rstrip('_')}Options") if operation.optional else ""
        names = Names(_LOCALS)
        required = [(each, names.take(camel(each.name, _INITIALISMS))) for each in operation.required]
        method = fill(
            "go/method.go" if operation.result != NONE else "go/method_without_result.go",
            doc=_doc(f"{name} calls {operation.name} of the service.", operation.doc, _notes(required)),
            name=name,
            parameters=", ".join(self._parameters(required, options)),
            result=self.type(operation.result),
            prepared=self._prepared(required, options),
            request_class=literal(operation.request_class),
            timeout=_duration(operation.timeout),
            arguments=_arguments(operation, required),
        )
        return paragraphs(self._options(options, name, operation), method.rstrip("\n"))

    def _parameters(self, required: list[tuple[Parameter, str]], options: str) -> Iterator[str]:
        yield "ctx context.Context"
        typed = ((local, self.type(each.shape)) for each, local in required)
        for kind, group in groupby(typed, key=lambda pair: pair[1]):
            yield f"{', '.join(local for local, _ in group)} {kind}"
        if options:
            yield f"options *{options}"

    def _prepared(self, required: list[tuple[Parameter, str]], options: str) -> str:
        """The arguments as a struct, if there are options to embed: encoding/json leaves out what is nil in them."""
        if not options:
            return ""
        fields = self._fields([Field(each.name, each.shape) for each, _ in required], reserved=[options])
        lines = [f"\t\t{line}" for line in (*fields, f"*{options}")]
        values = ", ".join([*(local for _, local in required), "options"])
        return "\n".join(["\targuments := struct {", *lines, f"\t}}{{{values}}}\n"])

    def _options(self, options: str, name: str, operation: Operation) -> str:
        if not options:
            return ""
        fields = [Field(each.name, each.shape, False, each.is_empty) for each in operation.optional]
        doc = f"{options} are the arguments of {name} that may be left out: those that are nil are not sent."
        return self._struct("go/record.go", options, _doc(doc), fields)

    def named(self, named: Record | Choice) -> str:
        """The type of a record or choice."""
        name = self._names[named.key]
        doc = _doc(f"{name} is the service's {named.key}.", named.doc)
        if isinstance(named, Choice):
            members = [(self._types.take(name + _pascal(_member(member))), value) for member, value in named.members]
            lines = _columns([(member, name, f"= {literal(value)}") for member, value in members])
            kind = _SCALARS[named.kind]
            return fill("go/choice.go", doc=doc, name=name, type=kind, members=_tabbed(lines)).rstrip("\n")
        if not named.is_array:
            return self._struct("go/record.go", name, doc, named.fields)
        names = Names(_OF_ARRAYS)
        places = [names.take(_pascal(each.name)) for each in named.fields]
        return self._struct(
            "go/array.go",
            name,
            doc,
            [Field(each.name, each.shape) for each in named.fields],
            reserved=_OF_ARRAYS,
            values=", ".join(f"v.{place}" for place in places),
            places=", ".join(f"&v.{place}" for place in places),
        )

    def _struct(
        self, template: str, name: str, doc: str, fields: Iterable[Field], reserved: Iterable[str] = (), **pieces: str
    ) -> str:
        lines = "".join(f"\t{line}\n" for line in self._fields(fields, reserved))
        return fill(template, doc=doc, name=name, fields=lines, **pieces).rstrip("\n")

    def _fields(self, fields: Iterable[Field], reserved: Iterable[str] = ()) -> list[str]:
        names = Names(reserved)
        rows = []
        for each in fields:
            kind = self.type(each.shape) if each.required else self._optional(each)
            tag = f'`json:"{each.name}{"" if each.required else ",omitempty"}"`'
            note = _note(each.shape)
            rows.append((names.take(_pascal(each.name)), kind, tag, *((f"// {note}",) if note else ())))
        return _columns(rows)

    def _optional(self, field: Field) -> str:
        """A type that has a nil, which is not sent; an empty list will do if that is the default."""
        kind = self.type(field.shape.inner if isinstance(field.shape, Nullable) else field.shape)
        return kind if kind == "any" or (field.is_empty and kind.startswith(("[]", "map["))) else f"*{kind}"

    def type(self, shape: Shape) -> str:
        """The type of a value."""
        match shape:
            case Scalar(kind) | OneOf(kind):
                return _SCALARS[kind]
            case ListOf(item):
                return f"[]{self.type(item)}"
            case TupleOf(items):
                kinds = {self.type(item) for item in items}
                return f"[]{kinds.pop() if len(kinds) == 1 else 'any'}"
            case MapOf(value):
                return f"map[string]{self.type(value)}"
            case Nullable(inner):
                type = self.type(inner)
                return type if type.startswith(("[]", "map[")) else f"*{type}"
            case Named(key):
                return self._names[key]


def _pascal(name: str) -> str:
    return pascal(name, _INITIALISMS)


def _member(name: str) -> str:
    """The name of an enum's member, which in Python is often all capitals."""
    return name.lower() if name.isupper() else name


def _duration(seconds: float) -> str:
    if seconds == int(seconds):
        return f"{seconds:.0f}*time.Second"
    return f"{max(1, round(seconds * 1000))}*time.Millisecond"


def _arguments(operation: Operation, required: list[tuple[Parameter, str]]) -> str:
    if operation.is_message:
        return required[0][1]
    if operation.optional:
        return "arguments"
    return f"map[string]any{{{', '.join(f'{literal(each.name)}: {local}' for each, local in required)}}}"


def _note(shape: Shape) -> str:
    """What the type does not say."""
    match shape:
        case Scalar(note=note):
            return note
        case OneOf(values=values):
            return one_of(values)
        case Nullable(inner) | ListOf(inner) | MapOf(inner):
            return _note(inner)
        case TupleOf(items) if len(items) > 0:
            return f"{len(items)} items"
    return ""


def _notes(named: list[tuple[Parameter, str]]) -> str:
    """A list of what the types of parameters do not say."""
    return "\n".join(f"  - {local}: {note}" for each, local in named if (note := _note(each.shape)))


def _tabbed(lines: Iterable[str]) -> str:
    return "\n".join(f"\t{line}" for line in lines)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose cells stand below each other; as in gofmt, a line that lacks a cell parts those above and below."""
    lines = ["" for _ in rows]
    for place in range(max(map(len, rows), default=0)):
        runs = groupby(range(len(rows)), key=lambda number: len(rows[number]) > place + 1)
        for goes_on, run in runs:
            numbers = [number for number in run if len(rows[number]) > place]
            width = max((len(rows[number][place]) for number in numbers), default=0) + 1
            for number in numbers:
                lines[number] += rows[number][place].ljust(width) if goes_on else rows[number][place]
    return lines


def _doc(first: str, text: str = "", notes: str = "") -> str:
    """A doc comment in the form that gofmt gives it, which makes typographic quotes of two ticks."""
    first, text = (re.sub("`{2,}", "`", part.replace("''", '"')) for part in (first, text))
    return comment(paragraphs(first, *_paragraphs(text), notes), "//").replace("// \t", "//\t")


def _paragraphs(text: str) -> Iterator[str]:
    """What is indented is shown by Go as it stands, unless it is a list, which is better left as text."""
    for is_indented, part in spans(text):
        if is_indented and not _ITEM.match(part):
            yield "\n".join(f"\t{line}".rstrip() for line in part.splitlines())
        else:
            yield re.sub(r"\n{2,}", "\n\n", "\n".join(line.strip() for line in part.splitlines()))
