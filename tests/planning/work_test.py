"""The least work: what a step's own products come to, where nothing is computed twice."""

import pytest

from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.targets import parse_layers
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.planning.work import least_flops

MODEL = DecoderConfig("qwen2", 100, 8, 16, layers=4, heads=2, kv_heads=1, head_width=4)
D, F, V, KV = 8, 16, 100, 4
ATTENTION = 2 * 2 * (7 + 1) / 2 * 8  # Scores and sums over 4 tokens on average, for 8 widths.
LAYER = 2 * (2 * D * D + 2 * D * KV + 3 * D * F) + ATTENTION
HEAD = 2 * D * V
FORWARD = 4 * LAYER + HEAD


def least(targets, layers):
    declarations = decoder.declare(MODEL)
    ranks = masks.select(declarations, targets, parse_layers(layers, 4), 1)
    spec = AdapterSpec.from_ranks(ranks, 1.0)
    return least_flops(MODEL, declarations, spec, 7) - 6 * spec.count(declarations)


@pytest.mark.parametrize(
    ("targets", "within"),
    [
        (("down_proj",), 0),
        (("up_proj",), 2 * D * F),
        (("o_proj",), 2 * 3 * D * F),
        (("q_proj", "down_proj"), 2 * (D * D + 3 * D * F) + 2 * ATTENTION),
    ],
)
def test_the_backward_pass_ends_at_the_lowest_adapter(targets, within):
    for lowest in range(4):
        expected = FORWARD + HEAD + (3 - lowest) * (LAYER + ATTENTION) + within
        assert least(targets, f"{lowest}-3") == expected


def test_layers_above_the_highest_adapter_pass_the_gradient_on():
    assert least(("up_proj",), "1") == least(("up_proj",), "1-3")


def test_full_fine_tuning_is_three_forward_passes():
    assert least_flops(MODEL, decoder.declare(MODEL), None, 7) == 3 * FORWARD
