"""Masks select what was asked for, and say so when nothing is."""

import numpy as np
import pytest

from lora_jax.errors import UserError
from lora_jax.lora import masks
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import flatten

DECLARATIONS = decoder.declare(
    DecoderConfig("qwen2", 61, 16, 24, layers=6, heads=2, kv_heads=1, head_width=8)
)


def test_mask_is_true_for_the_chosen_kernels_only():
    flat = flatten(masks.select(DECLARATIONS, ["up_proj", "q_proj"], [2, 3]))
    assert flat.keys() == flatten(DECLARATIONS).keys()
    for path, chosen in flat.items():
        expected = path in ("layers.mlp.up_proj.kernel", "layers.self_attn.q_proj.kernel")
        rows = [False, False, True, True, False, False] if expected else np.zeros_like(chosen)
        np.testing.assert_array_equal(chosen, rows)


def test_selected_layers_names_projections_and_layers():
    mask = masks.select(DECLARATIONS, ["down_proj", "k_proj"], [0, 5])
    assert masks.selected_layers(mask) == {"self_attn.k_proj": (0, 5), "mlp.down_proj": (0, 5)}


def test_unknown_target_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'up_proj'"):
        masks.select(DECLARATIONS, ["upproj"], [0])


@pytest.mark.parametrize(
    "text, count, expected",
    [
        ("all", 6, range(6)),
        ("early", 6, (0, 1)),
        ("middle", 6, (2, 3)),
        ("late", 6, (4, 5)),
        ("middle", 48, range(16, 32)),  # Inclusive 16-31, as in the paper's code for 14B.
        ("2-4", 6, (2, 3, 4)),
        ("5", 6, (5,)),
    ],
)
def test_layers_are_read(text, count, expected):
    assert masks.parse_layers(text, count) == tuple(expected)


@pytest.mark.parametrize("text", ["", "some", "4-2", "3-6", "-1", "9"])
def test_impossible_layers_are_refused(text):
    with pytest.raises(UserError, match=r"config\.lora\.layers"):
        masks.parse_layers(text, 6)
