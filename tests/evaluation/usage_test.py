import ast
import re

import pytest

from lora_jax.evaluation.usage import Export, how_to_use

ADAPTER = Export(path="runs/my run/adapter", base="org/it's a base", rank=1)
MODEL = Export(path="runs/full/model", base="org/base", rank=None)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("export", [ADAPTER, MODEL])
def test_python_snippets_are_python_and_name_the_export(export):
    (snippet,) = blocks(how_to_use(export), "python")
    strings = {
        node.value for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Constant)
    }
    assert export.path in strings
    assert (export.base in strings) is (export.rank is not None)


def test_shell_snippets_quote_their_paths():
    (adapter,) = blocks(how_to_use(ADAPTER), "sh")
    assert adapter == (
        "vllm serve 'org/it'\"'\"'s a base' --enable-lora "
        "--lora-modules 'aligned=runs/my run/adapter'\n"
    )
    assert blocks(how_to_use(MODEL), "sh") == ["vllm serve runs/full/model\n"]


@pytest.mark.parametrize(
    ("rank", "flag"), [(1, None), (16, None), (17, "32"), (64, "64"), (300, "320")]
)
def test_vllm_is_told_of_ranks_above_its_default(rank, flag):
    found = re.findall(r"--max-lora-rank (\d+)", how_to_use(Export("adapter", "base", rank)))
    assert found == ([flag] if flag else [])
