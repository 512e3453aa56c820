"""A class, an instance or a function as a contract: its methods, their message classes, their types.

Nothing here is global and nothing happens at import: `serve`, `message` and `method` only attach a description to what
they decorate, and `contract_of` reads it when a proxy or a worker is made.
"""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, TypeVar

import msgspec

from .errors import ContractError, check_rebuilt
from .messages import Form, Style, check_name, form_of, naming, new_message
from .options import CallOptions, ServeOptions, changed, serving_options
from .provided import check_provided, given_anyway, without_provided
from .signature import Streamed, arguments_types, message_by_position, signature_of, streamed
from .wire import reply_class, request_class

Served = TypeVar("Served", bound=Callable[..., Any])
Function = TypeVar("Function", bound=Callable[..., Any])

_SERVICE = "__amqproxy_service__"
_METHOD = "__amqproxy_method__"


@dataclass(frozen=True, slots=True)
class Description:
    """What `@amqproxy.serve` attaches to a class or function."""

    name: str
    options: ServeOptions = field(default_factory=ServeOptions)
    errors: tuple[type[Exception], ...] = ()


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """What `@amqproxy.method` attaches to a method; None leaves it to the proxy."""

    timeout: float | None = None
    idempotent: bool | None = None
    heartbeat: float | None = None
    at_most_once: bool = False


def serve(name: str, *, errors: tuple[type[Exception], ...] = (), **options: Any) -> Callable[[Served], Served]:
    """Describe a class or function as the service `name`; options are those of `ServeOptions`.

    `errors` are exception types of yours that callers shall see as themselves.
    """
    if not isinstance(name, str):
        raise TypeError('a service has a name: write @amqproxy.serve("name")')
    check_name("service", name)
    if not isinstance(errors, tuple) or not all(isinstance(e, type) and issubclass(e, Exception) for e in errors):
        raise TypeError(f"errors is a tuple of exception types, not {errors!r}")
    for error in errors:
        check_rebuilt(error)
    description = Description(name, changed(ServeOptions(), "serve", options), errors)

    def describe(target: Served) -> Served:
        setattr(target, _SERVICE, description)
        return target

    return describe


def method(
    *,
    timeout: float | None = None,
    idempotent: bool | None = None,
    heartbeat: float | None = None,
    at_most_once: bool = False,
) -> Callable[[Function], Function]:
    """Options of one method: its timeout in seconds, and whether running it twice does no harm.

    `heartbeat` is for methods that take long: seconds between two signs of life, of which callers miss three at most.
    With `at_most_once` no call is run a second time when its worker dies: its request is acknowledged before it runs,
    and one that a worker had before is refused (code "aborted", executed "maybe").
    """
    if not isinstance(at_most_once, bool):
        raise TypeError(f"at_most_once is True or False, not {at_most_once!r}")
    if at_most_once and idempotent:
        raise ValueError("a method that is idempotent may run twice, and one that is at_most_once may not: choose one")
    given = {"timeout": timeout, "idempotent": idempotent, "heartbeat": heartbeat}
    changed(CallOptions(), "a method", {name: value for name, value in given.items() if value is not None})

    def describe(function: Function) -> Function:
        inner = getattr(function, "__func__", function)  # inside of a staticmethod or classmethod
        setattr(inner, _METHOD, MethodOptions(timeout, idempotent, heartbeat, at_most_once))
        return function

    return describe


@dataclass(frozen=True, slots=True)
class Feed:
    """A parameter that is a stream."""

    name: str
    stream: Streamed


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a contract."""

    name: str
    title: str
    """How errors call it: the class and the method, with the signature."""
    request_class: str
    """The class name of its requests, as we send them."""
    reply_class: str
    alias: str
    """SERVICE.METHOD: another name for its requests, so that a message can be called by name as well."""
    names: Mapping[str, str]
    """All names of its requests, with the class of the reply to each: who asks in one language's names is answered in
    them."""
    forms: frozenset[Form]
    """The forms of its request and of its result; no parameters, and a result of None, travel in all."""
    request_type: Any
    """What travels: the message class, or a Struct made of the parameters."""
    positional_type: Any
    """The same as an array, for callers that send arguments by position; None if arrays mean something else."""
    result_type: Any
    """What a reply holds; of a stream, one item."""
    stream: Streamed | None
    """What kind of stream it answers with; None if it answers once."""
    feed: Feed | None
    """The parameter that the caller feeds a stream to."""
    takes_message: bool
    plain: bool
    """Whether each parameter may be given by position and by name, and none is a message."""
    optional: bool
    """Whether any parameter may be left out."""
    positional_only: tuple[str, ...]
    keyword_only: tuple[str, ...]
    signature: inspect.Signature
    options: MethodOptions
    doc: str
    provided: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the handler that are none of the contract's, with their types: the worker provides them."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The request for these arguments; ContractError if they do not fit the signature."""
        try:
            if self.plain:
                return self.request_type(*args, **kwargs)
            if self.takes_message:
                return self._message(args, kwargs)
            if self.feed is not None:
                return self.request_type(**kwargs)  # bound already
            return self.request_type(**self.signature.bind(*args, **kwargs).arguments)
        except (TypeError, ValueError) as error:
            raise ContractError(f"{self.title}: {self._misfit(args, kwargs) or error}") from error

    def without_feed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...], Any]:
        """What is fed to the stream parameter, and the other arguments, by position and by name."""
        assert self.feed is not None
        try:
            given = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ContractError(f"{self.title}: {given_anyway(self.provided, kwargs) or error}") from error
        items = given.arguments.pop(self.feed.name)
        return items, (), given.arguments

    def _message(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The message that was given whole, or one that is made of its fields, or the default."""
        [parameter] = (p for p in self.signature.parameters.values() if self.feed is None or p.name != self.feed.name)
        if not args and not kwargs and _is_instance(parameter.default, self.request_type):
            return parameter.default
        if len(args) + len(kwargs) == 1:
            [whole] = args or (kwargs.get(parameter.name),)
            if type(whole) is self.request_type or _is_instance(whole, self.request_type):
                return whole
        return new_message(self.request_type, args, kwargs)

    def _misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """What does not fit, as Python says it."""
        if problem := given_anyway(self.provided, kwargs):
            return problem
        if not self.takes_message and self.feed is None:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                return str(error)
        return ""

    def from_positions(self, request: Any) -> Any:
        """The request for one that was read as `positional_type`; TypeError or ValueError if a message refuses it."""
        if not self.takes_message:
            return request
        given = _given(request)
        if hasattr(self.request_type, "model_validate"):  # a pydantic model, whose constructor goes by alias
            return self.request_type.model_validate(given, strict=False, by_alias=True, by_name=True)
        return self.request_type(**given)

    def arguments(self, request: Any) -> dict[str, Any]:
        """What a request holds, by parameter."""
        if not self.takes_message:
            return _given(request)
        return {name: request for name in self.signature.parameters if self.feed is None or name != self.feed.name}

    def call(self, handler: Callable[..., Any], request: Any) -> Any:
        """Call the handler with the arguments that a request holds."""
        if self.plain and not self.optional:
            return handler(*msgspec.structs.astuple(request))
        if not self.takes_message:
            return self._call_by_name(handler, request)
        return handler(**{self.keyword_only[0]: request}) if self.keyword_only else handler(request)

    def _call_by_name(self, handler: Callable[..., Any], request: Any) -> Any:
        given = _given(request)
        if not self.positional_only:
            return handler(**given)
        ahead = tuple(name for name in self.positional_only if name in given)
        if ahead != self.positional_only[: len(ahead)]:
            raise ContractError(f"{self.title}: {ahead[-1]} cannot be given when what is ahead of it is left out")
        positional = [given.pop(name) for name in ahead]
        return handler(*positional, **given)


def _given(request: Any) -> dict[str, Any]:
    """The fields of a request that were not left out."""
    return {name: value for name, value in msgspec.structs.asdict(request).items() if value is not msgspec.UNSET}


@dataclass(frozen=True, slots=True)
class Contract:
    """A service: its name and its methods."""

    name: str
    title: str
    """The class or function that it was read from."""
    methods: Mapping[str, Method]
    options: ServeOptions = field(default_factory=ServeOptions)
    errors: tuple[type[Exception], ...] = ()
    is_function: bool = False

    def by_class(self) -> dict[str, list[Method]]:
        """Methods by the names of their requests, aliases included; those of one name have no encoding in common."""
        found: dict[str, list[Method]] = {}
        for method in self.methods.values():
            for name in method.names:
                found.setdefault(name, []).append(method)
        return found

    def method_of(self, request: Any) -> Method:
        """The method that takes this message, or else its parent class; ContractError if it is not exactly one."""
        methods = [method for method in self.methods.values() if method.takes_message]
        for kind in type(request).__mro__:
            takers = [m for m in methods if kind is (dict if typing.is_typeddict(m.request_type) else m.request_type)]
            if len(takers) > 1:
                names = " and ".join(m.name for m in takers)
                raise ContractError(f"{self.title}: {names} take a {kind.__name__} each; call one of them by its name")
            if takers:
                return takers[0]
        takes = ", ".join(m.request_class for m in methods) or "no messages"
        raise ContractError(f"{self.title} takes no {type(request).__name__}; it takes {takes}")


def contract_of(target: Any, *, name: str | None = None, serving: Mapping[str, Any] | None = None) -> Contract:
    """Read a class, an instance or a function; ContractError names the method that cannot be served, and why.

    `serving` are the options of a worker, which win over those of `@amqproxy.serve`: with them, this is the contract
    that the worker serves, which lacks the parameters that the worker alone knows to be provided.
    """
    if isinstance(target, str):
        raise ContractError(f"a class, an instance or a function can be served, and not the name {target!r}")
    function = target if inspect.isroutine(target) else None
    source: Any = function or (target if isinstance(target, type) else type(target))
    description: Description = getattr(source, _SERVICE, None) or Description(source.__name__)
    if name is not None:
        check_name("service", name)
        description = replace(description, name=name)
    if serving is not None:
        description = replace(description, options=serving_options(description.options, serving))
    if inspect.isfunction(target) and "." in target.__qualname__.rpartition("<locals>.")[2]:
        owner = target.__qualname__.rpartition(".")[0]
        if next(iter(inspect.signature(target).parameters), "") == "self":
            raise ContractError(f"{target.__qualname__} is a method, which wants an object: serve {owner} instead")
    functions = {target.__name__: target} if function else _public_functions(source)
    title = getattr(source, "__qualname__", description.name)
    methods = {
        each: _method(description, each, found, None if function else title) for each, found in functions.items()
    }
    if not methods:
        raise ContractError(f"{title} has no public methods to serve")
    for each in methods.values() if serving is not None else ():
        check_provided(each.provided, description.options.providers, each.title)
    contract = Contract(description.name, title, methods, description.options, description.errors, function is not None)
    _check_distinct(contract)
    return contract


def _public_functions(source: type) -> dict[str, Callable[..., Any]]:
    """Functions of the class and its bases, but for `object`: no underscore, no property, no other callable."""
    found: dict[str, Any] = {}
    for base in reversed(source.__mro__[:-1]):
        if base.__module__ in ("typing", "abc", "typing_extensions"):
            continue
        for name, value in vars(base).items():
            found.pop(name, None)
            inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            if not name.startswith("_") and inspect.isfunction(inner):
                found[name] = value.__get__(source, source)  # bound to anything, so that its signature lacks self
    return found


def _method(description: Description, name: str, function: Any, owner: str | None) -> Method:
    service = description.name
    title = f"{owner}.{name}" if owner else name
    signature, provided = without_provided(signature_of(function, title), description.options.providers, title)
    title = f"{title}{signature}"
    feed = _feed(signature, title)
    parameters = [p for p in signature.parameters.values() if feed is None or p.name != feed.name]
    result = Any if signature.return_annotation is inspect.Signature.empty else signature.return_annotation
    stream = _stream(function, result, title)
    if stream is not None:
        result = stream.item
    requests = naming(parameters[0].annotation) if len(parameters) == 1 else {}
    single = requests.get("sent")
    replies = naming(result)
    alias, reply = request_class(service, name), replies.get("sent") or reply_class(service, name)
    try:
        for wire_name in (alias, reply, *requests.values(), *replies.values()):
            check_name("message class", wire_name)
        if single:
            request_type = parameters[0].annotation
            positional_type = message_by_position(request_type) if form_of(request_type) == "plain" else None
        else:
            request_type, positional_type = arguments_types(name, parameters)
    except Exception as error:  # annotations of a message are evaluated here, which may raise anything
        raise ContractError(f"{title}: {error}") from error
    carrying = [request_type] if parameters else []
    if result is not NoneType and (stream is None or stream.kind == "items"):
        carrying.append(result)
    if feed is not None and feed.stream.kind == "items":
        carrying.append(feed.stream.item)
    forms = frozenset(map(form_of, carrying))
    return Method(
        name=name,
        title=title,
        request_class=single or alias,
        reply_class=reply,
        alias=alias,
        names=_names(alias, requests, replies, reply),
        forms=forms,
        request_type=request_type,
        positional_type=positional_type,
        result_type=result,
        stream=stream,
        feed=feed,
        takes_message=single is not None,
        plain=single is None and feed is None and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters),
        optional=any(p.default is not p.empty for p in parameters),
        positional_only=tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
        # A stream may stand ahead of the message, which then is given by its name.
        keyword_only=tuple(
            p.name for p in parameters if p.kind is p.KEYWORD_ONLY or (feed and p.kind is p.POSITIONAL_OR_KEYWORD)
        ),
        signature=signature,
        options=getattr(function, _METHOD, None) or MethodOptions(),
        doc=inspect.getdoc(function) or "",
        provided=provided,
    )


def _stream(function: Any, result: Any, title: str) -> Streamed | None:
    """What kind of stream a function yields or returns, if it is one."""
    inner = inspect.unwrap(function)
    generates = inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner)
    stream = streamed(Any if result is Any else result)
    if generates and stream is None:
        if result is not Any:
            raise ContractError(f"{title} is a generator: its result is annotated as AsyncIterator[…] or Iterator[…]")
        return Streamed("items", Any)
    if generates and stream is not None and stream.kind == "chunks":
        raise ContractError(f"{title} is a generator: yield bytes as AsyncIterator[bytes], or return a Blob")
    return stream


def _feed(signature: inspect.Signature, title: str) -> Feed | None:
    """The parameter that is a stream, if there is one."""
    feeds = [(p, kind) for p in signature.parameters.values() if (kind := streamed(p.annotation)) is not None]
    if not feeds:
        return None
    if len(feeds) > 1:
        names = " and ".join(p.name for p, _ in feeds)
        raise ContractError(f"{title}: {names} are streams; a call has one stream to the worker at most")
    [(parameter, stream)] = feeds
    if parameter.kind is parameter.POSITIONAL_ONLY or parameter.default is not parameter.empty:
        raise ContractError(f"{title}: the stream {parameter.name} can neither be positional-only nor have a default")
    return Feed(parameter.name, stream)


def _names(alias: str, requests: Mapping[Style, str], replies: Mapping[Style, str], reply: str) -> dict[str, str]:
    """The reply's name for each name of the request: Java's for Java's, protobuf's for protobuf's."""
    named = {alias: reply}
    styles: tuple[Style, ...] = ("protobuf", "java", "sent")  # one that is two of them counts as the latter
    return named | {requests[style]: replies.get(style, reply) for style in styles if style in requests}


def _check_distinct(contract: Contract) -> None:
    taken: dict[tuple[str, bool], Method] = {}
    for each in contract.methods.values():
        # A class of protobuf and one of Thrift may share a name: the encoding tells them apart.
        worlds = ["thrift" in each.forms] if each.forms else [False, True]
        for wire_name, world in itertools.product(each.names, worlds):
            other = taken.setdefault((wire_name, world), each)
            if other is not each:
                raise ContractError(
                    f"{contract.title}: {other.name} and {each.name} both take {wire_name}; "
                    "a worker could not tell their requests apart"
                )


def _is_instance(value: Any, kind: Any) -> bool:
    """isinstance, also for TypedDict classes, whose instances are plain dicts."""
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    return isinstance(value, kind)
