"""A client in Java 17, on RabbitMQ's own library and Jackson."""

from __future__ import annotations

import re

from .naming import Names, camel, pascal, snake, vocabulary
from .service import Operation, Parameter, Service
from .shapes import NONE, Choice, ListOf, MapOf, Named, Nullable, OneOf, Record, Scalar, Shape, TupleOf
from .source import Order, Source
from .template import block_comment, fill, indented, listed, literal, one_of, paragraphs, sentence_of, spans

_WIDTH = 116
KEYWORDS = vocabulary(
    "_ abstract assert boolean break byte case catch char class const continue default do double else enum extends "
    "false final finally float for goto if implements import instanceof int interface long native new null package "
    "private protected public return short static strictfp super switch synchronized this throw throws transient true "
    "try void volatile while yield"
)
# What every object has, and what the client has itself.
_METHODS = KEYWORDS | vocabulary(
    "arguments call clone close connect connected connecting encoded equals finalize getClass hashCode notify "
    "notifyAll toString urlOfEnvironment wait"
)
_COMPONENTS = KEYWORDS | vocabulary("clone finalize getClass hashCode notify notifyAll toString wait")
_TYPES = vocabulary(
    "AMQP AutoCloseable Boolean CallException CallTimeoutException CancellationException Channel Class "
    "CompletableFuture ConcurrentHashMap Connection ConnectionFactory ConnectionLostException "
    "DeserializationFeature Double Duration ExecutionException FiniteSerializer GeneralSecurityException "
    "IOException IllegalArgumentException IllegalStateException InterruptedException JavaType JsonFormat "
    "JsonGenerator JsonInclude JsonMapper JsonMappingException JsonNode JsonProperty JsonPropertyOrder "
    "JsonSerializer Link LinkedHashMap List Long Map Math Object ObjectMapper Override Record RemoteException Reply "
    "RuntimeException SerializerProvider ShutdownSignalException SimpleModule String Supplier System Thread "
    "Throwable TimeUnit TimeoutException TypeReference URISyntaxException UUID UnroutableException Void"
)
_ANNOTATIONS = ("JsonFormat", "JsonInclude", "JsonProperty", "JsonPropertyOrder")
_PRIMITIVES = {"bool": "boolean", "int": "long", "float": "double"}
_SCALARS = {
    "any": "Object",
    "none": "Void",
    "bool": "Boolean",
    "int": "Long",
    "float": "Double",
    "text": "String",
    "bytes": "byte[]",
}

_Named = list[tuple[Parameter, str]]


def source(order: Order) -> Source:
    """The file `…Client.java`."""
    service = order.service
    writer = _Writer(service)
    methods = [method for each in service.operations for method in writer.methods(each)]
    left_out = [f"// {sentence_of(reason)}" for reason in service.left_out.values()]
    types = [writer.named(each) for each in service.named.values()]
    written = "\n".join((*types, *methods))
    text = fill(
        "java/Client.java",
        command=order.command,
        package=f"\npackage {order.package};\n" if order.package else "",
        annotations=_annotations(written),
        list="import java.util.List;\n" if "List<" in written else "",
        doc=_javadoc(_doc(service)),
        client=writer.client,
        queue=literal(service.queue),
        methods=indented(paragraphs(*methods, *left_out), 4),
        types="".join(indented(f"{each}\n\n", 4) for each in types if each),
    )
    return Source(f"{writer.client}.java", text)


def _annotations(written: str) -> str:
    """The imports of the annotations that this service needs."""
    needed = [each for each in _ANNOTATIONS if re.search(rf"@{each}\b", written)]
    return "".join(f"import com.fasterxml.jackson.annotation.{each};\n" for each in needed)


def _doc(service: Service) -> str:
    return paragraphs(
        f"Calls the service {service.name} over RabbitMQ.",
        service.doc,
        "It connects at the first call, and again at the first one after a connection broke. Threads may share it.\n"
        "Each call throws a CallException if it fails.",
    )


class _Writer:
    """What is written with the names of the service's types at hand."""

    def __init__(self, service: Service) -> None:
        types = Names(_TYPES)
        self.client = types.take(f"{pascal(service.name)}Client")
        self._names = {key: types.take(pascal(key)) for key in service.named}
        self._named = service.named
        self._methods = Names(_METHODS)

    def named(self, named: Record | Choice) -> str:
        """The type of a record or choice; empty for one that has none of its own."""
        name = self._names[named.key]
        doc = _javadoc(named.doc or f"The service's {named.key}.")
        if isinstance(named, Record):
            return self._record(named, name, doc)
        if named.kind != "text":
            return ""
        names = Names()
        members = [
            f"@JsonProperty({literal(value)})\n{names.take(snake(member).upper())}" for member, value in named.members
        ]
        return fill("java/enum.java", doc=doc, name=name, members=indented(",\n".join(members), 4)).rstrip("\n")

    def _record(self, record: Record, name: str, doc: str) -> str:
        names = Names(_COMPONENTS)
        components = []
        for each in record.fields:
            local = names.take(camel(each.name))
            named = f"@JsonProperty({literal(each.name)}) " if local != each.name else ""
            required = each.required or record.is_array
            left_out = "" if required else "@JsonInclude(JsonInclude.Include.NON_NULL) "
            components.append(f"{named}{left_out}{self.type(each.shape, boxed=not required)} {local}")
        annotations = ""
        if record.is_array:
            order = ", ".join(literal(each.name) for each in record.fields)
            annotations = f"@JsonFormat(shape = JsonFormat.Shape.ARRAY)\n@JsonPropertyOrder({{{order}}})\n"
        listing = listed(f"{name}(", components, ")", width=_WIDTH - 22, step=8)
        return fill("java/record.java", doc=doc, annotations=annotations, components=_closed(listing)).rstrip("\n")

    def methods(self, operation: Operation) -> list[str]:
        """The method, and an overload for each number of arguments that may be left out."""
        name = self._methods.take(camel(operation.name))
        names = Names(KEYWORDS)
        named = [(each, names.take(camel(each.name))) for each in (*operation.required, *operation.optional)]
        methods = [self._method(operation, name, named, self._method_doc(operation, named))]
        for count in range(len(named) - 1, len(operation.required) - 1, -1):
            left_out = " and ".join(f"{{@code {local}}}" for _, local in named[count:])
            doc = block_comment(f"The same with the default of {left_out}.")
            methods.append(self._method(operation, name, named[:count], doc))
        return methods

    def _method(self, operation: Operation, name: str, named: _Named, doc: str) -> str:
        result = "void" if operation.result == NONE else self.type(operation.result)
        parameters = [f"{self.type(each.shape)} {local}" for each, local in named]
        return fill(
            "java/method.java",
            doc=doc,
            result=result,
            signature=_closed(listed(f"{name}(", parameters, ")", width=_WIDTH - 8 - len(result), step=8)),
            body=indented(self._body(operation, named), 4),
        ).rstrip("\n")

    def _body(self, operation: Operation, named: _Named) -> str:
        body = named[0][1] if operation.is_message else self._arguments(named)
        arguments = [
            literal(operation.request_class),
            body,
            _milliseconds(operation.timeout),
            self._class(operation.result),
        ]
        before = "" if operation.result == NONE else "return "
        return _closed(listed(f"{before}call(", arguments, ");", width=_WIDTH - 8, step=8))

    def _class(self, shape: Shape) -> str:
        """What a result is read as: Jackson refuses null for `long.class`, but not for `Long`."""
        type = self.type(shape, boxed=shape == NONE)
        return f"new TypeReference<{type}>() {{}}" if type.endswith(">") else f"{type}.class"

    def _arguments(self, named: _Named) -> str:
        pairs = [f"{literal(each.name)}, {local}" for each, local in named]
        return _closed(listed("arguments(", pairs, ")", width=_WIDTH - 16, step=8))

    def _method_doc(self, operation: Operation, named: _Named) -> str:
        tags = [f"@param {local} {said}" for each, local in named if (said := self._said(each.shape))]
        if said := self._said(operation.result):
            tags.append(f"@return {said}")
        return _javadoc(operation.doc or f"Calls {operation.name} of the service.", tags)

    def _said(self, shape: Shape) -> str:
        """What the type does not say."""
        match shape:
            case Scalar(note=note):
                return note
            case OneOf(values=values):
                return one_of(values)
            case Nullable(inner):
                return f"{said}, or null" if (said := self._said(inner)) else "may be null"
            case ListOf(inner) | MapOf(inner):
                return self._said(inner)
            case Named(key) if isinstance(choice := self._named[key], Choice) and choice.kind != "text":
                return one_of([value for _, value in choice.members])
        return ""

    def type(self, shape: Shape, *, boxed: bool = False) -> str:
        """The type of a value; `boxed` where it may be null, or stands between brackets."""
        match shape:
            case Scalar(kind) | OneOf(kind):
                return _SCALARS[kind] if boxed or kind not in _PRIMITIVES else _PRIMITIVES[kind]
            case ListOf(item):
                return f"List<{self.type(item, boxed=True)}>"
            case TupleOf(items):
                kinds = {self.type(item, boxed=True) for item in items}
                return f"List<{kinds.pop() if len(kinds) == 1 else 'Object'}>"
            case MapOf(value):
                return f"Map<String, {self.type(value, boxed=True)}>"
            case Nullable(inner):
                return self.type(inner, boxed=True)
            case Named(key):
                named = self._named[key]
                if isinstance(named, Choice) and named.kind != "text":
                    return self.type(Scalar(named.kind), boxed=boxed)
                return self._names[key]


def _milliseconds(seconds: float) -> str:
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds:_}" if milliseconds < 2**31 else f"{milliseconds:_}L"


def _closed(listing: str) -> str:
    """With the closing bracket at the end of the last line, as is usual in Java."""
    return re.sub(r"\n(\)[^\n]*)\Z", r"\1", listing)


def _javadoc(text: str, tags: list[str] | None = None) -> str:
    r"""A comment in which the text means nothing to javadoc, nor to javac, which reads `\u` in comments too."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace("@", "&#64;").replace("\\u", "&#92;u")
    parts = [f"<pre>\n{part}\n</pre>" if is_code else part for is_code, part in spans(escaped)]
    text = re.sub(r"\n{2,}(?!<pre>)", "\n\n<p>", paragraphs(*parts))
    return block_comment(paragraphs(text, "\n".join(tags or ())), end="*&#47;")
