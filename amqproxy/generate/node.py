"""A client in JavaScript for Node, on amqplib, with types in JSDoc."""

from __future__ import annotations

from .naming import Names, camel, kebab, pascal, vocabulary
from .service import Operation, Parameter, Service
from .shapes import Choice, ListOf, MapOf, Named, Nullable, OneOf, Record, Scalar, Shape, TupleOf
from .source import Order, Source
from .template import block_comment, fill, indented, listed, literal, paragraphs, sentence_of

_WIDTH = 98
_RESERVED = vocabulary(
    "Buffer Infinity NaN arguments await base64 break bytes case catch class const continue debugger default delete do "
    "else enum eval export extends false finally for function if implements import in instanceof interface let new "
    "null package private protected public return static super switch this throw true try typeof undefined var void "
    "while with yield"
)
# A client with a method `then` would be taken for a promise.
_METHODS = frozenset(("close", "constructor", "then", "toJSON", "toString", "valueOf"))
_TYPES = vocabulary(
    "Array Buffer CallError CallTimeout ConnectionLost Error Link Map Number Object Promise Record RemoteError String "
    "Unroutable"
)
_SCALARS = {
    "any": "any",
    "none": "null",
    "bool": "boolean",
    "int": "number",
    "float": "number",
    "text": "string",
    "bytes": "string",
}

_Named = list[tuple[Parameter, str]]


def source(order: Order) -> Source:
    """The file `…-client.mjs`."""
    service = order.service
    writer = _Writer(service)
    types = [writer.named(each) for each in service.named.values()]
    methods = [writer.method(each) for each in service.operations]
    left_out = [f"// {sentence_of(reason)}" for reason in service.left_out.values()]
    text = fill(
        "node/client.mjs",
        command=order.command,
        doc=block_comment(_doc(service)),
        client=writer.client,
        queue=literal(service.queue),
        types="".join(f"{each}\n\n" for each in types),
        methods=indented(paragraphs(*methods, *left_out), 2),
        helpers=_helpers(service),
    )
    return Source(f"{kebab(service.name)}-client.mjs", text)


def _doc(service: Service) -> str:
    return paragraphs(
        f"Calls the service {service.name} over RabbitMQ.",
        service.doc,
        "It connects at the first call, and again at the first one after a connection broke. Many calls\n"
        "may wait for their answers at once. Each is rejected with a CallError if it fails.",
    )


class _Writer:
    """What is written with the names of the service's types at hand."""

    def __init__(self, service: Service) -> None:
        types = Names(_TYPES)
        self.client = types.take(f"{pascal(service.name)}Client")
        self._names = {key: types.take(pascal(key)) for key in service.named}
        self._methods = Names(_METHODS)

    def named(self, named: Record | Choice) -> str:
        """The type of a record or choice."""
        name = self._names[named.key]
        if isinstance(named, Choice):
            tags = f"@typedef {{{' | '.join(literal(value) for _, value in named.members)}}} {name}"
        elif named.is_array:
            tags = f"@typedef {{[{', '.join(f'{f.name}: {self.type(f.shape)}' for f in named.fields)}]}} {name}"
        else:
            fields = [
                _tag("@property", self.type(f.shape), f.name if f.required else f"[{f.name}]", _note(f.shape))
                for f in named.fields
            ]
            tags = "\n".join([f"@typedef {{object}} {name}", *fields])
        return block_comment(paragraphs(named.doc, tags))

    def method(self, operation: Operation) -> str:
        """The method with its comment."""
        names = Names(_RESERVED)
        named = [(each, names.take(camel(each.name))) for each in operation.parameters]
        options = [(each, local) for each, local in named if each.keyword_only or not each.required]
        parameters = [local for each, local in named if (each, local) not in options]
        if options:
            default = " = {}" if not any(each.required for each, _ in options) else ""
            parameters.append(f"{{ {', '.join(local for _, local in options)} }}{default}")
        name = self._methods.take(camel(operation.name))
        return fill(
            "node/method.mjs",
            doc=block_comment(self._method_doc(operation, named, options, names.take("options"))),
            signature=listed(f"{name}(", parameters, ")", width=_WIDTH - 8, last=","),
            body=indented(_body(operation, named), 2),
        ).rstrip("\n")

    def _method_doc(self, operation: Operation, named: _Named, options: _Named, owner: str) -> str:
        tags = [
            _tag("@param", self._argument(each.shape), local, _note(each.shape))
            for each, local in named
            if (each, local) not in options
        ]
        if options:
            is_needed = any(each.required for each, _ in options)
            tags.append(_tag("@param", "object", owner if is_needed else f"[{owner}]"))
        for each, local in options:
            place = f"{owner}.{local}" if each.required else f"[{owner}.{local}]"
            tags.append(_tag("@param", self._argument(each.shape), place, _note(each.shape)))
        result = "void" if operation.result == Scalar("none") else self._argument(operation.result)
        return paragraphs(operation.doc, "\n".join([*tags, f"@returns {{Promise<{result}>}}"]))

    def _argument(self, shape: Shape) -> str:
        """The type of an argument or result, where bytes need not be written as text."""
        match shape:
            case Scalar("bytes"):
                return "Buffer"
            case Nullable(Scalar("bytes")):
                return "Buffer | null"
        return self.type(shape)

    def type(self, shape: Shape) -> str:
        """As TypeScript writes types in JSDoc."""
        match shape:
            case Scalar(kind):
                return _SCALARS[kind]
            case ListOf(item):
                inner = self.type(item)
                return f"({inner})[]" if " | " in inner else f"{inner}[]"
            case TupleOf(items):
                return f"[{', '.join(map(self.type, items))}]"
            case MapOf(value):
                return f"Record<string, {self.type(value)}>"
            case Nullable(inner):
                return f"{self.type(inner)} | null"
            case OneOf(values=values):
                return " | ".join(map(literal, values))
            case Named(key):
                return self._names[key]


def _tag(tag: str, kind: str, name: str, note: str = "") -> str:
    return f"{tag} {{{kind}}} {name} {note}".rstrip()


def _note(shape: Shape) -> str:
    """What the type does not say."""
    match shape:
        case Scalar(note=note):
            return note
        case Nullable(inner) | ListOf(inner) | MapOf(inner):
            return "Base64" if inner == Scalar("bytes") and not isinstance(shape, Nullable) else _note(inner)
    return ""


def _body(operation: Operation, named: _Named) -> str:
    body = named[0][1] if operation.is_message else _object(named)
    arguments = [literal(operation.request_class), body, f"{max(1, round(operation.timeout * 1000)):_}"]
    before, after = "return ", ""
    match operation.result:
        case Scalar("none"):
            before = "await "
        case Scalar("bytes"):
            before, after = "const base64 = await ", "\nreturn bytes(base64);"
        case Nullable(Scalar("bytes")):
            before, after = "const base64 = await ", "\nreturn base64 === null ? null : bytes(base64);"
    return listed(f"{before}this.#call(", arguments, ");", width=_WIDTH - 4, last=",") + after


def _helpers(service: Service) -> str:
    results = {each.result for each in service.operations}
    has_bytes = not results.isdisjoint((Scalar("bytes"), Nullable(Scalar("bytes"))))
    return fill("node/base64.mjs") + "\n" if has_bytes else ""


def _object(named: _Named) -> str:
    """The arguments by their names in Python; those that are undefined are not sent."""
    entries = [_entry(each, local) for each, local in named]
    line = f"{{ {', '.join(entries)} }}" if entries else "{}"
    return line if len(line) <= _WIDTH - 8 else listed("{", entries, "}", width=0, last=",")


def _entry(parameter: Parameter, local: str) -> str:
    name = parameter.name if parameter.name != "__proto__" else '["__proto__"]'  # which is no key without brackets
    match parameter.shape:
        case Scalar("bytes") if parameter.required:
            return f'{name}: Buffer.from({local}).toString("base64")'
        case Scalar("bytes") | Nullable(Scalar("bytes")):
            return f'{name}: {local} && Buffer.from({local}).toString("base64")'
    return local if local == name else f"{name}: {local}"
