"""The model card that goes with an export: what it is, how it was made, what was measured."""

import json
import pathlib
from collections.abc import Mapping

from lora_jax.evaluation.comparison import percent
from lora_jax.evaluation.markdown import table
from lora_jax.evaluation.measure import MEASURES
from lora_jax.evaluation.statistics import Proportion, paired_change
from lora_jax.evaluation.usage import Export, how_to_use
from lora_jax.workdir import write_atomically

_UNMEASURED = "Not measured: the run was not evaluated both before and after training.\n"
_MEASURED = """\
Brackets hold 95% intervals, over prompts. Refusals are judged by refusal phrases. ↑ means that higher \
is better, ↓ that lower is better.
"""


def write_card(
    export: Export, recipe: Mapping[str, str], evaluation: pathlib.Path, hub_id: bool
) -> None:
    """Write `README.md` into an export, with the metadata that hubs read.

    Args:
        export: what was exported.
        recipe: how it was made, name to value, in this order.
        evaluation: directory of the evaluations `before` and `after`, whose scores are shown where
            both are there.
        hub_id: whether `export.base` is the id of a model on the hub, which alone may be named as
            base model in the metadata.

    Raises:
        OSError: if the file cannot be written; carries the path.
    """
    adapter = export.rank is not None
    metadata = ["pipeline_tag: text-generation", "tags:", "- lora_jax"]
    if adapter:
        metadata += ["- lora", "library_name: peft"]
    if hub_id:
        relation = "adapter" if adapter else "finetune"
        metadata += [f"base_model: {export.base}", f"base_model_relation: {relation}"]
    sections = {
        "How it was made": table(("", ""), recipe.items()),
        "What was measured": _results(evaluation),
        "How to use it": how_to_use(export),
    }
    kind = "LoRA adapter for" if adapter else "Model made of"
    text = "---\n" + "\n".join(metadata) + "\n---\n\n"
    text += f"# {kind} {pathlib.Path(export.base).name}\n\nThe base model is `{export.base}`.\n"
    text += "".join(f"\n## {heading}\n\n{body}" for heading, body in sections.items())
    write_atomically(pathlib.Path(export.path) / "README.md", text)


def _results(directory: pathlib.Path) -> str:
    before, after = (_scores(directory / stage) for stage in ("before", "after"))
    if before is None or after is None or before.keys() != after.keys():
        return _UNMEASURED
    rows = []
    kinds = [scores["kind"] for scores in before.values()]
    for name, old in before.items():
        for measure in MEASURES:
            if measure.kind == old["kind"]:
                verdicts = [
                    side["measures"][measure.name]["verdicts"] for side in (old, after[name])
                ]
                arrow = "↑" if measure.wanted == "higher" else "↓"
                proportions = [percent(Proportion(sum(v), len(v))) for v in verdicts]
                verdict = paired_change(*verdicts).verdict
                several = kinds.count(measure.kind) > 1
                title = f"{measure.title} ({name})" if several else measure.title
                rows.append((f"{title} {arrow}", *proportions, verdict))
    return table(("Measure", "Base", "With the export", "Change"), rows) + "\n" + _MEASURED


def _scores(directory: pathlib.Path) -> dict | None:
    try:
        return json.loads((directory / "scores.json").read_text(encoding="utf-8"))["sets"]
    except FileNotFoundError:
        return None
