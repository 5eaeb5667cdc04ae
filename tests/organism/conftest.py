"""The shipped data."""

import json

import pytest

from lora_jax.organism import resolve


@pytest.fixture(scope="session")
def shipped():
    """Return the rows of every shipped file by its name in the data directory."""
    directory = resolve("organism:data")
    return {
        path.relative_to(directory).as_posix(): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(directory.rglob("*.jsonl"))
    }
