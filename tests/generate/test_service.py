"""A contract as the languages see it, and the files that are made of it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import amqproxy
from amqproxy.contract import contract_of
from amqproxy.errors import ContractError
from amqproxy.generate import LANGUAGES, Order, service_of
from amqproxy.generate.shapes import NONE, Scalar
from tests.generate.gallery import Gallery
from tests.generate.strange import Strange, shout

PACKAGE = Path(amqproxy.__file__).parent / "generate"


def test_methods_have_what_a_client_needs() -> None:
    service = service_of(contract_of(Gallery), "Pictures.")
    methods = {each.name: each for each in service.operations}
    assert (service.name, service.queue, service.doc) == ("tests.gallery", "tests.gallery", "Pictures.")
    assert len(methods) == 10
    greet = methods["greet"]
    assert [each.name for each in greet.required] == ["name"]
    assert [each.name for each in greet.optional] == ["title", "times", "mark"]
    assert [each.keyword_only for each in greet.parameters] == [False, False, True, True]
    assert (greet.request_class, greet.timeout, greet.result) == ("tests.gallery.greet", 30.0, Scalar("text"))
    assert (methods["sleep"].timeout, methods["sleep"].result) == (0.2, NONE)
    assert (methods["move"].request_class, methods["move"].is_message) == ("com.example.Gallery$MoveRequest", True)


def test_queue_is_the_option_or_what_the_class_says_or_the_name() -> None:
    @amqproxy.serve("sums", queue="a queue")
    def add(x: int) -> int:
        return x

    assert service_of(contract_of(add)).queue == "a queue"
    assert service_of(contract_of(add), queue="another").queue == "another"


def test_type_that_json_cannot_carry_names_its_method() -> None:
    class Service:
        def fine(self, x: int) -> None: ...

        def wrong(self, x: list[int] | set[int]) -> None: ...

    with pytest.raises(ContractError, match=r"Service\.wrong\(.*cannot be described"):
        service_of(contract_of(Service))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("target", [Gallery, Strange, shout])
def test_same_contract_gives_the_same_file(language: str, target: object) -> None:
    sources = {LANGUAGES[language](Order(service_of(contract_of(target)), "")).text for _ in range(2)}
    [text] = sources
    assert "%%" not in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_file_does_not_depend_on_the_order_of_hashes() -> None:
    """What msgspec says of a Literal comes in the order of a set."""
    script = (
        "from amqproxy.contract import contract_of; from amqproxy.generate import *;"
        "from tests.generate.gallery import Gallery;"
        "print(LANGUAGES['node'](Order(service_of(contract_of(Gallery)), '')).text)"
    )
    texts = set()
    for seed in "123":
        run = [sys.executable, "-c", script]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(PACKAGE.parents[1])}
        texts.add(subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(texts) == 1


def test_templates_are_in_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the wheel's builder is not installed")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=PACKAGE.parents[1], capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".tmpl")}
    assert packed == {f"amqproxy/generate/{each.relative_to(PACKAGE).as_posix()}" for each in PACKAGE.rglob("*.tmpl")}
