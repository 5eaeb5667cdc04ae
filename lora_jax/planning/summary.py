"""Word what was found about a step, for the terminal and for files."""

from __future__ import annotations

from lora_jax.planning.chips import Chip
from lora_jax.planning.compiling import Trial
from lora_jax.planning.memory import StateMemory
from lora_jax.planning.program import Program

_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def size(number: int) -> str:
    """Word a number of bytes."""
    for factor, unit in _SIZES:
        if number >= factor:
            return f"{number / factor:,.2f} {unit}"
    return f"{number} bytes"


def memory_facts(trial: Trial, chip: Chip) -> dict[str, str]:
    """Say what one chip has to hold, by kind.

    Args:
        trial: The step, compiled or refused.
        chip: What it is compiled for.
    """
    memory = trial.memory
    verdict = "fits" if trial.fits else "does not fit"
    return state_facts(memory.state) | {
        "activations": size(memory.activations),
        "program, batch": size(memory.rest),
        "total a chip": f"{size(memory.total)} of {size(chip.memory)}: {verdict}",
    }


def state_facts(state: StateMemory) -> dict[str, str]:
    """Say what stays on one chip from step to step."""
    facts = {"weights": size(state.weights)}
    if state.adapter:
        facts["adapter"] = size(state.adapter)
    return facts | {"optimizer": size(state.optimizer)}


def work_facts(
    program: Program, least: float, tokens: int, chips: int, chip: Chip
) -> dict[str, str]:
    """Say what the chips compute and exchange in a step.

    Args:
        program: The compiled step, of one chip.
        least: FLOPs a token that matrix products need at least.
        tokens: In a batch.
        chips: That share it.
        chip: What it is compiled for.
    """
    flops = program.flops * chips / tokens
    more = "" if program.complete else "at least "
    facts = {
        "FLOPs a token": f"{more}{flops / 1e9:,.3g} G in matrix products; {least / 1e9:,.3g} G would "
        f"do, so {more}{flops / least:.2f} times the least"
    }
    if chip.peak:
        rate = chip.peak / flops
        facts["at best"] = f"{rate:,.0f} tokens/s a chip, if it multiplied at its peak throughout"
    for kind, one in program.collectives.items():
        facts[kind] = f"{one.count:,} a step, {size(one.size)} received by a chip"
    if not program.collectives:
        facts["collectives"] = "none"
    return facts
