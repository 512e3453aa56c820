"""A class, an instance or a function as a contract: its methods, their message classes, their types.

Nothing here is global and nothing happens at import: `serve`, `message` and `method` only attach a description to what
they decorate, and `contract_of` reads it when a proxy or a worker is made.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Union

import msgspec

from .errors import ContractError
from .options import MAX_SHORT_STRING, ServeOptions, changed
from .wire import reply_class, request_class

Served = TypeVar("Served", bound=Callable[..., Any])
MessageClass = TypeVar("MessageClass", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])

_SERVICE = "__amqproxy_service__"
_MESSAGE = "__amqproxy_message__"
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


def serve(name: str, *, errors: tuple[type[Exception], ...] = (), **options: Any) -> Callable[[Served], Served]:
    """Describe a class or function as the service `name`; options are those of `ServeOptions`.

    `errors` are exception types of yours that callers shall see as themselves.
    """
    _check_name("service", name)
    description = Description(name, changed(ServeOptions(), "serve", options), errors)

    def describe(target: Served) -> Served:
        setattr(target, _SERVICE, description)
        return target

    return describe


def message(name: str | MessageClass | None = None) -> Any:
    """Make a class a message class: it travels as a whole, under this name, which other languages can share.

    Without a name the class is called `module.QualName`, with `$` between nested classes, as on the JVM.
    """
    if isinstance(name, type):
        return message()(name)
    if name is not None:
        _check_name("message class", name)

    def describe(kind: MessageClass) -> MessageClass:
        setattr(kind, _MESSAGE, name or class_name(kind))
        return kind

    return describe


def method(*, timeout: float | None = None, idempotent: bool | None = None) -> Callable[[Function], Function]:
    """Options of one method: its timeout in seconds, and whether running it twice does no harm."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout is more than 0 seconds, not {timeout!r}")

    def describe(function: Function) -> Function:
        setattr(function, _METHOD, MethodOptions(timeout, idempotent))
        return function

    return describe


def class_name(kind: type) -> str:
    """The wire name of a class that was given none."""
    qualified = kind.__qualname__.replace(".<locals>.", "$").replace(".", "$")
    return f"{kind.__module__}.{qualified}"


def message_name(kind: Any) -> str | None:
    """The wire name of a message class, or None if `kind` is not one; a subclass is not its parent's message."""
    name = vars(kind).get(_MESSAGE) if isinstance(kind, type) else None
    return name if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a contract."""

    name: str
    title: str
    """How errors call it: the class and the method, with the signature."""
    request_class: str
    reply_class: str
    alias: str
    """SERVICE.METHOD: another name for its requests, so that a message can be called by name as well."""
    request_type: Any
    """What travels: the message class, or a Struct made of the parameters."""
    positional_type: Any
    """The same as an array, for callers that send arguments by position; None if arrays mean something else."""
    result_type: Any
    takes_message: bool
    optional: bool
    """Whether any parameter may be left out."""
    keyword_only: tuple[str, ...]
    signature: inspect.Signature
    options: MethodOptions
    doc: str

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The request for these arguments; ContractError if they do not fit the signature."""
        kind = self.request_type
        if self.takes_message and len(args) == 1 and not kwargs and _is_instance(args[0], kind):
            return args[0]
        try:
            if self.keyword_only and not self.takes_message:
                return kind(**self.signature.bind(*args, **kwargs).arguments)
            return kind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise ContractError(f"{self.title}: {self._misfit(args, kwargs) or error}") from error

    def _misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        if self.takes_message:
            return ""
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return ""

    def from_positions(self, request: Any) -> Any:
        """The request for one that was read from an array of `positional_type`."""
        if not self.takes_message:
            return request
        given = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not msgspec.UNSET}
        return self.request_type(**given)

    def call(self, handler: Callable[..., Any], request: Any) -> Any:
        """Call the handler with the arguments that a request holds."""
        if self.takes_message:
            return handler(request)
        values = msgspec.structs.astuple(request)
        if not self.optional and not self.keyword_only:
            return handler(*values)
        return self._call_by_name(handler, request)

    def _call_by_name(self, handler: Callable[..., Any], request: Any) -> Any:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            value = getattr(request, name)
            if value is msgspec.UNSET:
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    break  # what comes behind it can only be named
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[name] = value
        return handler(*positional, **named)


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

    def by_class(self) -> dict[str, Method]:
        """Methods by the message class of their requests, aliases included."""
        aliases = {method.alias: method for method in self.methods.values()}
        return aliases | {method.request_class: method for method in self.methods.values()}

    def method_of(self, request: Any) -> Method:
        """The method that takes this message; ContractError if there is none."""
        for method in self.methods.values():
            if method.takes_message and _is_instance(request, method.request_type):
                return method
        takes = ", ".join(m.request_class for m in self.methods.values() if m.takes_message) or "no messages"
        raise ContractError(f"{self.title} takes no {type(request).__name__}; it takes {takes}")


def contract_of(target: Any, *, name: str | None = None) -> Contract:
    """Read a class, an instance or a function; ContractError names the method that cannot be served, and why."""
    function = target if inspect.isroutine(target) else None
    source: Any = function or (target if isinstance(target, type) else type(target))
    description: Description = getattr(source, _SERVICE, None) or Description(source.__name__)
    if name is not None:
        _check_name("service", name)
        description = replace(description, name=name)
    functions = {target.__name__: target} if function else _public_functions(source)
    title = getattr(source, "__qualname__", description.name)
    methods = {
        each: _method(description.name, each, found, None if function else title) for each, found in functions.items()
    }
    if not methods:
        raise ContractError(f"{title} has no public methods to serve")
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
            if not name.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, (staticmethod, classmethod))
            ):
                found[name] = value
    return found


def _method(service: str, name: str, function: Any, owner: str | None) -> Method:
    bound = owner is not None and not isinstance(function, staticmethod)
    options = getattr(function, _METHOD, None) or MethodOptions()
    function = inspect.unwrap(getattr(function, "__func__", function))
    title = f"{owner}.{name}" if owner else name
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ContractError(f"{title} is a generator: streams cannot be served yet, return a list")
    signature = _signature(function, title, bound)
    parameters = list(signature.parameters.values())
    _check_parameters(title, parameters)
    title = f"{title}{signature}"
    result = Any if signature.return_annotation is inspect.Signature.empty else signature.return_annotation
    single = message_name(parameters[0].annotation) if len(parameters) == 1 else None
    request_type, positional = (
        (parameters[0].annotation, _message_by_position(parameters[0].annotation))
        if single
        else _arguments_types(name, title, parameters)
    )
    return Method(
        name=name,
        title=title,
        request_class=single or request_class(service, name),
        reply_class=message_name(result) or reply_class(service, name),
        alias=request_class(service, name),
        request_type=request_type,
        positional_type=positional,
        result_type=result,
        takes_message=single is not None,
        optional=any(p.default is not p.empty for p in parameters),
        keyword_only=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
        signature=signature,
        options=options,
        doc=inspect.getdoc(function) or "",
    )


def _signature(function: Any, title: str, bound: bool) -> inspect.Signature:
    """The signature with its annotations resolved, without self."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ContractError(
            f"an annotation of {title} cannot be resolved: {error}. Annotations must be names of its module"
        ) from error
    raw = inspect.signature(function)
    parameters = [p.replace(annotation=hints.get(p.name, Any)) for p in raw.parameters.values()]
    if bound:
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise ContractError(f"{title} does not take self")
        del parameters[0]
    return inspect.Signature(parameters, return_annotation=hints.get("return", inspect.Signature.empty))


def _check_parameters(title: str, parameters: list[inspect.Parameter]) -> None:
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ContractError(
                f"{title} takes *{parameter.name}, which a contract cannot describe; "
                "name its parameters, or take one list or dict"
            )


def _arguments_types(name: str, title: str, parameters: list[inspect.Parameter]) -> tuple[Any, Any]:
    """The parameters as a Struct, and as one that is read from an array.

    A parameter with a default may be left out: then it stays unset, is not sent, and the handler's own default holds.
    """
    fields = [(p.name, p.annotation, p.default is not p.empty) for p in parameters]
    keyword_only = any(p.kind is p.KEYWORD_ONLY for p in parameters)
    if keyword_only:
        fields.sort(key=lambda field: field[2])  # what may be left out comes last in a Struct; these go by name anyway
    try:
        return _struct(name, fields), None if keyword_only else _struct(name, fields, array_like=True)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{title}: {error}") from error


def _message_by_position(kind: Any) -> Any:
    """A message's fields as a Struct read from an array, for callers that know SERVICE.METHOD but not the class.

    None for messages that are arrays themselves.
    """
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        fields = [(n, f.annotation, not f.is_required()) for n, f in kind.model_fields.items()]
    else:
        info = msgspec.inspect.type_info(kind)
        if not isinstance(info, _KEYED) or getattr(info, "array_like", False):
            return None
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = [(f.name, hints[f.name], not f.required) for f in info.fields]
    return _struct(kind.__name__, fields, array_like=True)


_KEYED = (msgspec.inspect.StructType, msgspec.inspect.DataclassType, msgspec.inspect.TypedDictType)


def _struct(name: str, fields: list[tuple[str, Any, bool]], *, array_like: bool = False) -> Any:
    """A Struct of (name, type, whether it may be left out)."""
    members: list[Any] = [
        (field, Union[kind, msgspec.UnsetType], msgspec.UNSET) if optional else (field, kind)  # noqa: UP007
        for field, kind, optional in fields
    ]
    return msgspec.defstruct(name, members, forbid_unknown_fields=True, array_like=array_like)


def _check_distinct(contract: Contract) -> None:
    taken: dict[str, Method] = {}
    for each in contract.methods.values():
        for wire_name in {each.request_class, each.alias}:
            other = taken.setdefault(wire_name, each)
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


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"a {what} has a name that is not empty")
    if len(name.encode()) > MAX_SHORT_STRING or any(ord(c) < 32 for c in name):
        raise ValueError(f"the {what} name {name[:40]!r} is not at most {MAX_SHORT_STRING} printable bytes")
