"""The search finds what a count through all batches would, and asks for few of them."""

import dataclasses

import pytest

from lora_jax.planning.batch_search import PRECISION, largest_batch


@dataclasses.dataclass
class Point:
    batch_size: int
    fits: bool
    used: int


class Compiler:
    """Tell a step's memory as a function of its batch."""

    def __init__(self, memory, limit):
        self.memory, self.limit, self.asked = memory, limit, []

    def __call__(self, batch_size):
        self.asked.append(batch_size)
        used = self.memory(batch_size)
        return Point(batch_size, used <= self.limit, used)


LINES = {
    "a line": lambda batch: 1000 + 37 * batch,
    "a line above a constant": lambda batch: 4000 + 37 * batch,
    "a curve": lambda batch: 1000 + 3 * batch**1.3,
    "steps": lambda batch: 1000 + 37 * (batch // 16 * 16),
    "flat, then a line": lambda batch: 2000 + max(0, batch - 64) * 50,
}


@pytest.mark.parametrize("ways", [1, 8])
@pytest.mark.parametrize("start", [8, 48, 4096])
@pytest.mark.parametrize("name", LINES)
def test_it_finds_the_largest(name, start, ways):
    compiler = Compiler(LINES[name], 9_000)
    found = largest_batch(compiler(start), compiler, ways=ways, fixed=1000, limit=9_000)
    assert found.batch_size % ways == 0
    apart = max(ways, int(found.batch_size * PRECISION))
    assert compiler.memory(found.batch_size) <= 9_000 < compiler.memory(found.batch_size + apart)
    assert len(compiler.asked) == len(set(compiler.asked))


@pytest.mark.parametrize("start", [8, 64, 800])
def test_a_line_takes_few_compilations(start):
    compiler = Compiler(LINES["a line above a constant"], 9_000)
    largest_batch(compiler(start), compiler, ways=8, fixed=1000, limit=9_000)
    assert len(compiler.asked) <= 5


def test_none_fits():
    compiler = Compiler(lambda batch: 10_000 + batch, 9_000)
    assert largest_batch(compiler(64), compiler, ways=8, fixed=1000, limit=9_000) is None
    assert 8 in compiler.asked
