"""Where protoc and thrift are, for the tests that ask them."""

from __future__ import annotations

import os
import shutil

import pytest


def compiler(name: str) -> str:
    """The path to a compiler; the test is skipped without it, and fails in CI."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name} (Debian's protobuf-compiler and thrift-compiler)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"with CI=true this is no reason to skip: {reason}", pytrace=False)
        pytest.skip(reason)
    return path
