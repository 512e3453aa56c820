from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf.internal import python_message as _python_message
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
EXTENDED_ITEM_FIELD_NUMBER: _ClassVar[int]
EXTENDED_LEVELS_FIELD_NUMBER: _ClassVar[int]
EXTENDED_LEVEL_FIELD_NUMBER: _ClassVar[int]
HIGH: Level
LOW: Level
OFF: Mode
ON: Mode
extended_item: _descriptor.FieldDescriptor
extended_level: _descriptor.FieldDescriptor
extended_levels: _descriptor.FieldDescriptor

class Extensible(_message.Message):
    __slots__ = ["number"]
    EXTENDED_ITEM_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    Extensions: _python_message._ExtensionDict
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    extended_item: _descriptor.FieldDescriptor
    extended_level: _descriptor.FieldDescriptor
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ["id", "level", "name"]
    ID_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: int
    level: Level
    name: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., level: _Optional[_Union[Level, str]] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ["chosen_item", "chosen_level", "item", "item_by_name", "items", "levels", "mode_by_name", "number", "packed_levels", "parent", "part"]
    class ItemByNameEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Item
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...
    class ModeByNameEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Mode
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Mode, str]] = ...) -> None: ...
    class Part(_message.Message):
        __slots__ = ["item", "level"]
        ITEM_FIELD_NUMBER: _ClassVar[int]
        LEVEL_FIELD_NUMBER: _ClassVar[int]
        item: Item
        level: Level
        def __init__(self, level: _Optional[_Union[Level, str]] = ..., item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...
    CHOSEN_ITEM_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_LEVEL_FIELD_NUMBER: _ClassVar[int]
    Extensions: _python_message._ExtensionDict
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ITEM_BY_NAME_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    MODE_BY_NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PACKED_LEVELS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    chosen_item: Item
    chosen_level: Level
    item: Item
    item_by_name: _containers.MessageMap[str, Item]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    levels: _containers.RepeatedScalarFieldContainer[Level]
    mode_by_name: _containers.ScalarMap[str, Mode]
    number: str
    packed_levels: _containers.RepeatedScalarFieldContainer[Level]
    parent: Order
    part: Order.Part
    def __init__(self, number: _Optional[str] = ..., item: _Optional[_Union[Item, _Mapping]] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., item_by_name: _Optional[_Mapping[str, Item]] = ..., chosen_item: _Optional[_Union[Item, _Mapping]] = ..., chosen_level: _Optional[_Union[Level, str]] = ..., part: _Optional[_Union[Order.Part, _Mapping]] = ..., parent: _Optional[_Union[Order, _Mapping]] = ..., levels: _Optional[_Iterable[_Union[Level, str]]] = ..., packed_levels: _Optional[_Iterable[_Union[Level, str]]] = ..., mode_by_name: _Optional[_Mapping[str, Mode]] = ...) -> None: ...

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
