"""What a compiled program does, read from its HLO text: matrix products, and what chips exchange."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|branch_computations|true_computation|false_computation)"
    r"=\{?((?:%?[\w.\-]+(?:, )?)+)"
)
_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Sum up one kind of exchange between chips, in one run of the program.

    Attributes:
        count: How often a chip takes part.
        size: Bytes of the results, on one chip.
    """

    count: int
    size: int


class Program:
    """Count what a compiled program does on one chip, loops as often as they run.

    The compiler's own cost analysis counts a loop's body once, and the layers are a loop.
    """

    def __init__(self, text: str):
        """Take the text of the optimised HLO."""
        self._computations = dict(_computations(text))
        self._callers: dict[str, list[tuple[str, int | None]]] = collections.defaultdict(list)
        for name, instructions in self._computations.items():
            for one in instructions.values():
                trips = self._trips(one) if one.opcode == "while" else 1
                for called in one.called:
                    self._callers[called].append((name, trips))
        self._known = all(trips for callers in self._callers.values() for _, trips in callers)

    @property
    def complete(self) -> bool:
        """Return whether nothing escapes the count: a loop of unknown length, a hand-made kernel."""
        kernels = (
            one for one in self._all() if "tpu_custom_call" in one.rest or "fmha" in one.rest
        )
        return self._known and next(kernels, None) is None

    @functools.cached_property
    def flops(self) -> int:
        """Return the FLOPs of all matrix products."""
        total = 0
        for name, instructions in self._computations.items():
            work = sum(_product_flops(one, instructions) for one in instructions.values())
            total += work * self._runs(name) if work else 0
        return total

    @functools.cached_property
    def collectives(self) -> dict[str, Collective]:
        """Return the exchanges between chips, by kind."""
        # The compiler may cut one exchange into pieces that overlap with other work; the pieces bear
        # the channel of the whole, and each is written with the whole's shape.
        channels: dict[tuple[str, str], tuple[int, int]] = {}
        for name, instructions in self._computations.items():
            for one in instructions.values():
                kind = one.opcode.removesuffix("-start")
                if kind in _COLLECTIVES:
                    channel = re.search(r"channel_id=(\d+)", one.rest)
                    key = (kind, channel[1] if channel else f"{name} {one.name}")
                    moved = (self._runs(name), _received(one, instructions))
                    channels[key] = max(channels.get(key, (0, 0)), moved)
        kinds: dict[str, Collective] = {}
        for (kind, _), (runs, size) in sorted(channels.items()):
            before = kinds.get(kind, Collective(0, 0))
            kinds[kind] = Collective(before.count + runs, before.size + runs * size)
        return kinds

    def _all(self) -> Iterator[_Instruction]:
        for instructions in self._computations.values():
            yield from instructions.values()

    @functools.cache  # noqa: B019 - as many entries as there are computations
    def _runs(self, name: str) -> int:
        """Return how often a computation runs; the entry has no caller and runs once."""
        callers = self._callers.get(name)
        if not callers:
            return 1
        return sum(self._runs(caller) * (trips or 1) for caller, trips in callers)

    def _trips(self, loop: _Instruction) -> int | None:
        """Return how often a loop runs, where that can be read."""
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(known[1])
        condition, body = (
            self._computations[re.search(rf"{part}=%?([\w.\-]+)", loop.rest)[1]]
            for part in ("condition", "body")
        )
        # A scan counts from 0 to its length, by as many as the compiler has unrolled.
        for one in condition.values():
            if one.opcode == "compare" and "direction=LT" in one.rest:
                counter, bound = (condition.get(name) for name in one.operands)
                end = bound.constant if bound else None
                step = _increment(body, counter.index) if counter else None
                if end is not None and step:
                    return math.ceil(end / step)
        return None


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """Hold one line of HLO.

    Attributes:
        name: Of the result.
        type: Of the result, as text.
        opcode: What is done.
        rest: Operands and attributes, as text.
    """

    name: str
    type: str
    opcode: str
    rest: str

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.partition(")")[0])

    @property
    def called(self) -> list[str]:
        return [
            name.strip().removeprefix("%")
            for _, names in _CALLED.findall(self.rest)
            for name in names.split(",")
        ]

    @property
    def constant(self) -> int | None:
        """Return the value of a whole number; None for anything else."""
        found = re.match(r"-?\d+\)", self.rest) if self.opcode == "constant" else None
        return int(found[0][:-1]) if found else None

    @property
    def index(self) -> int | None:
        """Return which element of a tuple is taken; None for anything else."""
        found = re.search(r"\bindex=(\d+)", self.rest)
        return int(found[1]) if found and self.opcode == "get-tuple-element" else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the result, or of the first of several."""
        return _arrays(self.type)[0][1]

    @property
    def size(self) -> int:
        """Return the bytes of the result, or of all results."""
        return sum(_bits(kind) * math.prod(shape) for kind, shape in _arrays(self.type)) // 8


_Computation = dict[str, _Instruction]


def _computations(text: str) -> Iterator[tuple[str, _Computation]]:
    """Split HLO into its computations."""
    name, instructions = None, {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name, instructions = header[1], {}
        elif line.startswith("}") and name is not None:
            yield name, instructions
            name = None
        elif found := _INSTRUCTION.match(line):
            instructions[found[1]] = _Instruction(*found.groups())


def _arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return element type and shape of every array in a type."""
    return [
        (kind, tuple(int(size) for size in sizes.split(",") if size))
        for kind, sizes in _ARRAY.findall(text)
    ]


def _bits(kind: str) -> int:
    number = re.search(r"\d+", kind)
    return int(number[0]) if number else 8 if kind == "pred" else 0


def _increment(body: _Computation, index: int | None) -> int | None:
    """Return by how much a loop's body raises one element of what it carries, where it can be read."""

    def above(name: str) -> int | None:
        """Return what is added to the element to make a value; None where it is made otherwise."""
        one = body.get(name)
        if one is None or one.index is not None:
            return 0 if one is not None and one.index == index else None
        if one.opcode == "copy":
            return above(one.operands[0])
        if one.opcode != "add":
            return None
        parts = [body[part].constant if part in body else None for part in one.operands]
        if parts.count(None) != 1:
            return None
        before = above(one.operands[parts.index(None)])
        return None if before is None else before + sum(filter(None, parts))

    results = [one for one in body.values() if one.opcode == "tuple"]
    return above(results[-1].operands[index]) if results and index is not None else None


def _received(one: _Instruction, around: _Computation) -> int:
    """Return the bytes of an exchange's result, without the operands that some results repeat."""
    if one.opcode in ("all-gather-start", "collective-permute-start"):
        return one.size - sum(around[name].size for name in one.operands if name in around)
    return one.size


def _product_flops(one: _Instruction, around: _Computation) -> int:
    """Return the FLOPs of a matrix product; 0 for anything else."""
    if one.opcode == "dot":
        contracted = around[one.operands[0]].shape
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)[1]
        inner = math.prod(contracted[int(axis)] for axis in axes.split(",") if axis)
        return 2 * math.prod(one.shape) * inner
    if one.opcode == "convolution":
        return _convolution_flops(one, around)
    if one.opcode == "custom-call" and "__cublas$" in one.rest:
        axes = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.rest)[1]
        contracted = around[one.operands[0]].shape
        inner = math.prod(contracted[int(axis)] for axis in re.findall(r"\d+", axes))
        return 2 * math.prod(one.shape) * inner
    return 0


def _convolution_flops(one: _Instruction, around: _Computation) -> int:
    """Return the FLOPs of a convolution, which is what a TPU makes of every matrix product.

    Batch dimensions of the product become spatial ones, dilated and padded such that most places of
    the window fall between the elements; these are no work.
    """
    inputs, kernel, outputs = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest).groups()
    lhs, rhs = (around[name].shape for name in one.operands[:2])
    window = dict(re.findall(r"(\w+)=([\w\-]+)", _window(one.rest)))
    spatial = [label for label in outputs if label.isdigit()]
    flops = 2 * one.shape[outputs.index("b")] * one.shape[outputs.index("f")]
    flops *= rhs[kernel.index("i")]
    for place, label in enumerate(spatial):
        flops *= _window_places(
            lhs[inputs.index(label)],
            rhs[kernel.index(label)],
            one.shape[outputs.index(label)],
            {name: value.split("x")[place] for name, value in window.items()},
        )
    return flops


def _window(rest: str) -> str:
    found = re.search(r"window=\{([^}]*)\}", rest)
    return found[1] if found else ""


def _window_places(size: int, width: int, outputs: int, window: dict[str, str]) -> int:
    """Count the pairs of output and window place that meet an element, along one dimension."""
    stride, base, spread = (
        int(window.get(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    before = int(window.get("pad", "0").split("_")[0])
    places = (
        at * stride + place * spread - before for at in range(outputs) for place in range(width)
    )
    return sum(1 for place in places if place % base == 0 and 0 <= place // base < size)
