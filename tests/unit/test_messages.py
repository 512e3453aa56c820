"""Message classes: in which form they are, and by which names they go, in Java as protoc would have it."""

from __future__ import annotations

import enum
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

import msgspec
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from amqproxy.messages import (
    check_name,
    class_name,
    form_of,
    java_name,
    message,
    message_name,
    naming,
    new_message,
)
from tests.idl import closed_pb2 as closed
from tests.idl import kinds_pb2 as kinds
from tests.idl.compilers import compiler
from tests.idl.kinds_thrift import ttypes as thrifty
from tests.idl.person_pb2 import Person

Edit = Callable[[FileDescriptorProto], object]


def message_names(kind: object) -> tuple[str, ...]:
    """All names, each once, the one that is sent first."""
    return tuple(dict.fromkeys(naming(kind).values()))


def with_enum(file: FileDescriptorProto | DescriptorProto, name: str) -> None:
    file.enum_type.add(name=name).value.add(name=f"{name}_NONE", number=0)


def with_field(message: DescriptorProto, name: str) -> None:
    message.field.add(name=name, number=1, type=5, label=1)


# The file's name, what else is in it beside the messages Person and Person.Address, and the class of Person in Java.
# The classes are what protoc 3.21 makes; where it is there, a test below compares them again.
FILES: list[tuple[str, Edit, str]] = [
    ("people.proto", lambda file: None, "a.b.People$Person"),
    ("x/y/people.proto", lambda file: None, "a.b.People$Person"),
    ("my_own_people.proto", lambda file: None, "a.b.MyOwnPeople$Person"),
    ("my-own-people.proto", lambda file: None, "a.b.MyOwnPeople$Person"),
    ("my.own.people.proto", lambda file: None, "a.b.MyOwnPeople$Person"),
    ("my own$people.proto", lambda file: None, "a.b.MyOwnPeople$Person"),
    ("people2go.proto", lambda file: None, "a.b.People2Go$Person"),
    ("people_2_go.proto", lambda file: None, "a.b.People2Go$Person"),
    ("2people.proto", lambda file: None, "a.b.2People$Person"),
    ("PEOPLE_OF_ALL.proto", lambda file: None, "a.b.PEOPLEOFALL$Person"),
    ("peopleOfAll.proto", lambda file: None, "a.b.PeopleOfAll$Person"),
    ("_people_.proto", lambda file: None, "a.b.People$Person"),
    ("people__all.proto", lambda file: None, "a.b.PeopleAll$Person"),
    ("people", lambda file: None, "a.b.People$Person"),
    ("people.protodevel", lambda file: None, "a.b.People$Person"),
    ("people.protodevel.proto", lambda file: None, "a.b.PeopleProtodevel$Person"),
    # A name that is taken
    ("person.proto", lambda file: None, "a.b.PersonOuterClass$Person"),
    ("address.proto", lambda file: None, "a.b.AddressOuterClass$Person"),
    ("street.proto", lambda file: None, "a.b.StreetOuterClass$Person"),
    ("other.proto", lambda file: file.message_type.add(name="Other"), "a.b.OtherOuterClass$Person"),
    ("colour.proto", lambda file: with_enum(file, "Colour"), "a.b.ColourOuterClass$Person"),
    ("colour.proto", lambda file: with_enum(file.message_type[0], "Colour"), "a.b.ColourOuterClass$Person"),
    (
        "colour.proto",
        lambda file: with_enum(file.message_type[0].nested_type[0], "Colour"),
        "a.b.ColourOuterClass$Person",
    ),
    ("search.proto", lambda file: file.service.add(name="Search"), "a.b.SearchOuterClass$Person"),
    ("people.proto", lambda file: file.message_type.add(name="PEOPLE"), "a.b.People$Person"),
    ("people.proto", lambda file: with_field(file.message_type[0], "People"), "a.b.People$Person"),
    # Options
    ("people.proto", lambda file: setattr(file.options, "java_package", "c.d"), "c.d.People$Person"),
    ("people.proto", lambda file: setattr(file.options, "java_package", ""), "People$Person"),
    ("people.proto", lambda file: file.ClearField("package"), "People$Person"),
    ("people.proto", lambda file: setattr(file.options, "java_outer_classname", "Outer"), "a.b.Outer$Person"),
    ("person.proto", lambda file: setattr(file.options, "java_outer_classname", "Outer"), "a.b.Outer$Person"),
    ("people.proto", lambda file: setattr(file.options, "java_multiple_files", False), "a.b.People$Person"),
    ("people.proto", lambda file: setattr(file.options, "java_multiple_files", True), "a.b.Person"),
    ("person.proto", lambda file: setattr(file.options, "java_multiple_files", True), "a.b.Person"),
    (
        "people.proto",
        lambda file: file.options.MergeFrom(type(file.options)(java_multiple_files=True, java_outer_classname="Outer")),
        "a.b.Person",
    ),
    (
        "people.proto",
        lambda file: file.options.MergeFrom(type(file.options)(java_multiple_files=True, java_package="c.d")),
        "c.d.Person",
    ),
    (
        "people.proto",
        lambda file: file.options.MergeFrom(type(file.options)(java_multiple_files=True, java_package="")),
        "Person",
    ),
]
every_file = pytest.mark.parametrize(
    ("name", "edit", "expected"), FILES, ids=[f"{number} {name}" for number, (name, _, _) in enumerate(FILES)]
)


def file_of(name: str, edit: Edit) -> FileDescriptorProto:
    file = FileDescriptorProto(name=name, package="a.b", syntax="proto3")
    address = file.message_type.add(name="Person").nested_type.add(name="Address")
    address.nested_type.add(name="Street")
    edit(file)
    return file


@every_file
def test_the_name_in_java_is_that_of_the_class_that_protoc_makes(name: str, edit: Edit, expected: str) -> None:
    file = file_of(name, edit)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    package = f"{file.package}." if file.package else ""
    person = pool.FindMessageTypeByName(f"{package}Person")
    assert java_name(person) == expected
    assert java_name(person.nested_types[0]) == f"{expected}$Address"
    assert java_name(person.nested_types[0].nested_types[0]) == f"{expected}$Address$Street"
    assert message_names(GetMessageClass(person)) == tuple(dict.fromkeys((expected, f"{package}Person")))


@every_file
def test_protoc_makes_that_class(name: str, edit: Edit, expected: str, tmp_path: Path) -> None:
    described = tmp_path / "files"
    described.write_bytes(FileDescriptorSet(file=[file_of(name, edit)]).SerializeToString())
    java = tmp_path / "java"
    java.mkdir()
    command = [compiler("protoc"), f"--descriptor_set_in={described}", f"--java_out={java}", name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    outermost, *inner = expected.split("$")
    source = (java / f"{outermost.replace('.', '/')}.java").read_text()
    package, _, around = outermost.rpartition(".")
    assert re.search(r"^package (.*);$", source, re.MULTILINE) is not None if package else "\npackage " not in source
    assert not package or f"\npackage {package};\n" in source
    assert re.search(rf"^public +final class {around}\b", source, re.MULTILINE)
    for nested in (*inner, "Address", "Street"):
        assert re.search(rf"^ +public static final class {nested} ", source, re.MULTILINE)


def test_generated_classes_go_by_their_name_in_java_and_by_their_own() -> None:
    assert message_names(Person) == (
        "com.github.sstone.amqp.proxy.gpbtest.Gpbtest$Person",  # as the original's tests have it
        "com.github.sstone.amqp.proxy.gpbtest.Person",
    )
    assert message_names(kinds.Kinds.Inner.Deep) == (
        "org.amqproxy.kinds.Kinds$Inner$Deep",
        "amqproxy.kinds.Kinds.Inner.Deep",
    )
    assert message_names(closed.Order.Part)[0] == "amqproxy.closed.Closed$Order$Part"
    assert message_names(Timestamp) == ("com.google.protobuf.Timestamp", "google.protobuf.Timestamp")
    assert message_name(Timestamp) == "com.google.protobuf.Timestamp"


def test_structs_of_thrift_are_called_as_their_class_unless_they_are_told() -> None:
    assert message_names(thrifty.Item) == ("tests.idl.kinds_thrift.ttypes.Item",)
    told = message("com.example.Told")(type("Told", (thrifty.Loose,), {}))
    assert message_names(told) == ("com.example.Told",)
    assert message_names(type("Untold", (told,), {})) == (f"{__name__}.Untold",)


def generated(full_name: str) -> Any:
    """A class of protobuf of this test's own, since a name that it is given stays."""
    package, _, name = full_name.rpartition(".")
    file = FileDescriptorProto(name=f"{name}_file.proto", package=package, syntax="proto3")
    made = file.message_type.add(name=name)
    for place, field in enumerate(("first", "second", "third"), 1):
        made.field.add(name=field, number=place, type=5, label=1)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(full_name))


def test_a_name_that_is_given_comes_first_and_the_others_stay_known() -> None:
    kind = generated("a.Told")
    assert message("com.example.Told")(kind) is kind
    assert message_names(kind) == ("com.example.Told", "a.ToldFile$Told", "a.Told")
    assert message_name(kind) == "com.example.Told"
    message("a.Told")(kind)
    assert message_names(kind) == ("a.Told", "a.ToldFile$Told")
    message()(kind)
    assert message_names(kind) == ("a.ToldFile$Told", "a.Told")


def test_what_is_decorated_is_called_by_its_module_and_its_place_unless_it_is_told() -> None:
    @message
    class Bare:
        @message()
        class Inner:
            pass

    @message("com.example.Told")
    @dataclass
    class Told:
        pass

    here = f"{__name__}.test_what_is_decorated_is_called_by_its_module_and_its_place_unless_it_is_told"
    assert message_names(Bare) == (f"{here}$Bare",)
    assert message_names(Bare.Inner) == (f"{here}$Bare$Inner",) == (class_name(Bare.Inner),)
    assert message_names(Told) == ("com.example.Told",)


def test_a_subclass_is_not_its_parents_message() -> None:
    @message("com.example.Parent")
    class Parent:
        pass

    class Child(Parent):
        pass

    assert message_names(Child) == ()
    assert message_name(Child) is None
    assert message_name(message("com.example.Child")(Child)) == "com.example.Child"
    assert message_name(Parent) == "com.example.Parent"


class Described:
    DESCRIPTOR = "not of protobuf"


class Serializable:
    def SerializeToString(self) -> bytes:
        raise NotImplementedError


class Readable:
    thrift_spec = ()

    def read(self, protocol: Any) -> None:
        raise NotImplementedError


ODD: list[Any] = [
    *(None, 5, "amqproxy.kinds.Plain", b"", object(), ..., int, str, dict, object, type, list[int], dict[str, Any]),
    *(int | None, list[kinds.Plain], kinds.Plain | None, Any, NewType("UserId", int), enum.Enum, lambda: None),
    *(kinds.Plain(), thrifty.Item(1), kinds.Colour, thrifty.Colour, kinds, thrifty),
    *(Described, Serializable, Readable, msgspec.Struct),
]


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_generated_class_is_plain_and_no_message(kind: Any) -> None:
    assert form_of(kind) == "plain"
    assert message_names(kind) == ()
    assert message_name(kind) is None


def test_generated_classes_tell_their_form() -> None:
    assert form_of(kinds.Plain) == form_of(kinds.Kinds.Inner) == form_of(Timestamp) == "protobuf"
    assert form_of(thrifty.Item) == form_of(thrifty.Choice) == form_of(thrifty.Refused) == "thrift"


def test_the_class_of_all_messages_is_no_message() -> None:
    """It has a descriptor of None: a parameter of this type can be read by nobody."""
    assert form_of(Message) == "plain"
    assert message_names(Message) == ()


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "a\nb", "a\0", "\x1f", 5, b"bytes"])
def test_names_that_cannot_travel_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        message(name)
    with pytest.raises(ValueError, match="message class"):
        check_name("message class", name)


@pytest.mark.parametrize("name", ["x", "x" * 255, "ü" * 127, "a.b$c", "with space", "日本"])
def test_names_that_can_travel_are_taken(name: str) -> None:
    check_name("message class", name)
    assert message_name(message(name)(type("Told", (), {}))) == name


def test_a_class_whose_own_name_is_too_long_is_refused_where_it_is_marked() -> None:
    with pytest.raises(ValueError, match="not at most 255 printable bytes"):
        message(type("x" * 255, (), {}))


# Messages made of their fields


def test_a_message_is_made_of_its_fields_by_position_and_by_name() -> None:
    kind = generated("a.Three")
    expected = kind(first=1, second=2, third=3)
    for args, kwargs in (
        ((), {"first": 1, "second": 2, "third": 3}),
        ((1, 2, 3), {}),
        ((1,), {"third": 3, "second": 2}),
    ):
        assert new_message(kind, args, kwargs) == expected
    assert new_message(kind, (), {}) == kind()
    assert new_message(thrifty.Item, (1,), {"name": "pen"}) == thrifty.Item(1, "pen")
    assert new_message(Person, (5, "Ada"), {}) == Person(id=5, name="Ada")


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1, 2, 3, 4), {}, "Wrong has 3 fields, but 4 were given"),
        ((1,), {"first": 2}, "Wrong got multiple values for 'first'"),
        ((1, 2), {"third": 3, "second": 4, "first": 5}, "Wrong got multiple values for 'first'"),
        ((1,), {"nope": 2}, "nope"),
        ((), {"nope": 2}, "nope"),
        (("x",), {}, None),
        ((2**31,), {}, None),
        ((1.5,), {}, None),
        (({},), {}, None),
    ],
)
def test_fields_that_do_not_fit_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any], text: str | None) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        new_message(generated("a.Wrong"), args, kwargs)


@pytest.mark.parametrize(
    "other", [kinds.Plain(), kinds.Kinds.Inner(), thrifty.Item(1)], ids=lambda one: type(one).__name__
)
def test_a_message_of_another_class_is_not_taken_for_a_field(other: Any) -> None:
    for kind in (kinds.Kinds, kinds.Scalars, kinds.Empty):
        with pytest.raises(TypeError, match=type(other).__name__):
            new_message(kind, (other,), {})


def test_a_message_of_the_class_of_the_first_field_is_that_field() -> None:
    assert new_message(kinds.Kinds, (kinds.Scalars(an_int32=5),), {}) == kinds.Kinds(scalars={"an_int32": 5})


def test_fields_of_a_struct_that_do_not_fit_are_refused() -> None:
    for args, kwargs in (((1, "a", 1, 1), {}), ((1,), {"id": 2}), ((), {"nope": 1})):
        with pytest.raises(TypeError):
            new_message(thrifty.Item, args, kwargs)
