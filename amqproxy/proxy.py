"""What users call: a proxy turns attribute access and calls into requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, TypeVar

from .caller import Caller
from .codecs import carries, natural_encoding, not_carried
from .codecs.compression import COMPRESSIONS
from .codecs.registry import codecs
from .contract import Contract, Method, contract_of
from .conversing import ConversingMethod, UntypedMethod
from .errors import ContractError
from .messages import check_name, form_of, message_name, naming
from .middleware import SurroundedMethod
from .options import CallOptions
from .payload import CollectedPayload, Payload, UntypedMessage, UntypedPayload
from .remote import CompressingMethod, Gauge, RemoteMethod, Target
from .retrying import CallTarget
from .wire import JSON, request_class

Proxied = TypeVar("Proxied")
Made = TypeVar("Made", bound=RemoteMethod | UntypedMethod)

TARGET = "__amqproxy_proxy__"
"""The attribute in which a proxy, a sender or a broadcast has its `Target`: no method of a service is called so."""


class Calling(Protocol):
    """A connection that proxies can call through."""

    @property
    def caller(self) -> Caller:
        """Its calling half; Closed if it is not open."""


class Proxy:
    """Stands for a service: its attributes are the service's methods, all of them.

    `Proxy(mq, Calculator)` is `mq.proxy(Calculator)`. `amqproxy.options(proxy, …)` gives the same with other options.
    """

    def __init__(self, mq: Calling, service: Any, /, *, name: str | None = None, **options: Any) -> None:
        self.__dict__[TARGET] = CallTarget(mq.caller, *named(service, name), options).checked()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{name} cannot be a method of a service: its name starts with _")
        method = self.__dict__[name] = remote_method(self.__dict__[TARGET], name)
        return method

    def __setattr__(self, name: str, value: Any) -> None:
        view = self.__dict__[TARGET].view
        raise AttributeError(f"a {view} cannot be assigned to ({name}); amqproxy.options({view}, …) sets its options")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Send a message to whichever method takes it; for a function that is served, call it."""
        target: Target = self.__dict__[TARGET]
        if target.contract is not None and target.contract.is_function:
            return getattr(self, next(iter(target.contract.methods)))(*args, **kwargs)
        if len(args) != 1 or kwargs:
            view = f"the {target.view} of {target.service}"
            raise ContractError(f"{view} is called with one message, or by a method's name")
        if target.contract is not None:
            return getattr(self, target.contract.method_of(args[0]).name)(args[0])
        return _message_method(target, args[0])(args[0])

    def __dir__(self) -> list[str]:
        target: Target = self.__dict__[TARGET]
        return sorted({*object.__dir__(self), *(target.contract.methods if target.contract else ())})

    def __repr__(self) -> str:
        target: Target = self.__dict__[TARGET]
        options = "".join(f", {name}={value!r}" for name, value in target.overrides.items())
        return f"<{type(self).__name__} of {target.service!r} at {target.caller.connection.url}{options}>"


def named(service: Any, name: str | None) -> tuple[str, Contract | None]:
    """The name of a service, and its contract if more is known than that."""
    contract = None if isinstance(service, str) else contract_of(service, name=name)
    known: str = (name or service) if contract is None else contract.name
    check_name("service", known)
    return known, contract


def options(proxy: Proxied, /, **changes: Any) -> Proxied:
    """The same proxy with other options (those of `CallOptions`), or sender: `options(calc, timeout=2)`."""
    if hasattr(proxy, "__amqproxy_options__"):  # one of amqproxy.sync, which stands for one of these
        return proxy.__amqproxy_options__(**changes)  # type: ignore[no-any-return]
    target: Target | None = getattr(proxy, "__dict__", {}).get(TARGET)
    if target is None:
        raise TypeError(f"amqproxy.options takes a proxy, not a {type(proxy).__name__}")
    other = object.__new__(type(proxy))
    overrides = {**target.overrides, **changes}
    other.__dict__[TARGET] = replace(target, overrides=overrides, gauge=Gauge(), messages={}).checked()
    return other


def remote_method(target: Target, name: str) -> RemoteMethod | UntypedMethod | SurroundedMethod:
    """The method of this name; AttributeError if the contract has none."""
    if target.contract is None:
        try:
            check_name("message class", request_class(target.service, name))
        except ValueError as error:
            raise ContractError(f"the service {target.service[:40]} cannot have this method: {error}") from None
        options = target.options()
        codec = target.codec(options.encoding or JSON)
        payload = UntypedPayload(f"{target.service}.{name}", codec)
        once = _make(target, name, request_class(target.service, name), options, payload)
        return _surrounded(target, options, UntypedMethod(once, target, codec) if target.streams else once)
    method = target.contract.methods.get(name)
    if method is None:
        known = ", ".join(target.contract.methods)
        raise AttributeError(f"{target.contract.title} has no method {name!r} that is served; it has {known}")
    return _typed_method(target, method)


def _message_method(target: Target, request: Any) -> RemoteMethod | SurroundedMethod:
    """The method for one message class of a service of which only the name is known."""
    name = message_name(type(request))
    if name is None:
        raise ContractError(f"{type(request).__name__} is no message class; mark it with @amqproxy.message(…)")
    if (form := form_of(type(request))) != "plain":
        raise ContractError(
            f"{name} is a message of {form}, whose replies need a class: make the proxy from the service's"
        )
    if name not in target.messages:
        options = target.options()
        payload = UntypedMessage(name, target.codec(options.encoding or JSON))
        target.messages[name] = _surrounded(target, options, _make(target, name, name, options, payload))
    return target.messages[name]


def _make(target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> RemoteMethod:
    kind = target.kind(options)
    if options.compress_above is not None and payload.encoding.partition("-")[0] not in COMPRESSIONS:
        kind = CompressingMethod
    return kind(target, name, content_type, options, payload)


def _surrounded(target: Target, options: CallOptions, method: Made) -> Made | SurroundedMethod:
    """The method with its middleware, if it has any."""
    middleware = (*target.caller.connection.options.middleware, *options.middleware)
    return method.surrounded(middleware) if middleware else method


def _typed_method(target: Target, method: Method) -> RemoteMethod | SurroundedMethod:
    options = target.options(method.options)
    if method.options.at_most_once:  # and, as calls that share a message are run again together, none does
        options = replace(options, idempotent=False, batch=1)
    codec = target.codec(options.encoding or natural_encoding(method))
    if not carries(codec, method):
        others = codecs(target.caller.connection.options.max_decompressed_bytes).values()
        raise ContractError(not_carried(codec, method, others))
    name = method.request_class
    if method.takes_message and options.protobuf_names == "protobuf":
        name = naming(method.request_type).get("protobuf", name)
    payload = Payload(method, codec) if method.stream is None else CollectedPayload(method, codec)
    if method.feed is not None and not target.streams:
        raise ContractError(f"{method.title}: {method.feed.name} is a stream, which a {target.view} cannot feed")
    if not target.streams or (method.stream is None and method.feed is None):
        made = _make(target, method.name, name, options, payload)
    elif options.retry is not None or options.hedge is not None:
        text = f"{method.title} streams, and what has begun cannot be sent again"
        raise ContractError(f"{text}: use a proxy without retry and hedge")
    else:
        made = ConversingMethod(target, method.name, name, options, payload, method, codec)
    remote = _surrounded(target, options, made)
    remote.__doc__ = method.doc
    remote.__signature__ = method.signature  # type: ignore[union-attr]  # what inspect and IDEs look for
    return remote
