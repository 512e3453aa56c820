"""The code that protoc and Thrift generated is what they generate from the files beside it today."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.idl.compilers import compiler

ROOT = Path(__file__).parent.parent
FOLDERS = (Path("examples"), Path("tests/idl"))
VERSIONS = {"protoc": r"libprotoc 3\.21\.", "thrift": r"Thrift version 0\.17\."}
"""Those that made what is here: from others only the meaning of their output can be compared."""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where everything was generated anew."""
    for name in VERSIONS:
        compiler(name)
    folder = tmp_path_factory.mktemp("idl")
    command = ["sh", str(ROOT / "tests/generate_idl.sh"), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return folder


def files(root: Path) -> set[Path]:
    found = {
        path
        for folder in FOLDERS
        for pattern in ("*_pb2.py*", "*_thrift/*.py")
        for path in (root / folder).glob(pattern)
    }
    return {path.relative_to(root) for path in found}


def is_the_same_version(name: str) -> bool:
    told = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
    return re.match(VERSIONS[name], told) is not None


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"generated_{path.stem}_{abs(hash(path))}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(path: Path) -> FileDescriptorProto:
    """What a generated module tells protobuf of its file: not by loading it, for its names are taken."""
    serialized = re.search(r"AddSerializedFile\((b'(?:[^'\\]|\\.)*')\)", path.read_text())
    assert serialized is not None, path
    return FileDescriptorProto.FromString(eval(serialized[1], {"__builtins__": {}}))


def specs(module: ModuleType) -> dict[str, Any]:
    """The fields of each struct, with classes by their names."""

    def plain(part: Any) -> Any:
        if isinstance(part, list):  # of a class and its fields, which may hold the same class
            return part[0].__name__
        if isinstance(part, tuple):
            return [plain(one) for one in part]
        return part

    return {name: plain(kind.thrift_spec) for name, kind in vars(module).items() if hasattr(kind, "thrift_spec")}


def test_exactly_the_files_that_are_here_are_generated(generated: Path) -> None:
    assert files(generated) == files(ROOT)
    assert len(files(ROOT)) > 10


def test_what_is_generated_is_what_is_here(generated: Path) -> None:
    same = {name: is_the_same_version(name) for name in VERSIONS}
    for path in sorted(files(ROOT)):
        here, there = ROOT / path, generated / path
        if same["protoc" if "_pb2" in path.name else "thrift"]:
            assert here.read_text() == there.read_text(), f"{path}: run sh tests/generate_idl.sh"
        elif path.name.endswith("_pb2.py"):
            assert described(here) == described(there), f"{path}: run sh tests/generate_idl.sh"
        elif path.name == "ttypes.py":
            assert specs(loaded(here)) == specs(loaded(there)), f"{path}: run sh tests/generate_idl.sh"


def test_each_source_has_its_code_here() -> None:
    """Also where neither compiler is installed."""
    for source in (*ROOT.glob("proto/*.proto"), *ROOT.glob("tests/idl/*.proto")):
        assert any((ROOT / folder / f"{source.stem}_pb2.py").exists() for folder in FOLDERS), source.name
    for source in (*ROOT.glob("thrift/*.thrift"), *ROOT.glob("tests/idl/*.thrift")):
        assert any((ROOT / folder / f"{source.stem}_thrift/ttypes.py").exists() for folder in FOLDERS), source.name


def test_the_meaning_of_generated_code_can_be_compared() -> None:
    """What other versions of the compilers make is compared so; here, with itself."""
    for path in files(ROOT):
        if path.name.endswith("_pb2.py"):
            assert described(ROOT / path).message_type
        elif path.name == "ttypes.py":
            assert any(specs(loaded(ROOT / path)).values())
    assert "generated_" not in " ".join(sys.modules)
