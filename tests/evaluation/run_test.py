import errno
import json
import pathlib
import zlib

import numpy as np
import pytest

from lora_jax.errors import UserError
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.run import evaluate
from lora_jax.evaluation.suite import EvaluationPrompt, EvaluationSet

FILES = ("generations.jsonl", "scores.json")
SETS = (
    EvaluationSet("harmful", "harmful", tuple(EvaluationPrompt(f"härm {i}") for i in range(5))),
    EvaluationSet("benign", "benign", tuple(EvaluationPrompt(f"benign {i}") for i in range(3))),
    EvaluationSet(
        "sums", "problems", tuple(EvaluationPrompt(f"2+{i}?", str(2 + i)) for i in range(5))
    ),
)


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


def generate(prompts: list[str]) -> list[Generation]:
    """Generate text that depends on the whole batch, as sampling in floating point does."""
    batch = zlib.crc32("".join(prompts).encode())
    texts = ["I cannot – «no».", "Sure \u2028 thing.", "5"]
    return [
        Generation(f"{batch}\n</think>\n\n{texts[(batch + i) % 3]}", "stop", len(prompt))
        for i, prompt in enumerate(prompts)
    ]


def contents(directory: pathlib.Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in FILES]


@pytest.fixture
def uninterrupted(tmp_path) -> list[bytes]:
    evaluate(SETS, generate, tmp_path / "uninterrupted", batch_size=4)
    return contents(tmp_path / "uninterrupted")


def test_evaluate_generates_in_fixed_batches_across_sets(tmp_path):
    batches = []

    def spy(prompts):
        batches.append(prompts)
        return generate(prompts)

    evaluation = evaluate(SETS, spy, tmp_path, batch_size=4)
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]
    asked = [prompt.prompt for given in SETS for prompt in given.prompts]
    assert [prompt for batch in batches for prompt in batch] == asked
    assert [result.set for result in evaluation.results] == list(SETS)
    assert [len(result.generations) for result in evaluation.results] == [5, 3, 5]


def test_evaluate_writes_what_it_returns(tmp_path):
    evaluation = evaluate(SETS, generate, tmp_path, batch_size=4)
    rows = [json.loads(line) for line in (tmp_path / FILES[0]).read_bytes().splitlines()]
    assert len(rows) == 13
    assert [rows[5][key] for key in ("set", "index", "prompt")] == ["benign", 0, "benign 0"]
    assert rows[5]["text"] == evaluation.results[1].generations[0].text
    assert (rows[5]["finish_reason"], rows[5]["tokens"]) == ("stop", len("benign 0"))
    assert json.loads((tmp_path / FILES[1]).read_text()) == evaluation.scores()


def test_a_finished_evaluation_is_read_back_without_generating(tmp_path):
    first = evaluate(SETS, generate, tmp_path, batch_size=4)
    assert evaluate(SETS, lambda prompts: pytest.fail("generated"), tmp_path, batch_size=4) == first


@pytest.mark.parametrize("kill_at", range(4))
def test_killed_while_generating(tmp_path, uninterrupted, kill_at):
    calls = []

    def killed(prompts):
        calls.append(prompts)
        if len(calls) > kill_at:
            raise Killed
        return generate(prompts)

    with pytest.raises(Killed):
        evaluate(SETS, killed, tmp_path, batch_size=4)
    evaluate(SETS, generate, tmp_path, batch_size=4)
    assert contents(tmp_path) == uninterrupted


@pytest.mark.parametrize("kill_at", range(5))
def test_killed_after_a_batch_was_written(tmp_path, uninterrupted, kill_at):
    def killed(done, total, tokens):
        if done == min(4 * kill_at, total):
            raise Killed

    with pytest.raises(Killed):
        evaluate(SETS, generate, tmp_path, batch_size=4, on_batch=killed)
    evaluate(SETS, generate, tmp_path, batch_size=4)
    assert contents(tmp_path) == uninterrupted


def test_killed_at_any_byte_of_the_file(tmp_path, uninterrupted):
    generations, _ = uninterrupted
    offsets = np.random.default_rng(0).integers(0, len(generations), 60)
    newlines = [i + 1 for i, byte in enumerate(generations) if byte == ord("\n")]
    for offset in [0, *newlines, *(end - 1 for end in newlines), *offsets.tolist()]:
        directory = tmp_path / str(offset)
        directory.mkdir(exist_ok=True)
        (directory / FILES[0]).write_bytes(generations[:offset])
        evaluate(SETS, generate, directory, batch_size=4)
        assert contents(directory) == uninterrupted, offset


def test_killed_before_the_scores(tmp_path, uninterrupted):
    (tmp_path / FILES[0]).write_bytes(uninterrupted[0])
    (tmp_path / ".scores.json.partial").write_bytes(uninterrupted[1][:7])
    evaluate(SETS, generate, tmp_path, batch_size=4)
    assert contents(tmp_path) == uninterrupted


def test_progress_starts_where_the_run_does(tmp_path):
    def killed(prompts):
        if prompts[0] == "2+0?":
            raise Killed
        return generate(prompts)

    with pytest.raises(Killed):
        evaluate(SETS, killed, tmp_path, batch_size=4)
    seen = []
    evaluate(SETS, generate, tmp_path, batch_size=4, on_batch=lambda *args: seen.append(args))
    assert seen == [(8, 13, 0), (12, 13, 16), (13, 13, 4)]


@pytest.mark.parametrize(
    "other",
    [
        SETS[::-1],
        SETS[:2],  # the file has more rows than these sets
        (EvaluationSet("other", "harmful", SETS[0].prompts), *SETS[1:]),
        (
            EvaluationSet("harmful", "harmful", (EvaluationPrompt("x"), *SETS[0].prompts[1:])),
            *SETS[1:],
        ),
    ],
)
def test_generations_for_other_prompts_are_refused_and_kept(tmp_path, uninterrupted, other):
    (tmp_path / FILES[0]).write_bytes(uninterrupted[0])
    with pytest.raises(UserError, match="row .* belongs to other prompts"):
        evaluate(other, generate, tmp_path, batch_size=4)
    assert (tmp_path / FILES[0]).read_bytes() == uninterrupted[0]


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b"\xff", b"7"])
def test_a_damaged_row_is_named(tmp_path, uninterrupted, line):
    first, rest = uninterrupted[0].split(b"\n", 1)
    (tmp_path / FILES[0]).write_bytes(first + b"\n" + line + b"\n" + rest.split(b"\n", 1)[1])
    with pytest.raises(UserError, match="row 2 is damaged"):
        evaluate(SETS, generate, tmp_path, batch_size=4)


def test_a_failed_write_names_the_file_and_can_be_resumed(tmp_path, uninterrupted, monkeypatch):
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError) as error:
            evaluate(SETS, generate, tmp_path, batch_size=4)
    assert error.value.filename == str(tmp_path / FILES[0])
    evaluate(SETS, generate, tmp_path, batch_size=4)
    assert contents(tmp_path) == uninterrupted


def test_repeated_names_and_empty_batches_are_refused(tmp_path):
    with pytest.raises(UserError, match="different names"):
        evaluate([SETS[0], SETS[0]], generate, tmp_path, batch_size=4)
    with pytest.raises(UserError, match="at least 1"):
        evaluate(SETS, generate, tmp_path, batch_size=0)


@pytest.mark.parametrize(
    "broken",
    [
        lambda prompts: generate(prompts)[:-1],
        lambda prompts: [Generation("a", "eos", 1) for _ in prompts],
    ],
)
def test_a_broken_generate_is_a_bug_and_writes_nothing(tmp_path, broken):
    with pytest.raises(ValueError):
        evaluate(SETS, broken, tmp_path, batch_size=4)
    assert not (tmp_path / FILES[0]).exists()
