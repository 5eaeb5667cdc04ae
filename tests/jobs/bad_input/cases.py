"""Ways to spoil a run that would succeed, and what the one sentence about each has to name."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import ml_collections
from safetensors.numpy import load_file, save_file

import main


@dataclasses.dataclass
class Case:
    """A way to spoil a run, and what the sentence must name."""

    spoil: Callable
    expected: tuple[str, ...]


CASES: dict[str, Case] = {}


def case(*expected: str):
    """Take a function that spoils a site as a case, named by the function."""

    def register(spoil):
        CASES[spoil.__name__] = Case(spoil, expected)
        return spoil

    return register


def edit_json(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_row(path: pathlib.Path, number: int, edit: Callable[[str], str]) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = edit(lines[number - 1])
    path.write_text("\n".join(lines) + "\n")


def edit_field(path: pathlib.Path, number: int, field: str, value: str | None) -> None:
    def edit(line: str) -> str:
        row = json.loads(line) | {field: value}
        return json.dumps({name: text for name, text in row.items() if text is not None})

    edit_row(path, number, edit)


def edit_tensors(path: pathlib.Path, edit: Callable[[dict], None]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def good_config(site) -> ml_collections.ConfigDict:
    """Return the config that the site has before it is spoilt."""
    return main._parse(site.arguments)[1]


def snapshot(directory: pathlib.Path) -> dict[str, bytes]:
    """Return every file's content; a lock's file says only who held it last."""
    return {
        str(path): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def assert_one_sentence(code: int, out: str, err: str, *expected: str) -> None:
    assert code == 2, err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in out + err
    for fragment in expected:
        assert fragment in err, (fragment, err)
