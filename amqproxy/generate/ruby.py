"""A client in Ruby, on bunny."""

from __future__ import annotations

from .naming import Names, pascal, snake, vocabulary
from .service import Operation, Parameter, Service
from .shapes import Choice, ListOf, MapOf, Named, Nullable, OneOf, Record, Scalar, Shape, TupleOf
from .source import Order, Source
from .template import comment, fill, indented, listed, literal, one_of, paragraphs, sentence_of

_WIDTH = 110
_KEYWORDS = vocabulary(
    "BEGIN END __ENCODING__ __FILE__ __LINE__ __method__ alias and begin break case class def defined? do else elsif "
    "end ensure false for if in module next nil not or redo rescue retry return self super then true undef unless "
    "until when while yield"
)
# What every object has or every class uses, and what the client has itself.
_METHODS = _KEYWORDS | vocabulary(
    "base64 clone close define_singleton_method display dup enum_for extend freeze given hash initialize "
    "initialize_clone initialize_copy initialize_dup inspect instance_eval instance_exec instance_variable_get "
    "instance_variable_set itself method method_missing methods object_id respond_to_missing "
    "public_send raise send singleton_class singleton_method tap to_enum to_s unbase64"
)
_SCALARS = {
    "any": "Object",
    "none": "nil",
    "bool": "Boolean",
    "int": "Integer",
    "float": "Float",
    "text": "String",
    "bytes": "String",
}


def source(order: Order) -> Source:
    """The file `…_client.rb`."""
    service = order.service
    names = Names(_METHODS)
    methods = [_method(each, names.take(snake(each.name))) for each in service.operations]
    left_out = [comment(sentence_of(reason), "#") for reason in service.left_out.values()]
    text = fill(
        "ruby/client.rb",
        command=order.command,
        doc=comment(_doc(service), "#"),
        client=f"{pascal(service.name)}Client",
        methods=indented(paragraphs(*methods, *left_out), 2),
        helpers=_helpers(service),
        queue=_text(service.queue),
    )
    return Source(f"{snake(service.name)}_client.rb", text)


def _doc(service: Service) -> str:
    """What stands above the class."""
    records = [_of_named(each) for each in service.named.values()]
    return paragraphs(
        f"Calls the service {service.name} over RabbitMQ.",
        service.doc,
        "It connects at the first call, and again at the first one after a connection broke. Threads may share it.\n"
        "Each call raises a CallError if it fails.",
        "Its methods speak of these:\n\n" + indented("\n".join(records), 2) if records else "",
    )


def _of_named(named: Record | Choice) -> str:
    """What a record or choice is."""
    if isinstance(named, Choice):
        return f"{named.key}: {_SCALARS[named.kind]}, {one_of([value for _, value in named.members])}"
    if named.is_array:
        return "\n".join([f"{named.key}: Array of", *(f"  {f.name}: {_of(f.shape)}" for f in named.fields)])
    fields = [f"  {literal(f.name)} => {_of(f.shape, f.required)}" for f in named.fields]
    return "\n".join([f"{named.key}: Hash", *fields])


def _of(shape: Shape, required: bool = True) -> str:
    """A type with what is to be said of it."""
    notes = [part for part in (_note(shape), "" if required else "may be left out") if part]
    return f"{_type(shape)} ({'; '.join(notes)})" if notes else _type(shape)


def _type(shape: Shape) -> str:
    """As YARD writes types."""
    match shape:
        case Scalar(kind):
            return _SCALARS[kind]
        case ListOf(item):
            return f"Array<{_type(item)}>"
        case TupleOf(items):
            return f"Array({', '.join(map(_type, items))})" if items else "Array"
        case MapOf(value):
            return f"Hash{{String => {_type(value)}}}"
        case Nullable(inner):
            return f"{_type(inner)}, nil"
        case OneOf(kind):
            return _SCALARS[kind]
        case Named(key):
            return key


def _note(shape: Shape) -> str:
    match shape:
        case Scalar(kind, note):
            return "Base64" if kind == "bytes" else note
        case OneOf(values=values):
            return one_of(values)
        case Nullable(inner) | ListOf(inner) | MapOf(inner):
            return _note(inner)
    return ""


def _method(operation: Operation, name: str) -> str:
    names = Names(_KEYWORDS)
    named = [(each, names.take(snake(each.name))) for each in operation.parameters]
    positional = [local for each, local in named if each.required and not each.keyword_only]
    by_name = [f"{local}:" for each, local in named if each.required and each.keyword_only]
    optional = [f"{local}: OMITTED" for each, local in named if not each.required]
    parameters = [*positional, *by_name, *optional]
    return fill(
        "ruby/method.rb",
        doc=comment(_method_doc(operation, named), "#"),
        signature=listed(f"def {name}(", parameters, ")", width=_WIDTH) if parameters else f"def {name}",
        body=indented(_body(operation, named), 2),
    ).rstrip("\n")


def _method_doc(operation: Operation, named: list[tuple[Parameter, str]]) -> str:
    tags = [_tag(f"@param {local}", each.shape, each.required) for each, local in named]
    return paragraphs(operation.doc, "\n".join([*tags, _tag("@return", operation.result)]))


def _tag(tag: str, shape: Shape, required: bool = True) -> str:
    note = "" if _is_bytes(shape) else _note(shape)
    notes = [part for part in (note, "" if required else "may be left out") if part]
    return f"{tag} [{_type(shape)}] {'; '.join(notes)}".rstrip()


def _body(operation: Operation, named: list[tuple[Parameter, str]]) -> str:
    name, timeout = _text(operation.request_class), f"{operation.timeout:.15g}"
    call, end = "@link.call(", ")"
    match operation.result:
        case Scalar("bytes"):
            call, end = "unbase64(@link.call(", "))"
        case Nullable(Scalar("bytes")):
            end = ")&.then { |text| unbase64(text) }"
    if operation.is_message:
        return f"{call}{name}, {named[0][1]}, {timeout}{end}"
    pairs = [f"{_text(each.name)} => {_sent(each.shape, local)}" for each, local in named]
    before, after = ("given({", "})") if operation.optional else ("{", "}")
    return listed(f"{call}{name}, {before}", pairs, f"{after}, {timeout}{end}", width=_WIDTH)


def _sent(shape: Shape, local: str) -> str:
    return f"base64({local})" if _is_bytes(shape) else local


def _is_bytes(shape: Shape) -> bool:
    """Whether these are bytes that the client turns into Base64 by itself, which it does not do inside of others."""
    return shape in (Scalar("bytes"), Nullable(Scalar("bytes")))


def _helpers(service: Service) -> str:
    operations = service.operations
    has_bytes = any(_is_bytes(p.shape) for each in operations if not each.is_message for p in each.parameters)
    omitted = fill("ruby/omitted.rb") if any(each.optional for each in operations) else ""
    helpers = omitted + (fill("ruby/base64.rb") if has_bytes else "")
    return helpers + (fill("ruby/unbase64.rb") if any(_is_bytes(each.result) for each in operations) else "")


def _text(text: str) -> str:
    """A literal; a number sign may begin a piece of Ruby in it."""
    return literal(text).replace("#", "\\#")
