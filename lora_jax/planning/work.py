"""The least work that a training step can do."""

from __future__ import annotations

from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import Tree, flatten

# What comes after what within a layer; attention lies between the first stage and the second.
_STAGES = {
    "q_proj": 0,
    "k_proj": 0,
    "v_proj": 0,
    "o_proj": 1,
    "gate_proj": 2,
    "up_proj": 2,
    "down_proj": 3,
}


def least_flops(
    model: DecoderConfig, declarations: Tree, spec: AdapterSpec | None, length: int
) -> float:
    """Count the FLOPs a token that a step's matrix products need at least.

    That is: the forward pass of all layers; gradients of activations from the loss down to the lowest
    adapted projection, and of the factors; no gradient of a base weight, and nothing computed twice.
    Attention is causal: a token attends to itself and to those before it.

    Args:
        model: The decoder.
        declarations: Its parameters.
        spec: The adapter; None in full fine-tuning, where every weight has a gradient.
        length: T, of sequences that hold one sample each.
    """
    # Scores and their sum over values; a token sees (T + 1) / 2 others on average.
    attention = 2 * 2 * (length + 1) / 2 * model.heads * model.head_width
    head = 2 * model.width * model.vocabulary
    kernels = _kernels(declarations)
    layer = sum(kernels.values()) + attention
    forward = model.layers * layer + head
    if spec is None:
        # Attention has two operands and no weight: its gradients are twice its forward pass.
        return 3 * forward
    lowest = spec.adapted_layers[0]
    stage = min(_stage(path) for path, layers in spec.layers.items() if lowest in layers)
    whole = model.layers - 1 - lowest
    within = sum(flops for path, flops in kernels.items() if _stage(path) > stage)
    within += 2 * attention if stage == 0 else 0
    backward = head + whole * (layer + attention) + within
    return forward + backward + 3 * 2 * spec.count(declarations)


def _kernels(declarations: Tree) -> dict[str, int]:
    """Return the FLOPs a token of one layer's matrices, by path."""
    flat = flatten(declarations["layers"])
    return {
        path.removesuffix(".kernel"): 2 * leaf.hf_shape[0] * leaf.hf_shape[1]
        for path, leaf in flat.items()
        if path.endswith(".kernel")
    }


def _stage(path: str) -> int:
    return _STAGES[path.rpartition(".")[2]]
