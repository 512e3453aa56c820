from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

BLUE: Colour
DESCRIPTOR: _descriptor.FileDescriptor
NONE: Colour
RED: Colour

class Empty(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class Kinds(_message.Message):
    __slots__ = ["by_number", "by_text", "by_truth", "chosen_colour", "chosen_inner", "chosen_number", "chosen_text", "chunks", "colour_by_text", "colours", "inner", "many_scalars", "maybe_colour", "maybe_number", "maybe_text", "numbers", "scalars", "scalars_by_number", "texts", "unpacked"]
    class ByNumberEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class ByTextEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByTruthEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: bool
        value: bytes
        def __init__(self, key: bool = ..., value: _Optional[bytes] = ...) -> None: ...
    class ColourByTextEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Colour
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Colour, str]] = ...) -> None: ...
    class Inner(_message.Message):
        __slots__ = ["deep"]
        class Deep(_message.Message):
            __slots__ = ["colour"]
            COLOUR_FIELD_NUMBER: _ClassVar[int]
            colour: Colour
            def __init__(self, colour: _Optional[_Union[Colour, str]] = ...) -> None: ...
        DEEP_FIELD_NUMBER: _ClassVar[int]
        deep: Kinds.Inner.Deep
        def __init__(self, deep: _Optional[_Union[Kinds.Inner.Deep, _Mapping]] = ...) -> None: ...
    class ScalarsByNumberEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Scalars
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Scalars, _Mapping]] = ...) -> None: ...
    BY_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BY_TEXT_FIELD_NUMBER: _ClassVar[int]
    BY_TRUTH_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_COLOUR_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_INNER_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_TEXT_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    COLOUR_BY_TEXT_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    MANY_SCALARS_FIELD_NUMBER: _ClassVar[int]
    MAYBE_COLOUR_FIELD_NUMBER: _ClassVar[int]
    MAYBE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MAYBE_TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_BY_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    UNPACKED_FIELD_NUMBER: _ClassVar[int]
    by_number: _containers.ScalarMap[int, str]
    by_text: _containers.ScalarMap[str, int]
    by_truth: _containers.ScalarMap[bool, bytes]
    chosen_colour: Colour
    chosen_inner: Kinds.Inner
    chosen_number: int
    chosen_text: str
    chunks: _containers.RepeatedScalarFieldContainer[bytes]
    colour_by_text: _containers.ScalarMap[str, Colour]
    colours: _containers.RepeatedScalarFieldContainer[Colour]
    inner: Kinds.Inner
    many_scalars: _containers.RepeatedCompositeFieldContainer[Scalars]
    maybe_colour: Colour
    maybe_number: int
    maybe_text: str
    numbers: _containers.RepeatedScalarFieldContainer[int]
    scalars: Scalars
    scalars_by_number: _containers.MessageMap[int, Scalars]
    texts: _containers.RepeatedScalarFieldContainer[str]
    unpacked: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, scalars: _Optional[_Union[Scalars, _Mapping]] = ..., many_scalars: _Optional[_Iterable[_Union[Scalars, _Mapping]]] = ..., numbers: _Optional[_Iterable[int]] = ..., unpacked: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ..., chunks: _Optional[_Iterable[bytes]] = ..., colours: _Optional[_Iterable[_Union[Colour, str]]] = ..., by_text: _Optional[_Mapping[str, int]] = ..., by_number: _Optional[_Mapping[int, str]] = ..., by_truth: _Optional[_Mapping[bool, bytes]] = ..., colour_by_text: _Optional[_Mapping[str, Colour]] = ..., scalars_by_number: _Optional[_Mapping[int, Scalars]] = ..., maybe_number: _Optional[int] = ..., maybe_text: _Optional[str] = ..., maybe_colour: _Optional[_Union[Colour, str]] = ..., chosen_text: _Optional[str] = ..., chosen_number: _Optional[int] = ..., chosen_colour: _Optional[_Union[Colour, str]] = ..., chosen_inner: _Optional[_Union[Kinds.Inner, _Mapping]] = ..., inner: _Optional[_Union[Kinds.Inner, _Mapping]] = ...) -> None: ...

class Plain(_message.Message):
    __slots__ = ["number"]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Scalars(_message.Message):
    __slots__ = ["a_bool", "a_colour", "a_double", "a_fixed32", "a_fixed64", "a_float", "a_sfixed32", "a_sfixed64", "a_sint32", "a_sint64", "a_string", "a_uint32", "a_uint64", "an_int32", "an_int64", "some_bytes"]
    AN_INT32_FIELD_NUMBER: _ClassVar[int]
    AN_INT64_FIELD_NUMBER: _ClassVar[int]
    A_BOOL_FIELD_NUMBER: _ClassVar[int]
    A_COLOUR_FIELD_NUMBER: _ClassVar[int]
    A_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    A_FIXED32_FIELD_NUMBER: _ClassVar[int]
    A_FIXED64_FIELD_NUMBER: _ClassVar[int]
    A_FLOAT_FIELD_NUMBER: _ClassVar[int]
    A_SFIXED32_FIELD_NUMBER: _ClassVar[int]
    A_SFIXED64_FIELD_NUMBER: _ClassVar[int]
    A_SINT32_FIELD_NUMBER: _ClassVar[int]
    A_SINT64_FIELD_NUMBER: _ClassVar[int]
    A_STRING_FIELD_NUMBER: _ClassVar[int]
    A_UINT32_FIELD_NUMBER: _ClassVar[int]
    A_UINT64_FIELD_NUMBER: _ClassVar[int]
    SOME_BYTES_FIELD_NUMBER: _ClassVar[int]
    a_bool: bool
    a_colour: Colour
    a_double: float
    a_fixed32: int
    a_fixed64: int
    a_float: float
    a_sfixed32: int
    a_sfixed64: int
    a_sint32: int
    a_sint64: int
    a_string: str
    a_uint32: int
    a_uint64: int
    an_int32: int
    an_int64: int
    some_bytes: bytes
    def __init__(self, a_double: _Optional[float] = ..., a_float: _Optional[float] = ..., an_int32: _Optional[int] = ..., an_int64: _Optional[int] = ..., a_uint32: _Optional[int] = ..., a_uint64: _Optional[int] = ..., a_sint32: _Optional[int] = ..., a_sint64: _Optional[int] = ..., a_fixed32: _Optional[int] = ..., a_fixed64: _Optional[int] = ..., a_sfixed32: _Optional[int] = ..., a_sfixed64: _Optional[int] = ..., a_bool: bool = ..., a_string: _Optional[str] = ..., some_bytes: _Optional[bytes] = ..., a_colour: _Optional[_Union[Colour, str]] = ...) -> None: ...

class Tree(_message.Message):
    __slots__ = ["by_name", "children", "left", "value"]
    class ByNameEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tree
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tree, _Mapping]] = ...) -> None: ...
    BY_NAME_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    by_name: _containers.MessageMap[str, Tree]
    children: _containers.RepeatedCompositeFieldContainer[Tree]
    left: Tree
    value: int
    def __init__(self, value: _Optional[int] = ..., left: _Optional[_Union[Tree, _Mapping]] = ..., children: _Optional[_Iterable[_Union[Tree, _Mapping]]] = ..., by_name: _Optional[_Mapping[str, Tree]] = ...) -> None: ...

class Colour(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
