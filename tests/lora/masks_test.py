"""Masks give ranks to what was asked for, and say so when nothing is."""

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


def select(targets, layers=range(6), rank=4):
    """Return the ranks of every projection that has any, by its name."""
    flat = flatten(masks.select(DECLARATIONS, targets, layers, rank))
    return {path.split(".")[-2]: ranks.tolist() for path, ranks in flat.items() if ranks.any()}


def test_mask_has_the_declarations_structure_and_ranks_in_the_chosen_kernels_only():
    flat = flatten(masks.select(DECLARATIONS, ["up_proj", "q"], [2, 3], 5))
    assert flat.keys() == flatten(DECLARATIONS).keys()
    for path, ranks in flat.items():
        expected = path in ("layers.mlp.up_proj.kernel", "layers.self_attn.q_proj.kernel")
        rows = [0, 0, 5, 5, 0, 0] if expected else np.zeros_like(ranks)
        np.testing.assert_array_equal(ranks, rows)
        assert np.shape(ranks) == ((6,) if path.startswith("layers.") else ())


def test_targets_may_have_ranks_of_their_own():
    assert select(["gate", "down_proj:8"], [0, 5]) == {
        "gate_proj": [4, 0, 0, 0, 0, 4],
        "down_proj": [8, 0, 0, 0, 0, 8],
    }
    two, four = [2, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]
    attention = {"q_proj": two, "k_proj": two, "v_proj": two, "o_proj": two}
    mlp = {"gate_proj": four, "up_proj": four, "down_proj": four}
    assert select(["attention:2", "mlp"], [0]) == attention | mlp


def test_patterns_select_single_modules_and_only_in_the_chosen_layers():
    pattern = r"re:model\.layers\.[135]\.mlp\.(up|down)_proj:2"
    assert select([pattern, "gate"], range(4)) == {
        "up_proj": [0, 2, 0, 2, 0, 0],
        "down_proj": [0, 2, 0, 2, 0, 0],
        "gate_proj": [4, 4, 4, 4, 0, 0],
    }


def test_one_projection_may_have_different_ranks_in_different_layers():
    early, late = (rf"re:.*\.{layer}\.mlp\.up_proj:{rank}" for layer, rank in (("[01]", 2), (5, 8)))
    assert select([early, late]) == {"up_proj": [2, 2, 0, 0, 0, 8]}


def test_the_same_rank_twice_is_no_contradiction():
    ranks = select(["up", "mlp", "up_proj:4"], [0])
    assert ranks.keys() == {"gate_proj", "up_proj", "down_proj"}
    assert all(of_layers == [4, 0, 0, 0, 0, 0] for of_layers in ranks.values())


@pytest.mark.parametrize(
    ("targets", "layers", "message"),
    [
        (["upproj"], [0], "did you mean 'up_proj'"),
        (
            [r"re:model\.layers\.0\.mlp\.upproj"],
            [0],
            r"for example, .*model\.layers\.0\.mlp\.up_proj",
        ),
        (["up", "re:zzz"], [0], r"'re:zzz' matches no module.*for example, model\.layers\.0"),
        ([r"re:.*lm_head"], [0], "matches no module"),
        ([r"re:model\.layers\.5\..*"], [0, 1], r"in the layers that config\.lora\.layers selects"),
        (
            ["up_proj:2", "up_proj:4"],
            [0],
            r"'up_proj:2' gives model\.layers\.0\.mlp\.up_proj rank 2",
        ),
        (["mlp", "down:8"], [1], r"'down:8' gives it rank 8"),
    ],
)
def test_targets_that_cannot_be_followed_are_refused(targets, layers, message):
    with pytest.raises(UserError, match=message):
        select(targets, layers)
