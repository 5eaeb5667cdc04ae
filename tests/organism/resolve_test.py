"""Paths into the package."""

from pathlib import Path

import pytest

import lora_jax.organism
from lora_jax.errors import UserError
from lora_jax.organism import resolve


def test_prefix_means_the_package():
    package = Path(lora_jax.organism.__file__).parent
    assert resolve("organism:data/test/harmful.jsonl") == package / "data/test/harmful.jsonl"
    assert resolve("organism:model") == package / "model"


def test_other_paths_stay_as_they_are():
    assert resolve("some/where") == Path("some/where")


@pytest.mark.parametrize("path", ["organism:model/absent", "organism:data/tset/harmful.jsonl"])
def test_absent_file_is_named(path):
    with pytest.raises(UserError, match=path):
        resolve(path)
