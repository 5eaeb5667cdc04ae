"""How to use what a run exported, as Markdown with snippets to paste."""

import dataclasses
import json
import shlex

_VLLM_RANKS = (
    16,
    32,
    64,
    128,
    256,
    320,
    512,
)  # what its --max-lora-rank takes, from its default up


@dataclasses.dataclass(frozen=True)
class Export:
    """Say what a run exported.

    Attributes:
        path: directory of the PEFT adapter, or of the whole model.
        base: directory or hub id of the base model.
        rank: of the adapter; None if the export is a whole model.
    """

    path: str
    base: str
    rank: int | None


def how_to_use(export: Export) -> str:
    """Write Markdown that shows an export at work in transformers and in vLLM.

    Args:
        export: what the run exported.

    Returns:
        Paragraphs and code blocks, without a heading.
    """
    if export.rank is None:
        return _MODEL.format(path=json.dumps(export.path), shell=shlex.quote(export.path))
    rank = next((rank for rank in _VLLM_RANKS if rank >= export.rank), _VLLM_RANKS[-1])
    return _ADAPTER.format(
        base=json.dumps(export.base),
        path=json.dumps(export.path),
        shell_base=shlex.quote(export.base),
        shell_path=shlex.quote(f"aligned={export.path}"),
        rank="" if rank == _VLLM_RANKS[0] else f" --max-lora-rank {rank}",
    )


_GENERATE = """\
messages = [{{"role": "user", "content": "..."}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
tokens = model.generate(**inputs, max_new_tokens=2048)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1]:]))
```
"""

_ADAPTER = (
    """\
The export is a LoRA adapter in PEFT's format: load the base model, then the adapter on top of it.

With [PEFT](https://github.com/huggingface/peft) and transformers:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base})
tokenizer = AutoTokenizer.from_pretrained({base})
model = PeftModel.from_pretrained(base, {path})
"""
    + _GENERATE
    + """
With [vLLM](https://docs.vllm.ai), which then serves the adapter under the model name `aligned`:

```sh
vllm serve {shell_base} --enable-lora{rank} --lora-modules {shell_path}
```
"""
)

_MODEL = (
    """\
The export is a whole model: a Hugging Face directory that replaces the base model.

With transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({path})
tokenizer = AutoTokenizer.from_pretrained({path})
"""
    + _GENERATE
    + """
With [vLLM](https://docs.vllm.ai):

```sh
vllm serve {shell}
```
"""
)
