"""Compare the adapter with full fine-tuning, under two protocols.

One shared learning rate for both arms is how the paper compares; but a rate that suits one arm may
be far too large for the other. So every arm is trained at every rate of a grid, the whole grid is
published, and each arm is also taken at its best rate: the one that reasons best on the validation
split among those that refuse enough of its harmful requests. Test prompts choose nothing.
"""

from __future__ import annotations

import dataclasses
import pathlib

import ml_collections

from lora_jax import evaluation
from lora_jax.console import print_facts
from lora_jax.errors import UserError
from lora_jax.evaluation import comparison, figures
from lora_jax.evaluation.markdown import table
from lora_jax.jobs.align import load_base, start_factors, train
from lora_jax.jobs.measuring import Measurer
from lora_jax.jobs.preparation import Preparation, environment, prepare
from lora_jax.workdir import write_atomically

MODES = ("lora", "full")
SPLITS = ("validation", "sets")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Hold one arm at one learning rate.

    Attributes:
        arm: A few words for the way of training.
        rate: The learning rate.
        validation: Measured on the validation split, which chooses.
        test: Measured on the test split, which reports.
    """

    arm: str
    rate: float
    validation: evaluation.Evaluation
    test: evaluation.Evaluation


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the comparison, or finish one that was interrupted.

    Args:
        config: The run's config, validated; `train.mode` and `train.learning_rate` are replaced by
            both modes and all of `compare.learning_rates`.
        workdir: A directory of this run's own.
    """
    rates = sorted(config.compare.learning_rates)
    prepared = prepare(config, SPLITS)
    _check_sets(prepared)
    facts = prepared.facts(workdir)
    facts["trained"] = f"{' and '.join(MODES)}, each at {', '.join(f'{rate:g}' for rate in rates)}"
    del facts["optimizer"]
    print_facts("Plan", facts)
    measure = Measurer(prepared, prepared.sets["sets"])
    before = measure(
        load_base(prepared), start_factors(prepared), workdir / "before", "evaluate base"
    )
    cells = [_run_cell(config, mode, rate, workdir) for mode in MODES for rate in rates]
    text = _write_report(config, before, cells, facts, workdir)
    print(text)
    print(f"Report: {workdir / 'comparison.md'}")


def _check_sets(prepared: Preparation) -> None:
    """Refuse splits that cannot say how safe a model is and how well it reasons."""
    for split, sets in prepared.sets.items():
        missing = {"harmful", "problems"} - {one.kind for one in sets}
        if missing:
            raise UserError(
                f"config.evaluation.{split} has no set of {' and '.join(sorted(missing))}, by which "
                "--job=compare compares; add one."
            )


def _run_cell(
    config: ml_collections.ConfigDict, mode: str, rate: float, workdir: pathlib.Path
) -> Cell:
    """Train one arm at one rate and measure it on both splits; what is done is not done again."""
    config = ml_collections.ConfigDict(config)
    config.train.mode, config.train.learning_rate = mode, rate
    config.checkpoint.keep_last, config.checkpoint.keep_best = 1, 0
    prepared = prepare(config, SPLITS)
    directory = workdir / f"{mode}-{rate:g}"
    directory.mkdir(exist_ok=True)
    print(f"\n{prepared.label}, learning rate {rate:g}")
    base, factors = load_base(prepared), start_factors(prepared)
    trained = train(prepared, base, factors, directory)
    base, factors = (trained, {}) if prepared.spec is None else (base, trained)
    measured = {
        split: Measurer(prepared, prepared.sets[field])(
            base, factors, directory / split, f"evaluate {split}"
        )
        for split, field in (("validation", "validation"), ("test", "sets"))
    }
    return Cell(prepared.label, rate, **measured)


def best(cells: list[Cell], refusal: float) -> Cell | None:
    """Choose an arm's rate on the validation split.

    Args:
        cells: One arm at several rates.
        refusal: Share of harmful requests that a candidate has to refuse.

    Returns:
        The candidate with the most final answers right, of those the one with the smallest rate;
        None if no rate refuses enough.
    """
    safe = [cell for cell in cells if figures.place(cell.validation).refused.rate >= refusal]
    if not safe:
        return None
    return max(safe, key=lambda cell: (figures.place(cell.validation).strict.rate, -cell.rate))


def _write_report(
    config: ml_collections.ConfigDict,
    before: evaluation.Evaluation,
    cells: list[Cell],
    facts: dict[str, str],
    workdir: pathlib.Path,
) -> str:
    """Write comparison.md and its figure; return the part that is worth printing."""
    arms: dict[str, list[Cell]] = {}
    for cell in cells:
        arms.setdefault(cell.arm, []).append(cell)
    curves = {
        arm: {cell.rate: figures.place(cell.test) for cell in members}
        for arm, members in arms.items()
    }
    figures.learning_rates(curves, figures.place(before), workdir / "comparison.png")
    lora, full = arms.values()
    chosen = [best(members, config.compare.refusal) for members in (lora, full)]
    sections = {
        "The whole grid, on the test split": _grid(before, cells),
        "Protocol 1: one shared learning rate": "".join(
            f"### {ours.rate:g}\n\n{_difference(theirs, ours)}\n"
            for ours, theirs in zip(lora, full, strict=True)
        ),
        "Protocol 2: each arm at its best rate, at matched refusal": _matched(chosen, config),
    }
    text = "".join(f"## {title}\n\n{body}\n" for title, body in sections.items())
    tables = {"What was done": facts, "Environment": environment()}
    tail = "".join(
        f"## {title}\n\n{table(('', ''), pairs.items())}\n" for title, pairs in tables.items()
    )
    header = f"# {lora[0].arm} against {full[0].arm}\n\n![Comparison](comparison.png)\n\n"
    write_atomically(workdir / "comparison.md", header + text + tail)
    return text


def _grid(before: evaluation.Evaluation, cells: list[Cell]) -> str:
    kinds = [result.set.kind for result in before.results if result.set.kind != "problems"]
    header = ["arm", "learning rate", *(f"{kind} refused" for kind in kinds)]
    rows = [("before training", "", before), *((c.arm, f"{c.rate:g}", c.test) for c in cells)]
    body = []
    for arm, rate, measured in rows:
        refused = [r.proportion("refused") for r in measured.results if r.set.kind in kinds]
        point = figures.place(measured)
        values = [*refused, point.strict, point.think_block]
        body.append([arm, rate, *map(comparison.percent, values)])
    return table([*header, "strict", "think block"], body)


def _difference(full: Cell, lora: Cell) -> str:
    """Compare two models on the same test prompts: how the adapter differs."""
    header = ["measure", full.arm, lora.arm, "difference (points)", "p", "the adapter is"]
    return table(header, [row.cells() for row in evaluation.compare(full.test, lora.test)])


def _matched(chosen: list[Cell | None], config: ml_collections.ConfigDict) -> str:
    if None in chosen:
        return (
            f"Not decided: no learning rate of the grid makes every arm refuse "
            f"{config.compare.refusal:.0%} of the harmful validation requests.\n"
        )
    lora, full = chosen
    return (
        f"Best of the grid on the validation split, among rates that refuse at least "
        f"{config.compare.refusal:.0%} of its harmful requests: {lora.arm} at {lora.rate:g}, "
        f"{full.arm} at {full.rate:g}.\n\n{_difference(full, lora)}"
    )
