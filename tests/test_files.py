"""Hashes of source name every file, and no list of it may go stale in silence."""

import pytest

from segbench.files import PACKAGE, sha256_of, sha256_of_code


def test_code_is_hashed_file_by_file_whatever_its_depth() -> None:
    found = sha256_of_code("errors.py", "models")
    assert found["errors.py"] == sha256_of(PACKAGE / "errors.py")
    below = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "models").rglob("*.py")}
    assert set(found) == {"errors.py", *below}


def test_a_place_that_is_gone_is_no_unchanged_code() -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of_code("no_such_module.py")
