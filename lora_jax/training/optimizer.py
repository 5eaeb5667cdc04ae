"""AdamW as the paper uses it, over the trainable tree and nothing else."""

from __future__ import annotations

import ml_collections
import optax

from lora_jax.models.parameters import Tree, tree_map


def make_schedule(train: ml_collections.ConfigDict, total_steps: int) -> optax.Schedule:
    """Build the learning rate as a function of the step, counted from 0.

    Args:
        train: Section `train` of the config.
        total_steps: Steps of the whole run; a cosine reaches 0 there.
    """
    rate, warmup = train.learning_rate, min(train.warmup_steps, total_steps)
    main = {
        "cosine": optax.cosine_decay_schedule(rate, max(1, total_steps - warmup)),
        "constant": optax.constant_schedule(rate),
    }[train.schedule]
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), main], [warmup])


def make_optimizer(
    train: ml_collections.ConfigDict, total_steps: int, declarations: Tree
) -> optax.GradientTransformation:
    """Build AdamW with clipping by global norm.

    Optax is given the trainable tree alone. Frozen weights are another tree that it never sees, so
    they have no state, no update, and no part in the norm that is clipped.

    Args:
        train: Section `train` of the config.
        total_steps: Steps of the whole run.
        declarations: The trainable tree's declarations; matrices decay, biases and norms do not.

    Source: values of arXiv 2507.17075; Loshchilov & Hutter 2017 (arXiv 1711.05101).
    """
    adamw = optax.adamw(
        make_schedule(train, total_steps),
        b1=train.b1,
        b2=train.b2,
        eps=train.eps,
        weight_decay=train.weight_decay,
        mask=tree_map(lambda leaf: len(leaf.hf_shape) == 2, declarations),
    )
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), adamw)
