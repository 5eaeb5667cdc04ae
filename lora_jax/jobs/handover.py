"""Hand over what was trained: write it for other programs, read it back, compare the logits."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lora_jax import evaluation
from lora_jax.compilation import compiler_options
from lora_jax.errors import UserError
from lora_jax.jobs.base import Base
from lora_jax.jobs.preparation import label, ranges
from lora_jax.lora.adapter import AdapterSpec, BoundAdapter
from lora_jax.lora.export import export_adapter
from lora_jax.lora.load import load_adapter
from lora_jax.lora.merging import updates
from lora_jax.models import checkpoint, decoder
from lora_jax.models.parameters import Tree

TOLERANCE = 1e-4  # On logits, where nothing was rounded: what is exported is what was trained.
PROBE = (2, 48)  # Sequences and tokens on which logits are compared.


def write_adapter(
    config: ml_collections.ConfigDict,
    base: Base,
    weights: Tree,
    spec: AdapterSpec,
    factors: Tree,
    path: pathlib.Path,
) -> float:
    """Write an adapter in PEFT's format.

    Args:
        config: The run's config.
        base: The model it is for.
        weights: That model's weights.
        spec: The adapter.
        factors: Its values.
        path: Where to.

    Returns:
        The largest difference of the logits with what was read back.

    Raises:
        UserError: What was read back is not what was written.
    """
    dtype = config.export.dtype
    export_adapter(
        path,
        spec,
        base.declarations,
        factors,
        base.name,
        dtype=dtype,
        partners=config.export.partners,
        revision=base.revision,
    )
    read_spec, read_factors = load_adapter(path, base.declarations, base.mesh)
    expected = _logits(base, weights, spec.bind(factors))
    found = _logits(base, weights, read_spec.bind(read_factors))
    return _difference(path, expected, found, exact=dtype == "float32")


def write_model(
    config: ml_collections.ConfigDict,
    base: Base,
    weights: Tree,
    path: pathlib.Path,
    adapter: tuple[AdapterSpec, Tree] | None = None,
) -> float:
    """Write a whole model as a Hugging Face directory.

    The model is never in memory twice: an adapter is merged tensor by tensor on the way to the
    disk, and the weights are given up before the directory is read back.

    Args:
        config: The run's config.
        base: What the model is made of.
        weights: Its weights; used up.
        path: Where to.
        adapter: An adapter to merge into them, and its factors.

    Returns:
        The largest difference of the logits with what was read back.

    Raises:
        UserError: What was read back, in fp32, is not what was written.
    """
    dtype = config.export.model_dtype
    if dtype == "base":
        dtype = checkpoint.stored_dtype(base.directory)
    bound = adapter and adapter[0].bind(adapter[1])
    expected = _logits(base, weights, bound)
    update = adapter and updates(*adapter)
    checkpoint.save(path, base.declarations, weights, base.directory, dtype, update=update)
    jax.tree.map(lambda x: x.delete(), weights)
    found = _logits(base, base.load(dtype, path), None)
    return _difference(path, expected, found, exact=dtype == "float32")


def write_card(
    config: ml_collections.ConfigDict,
    base: Base,
    spec: AdapterSpec | None,
    path: pathlib.Path,
    workdir: pathlib.Path,
    steps: int | None,
) -> evaluation.Export:
    """Write an export's model card.

    Args:
        config: The run's config.
        base: The base model.
        spec: The exported adapter; None for a whole model.
        path: The export.
        workdir: Of the run, whose evaluations the card quotes.
        steps: Optimizer steps that it was trained for; None if not in this run.

    Returns:
        The export.
    """
    trained = describe_training(config, base, spec, steps)
    export = evaluation.Export(str(path), base.name, spec and spec.rank)
    hub_id = base.name == config.model.path
    evaluation.write_card(export, trained, workdir / "evaluation", hub_id)
    return export


def describe_training(
    config: ml_collections.ConfigDict, base: Base, spec: AdapterSpec | None, steps: int | None
) -> dict[str, str]:
    """Say by name how something was made, from its config alone."""
    facts = {"base model": base.name}
    if base.revision:
        facts["base revision"] = base.revision
    facts["trained"] = label(config, spec)
    if spec is not None:
        facts["layers"] = ranges(spec.adapted_layers)
    if steps is None:
        return facts
    train, data = config.train, config.data
    sources = (f"{source.path} ({source.take})" for source in data.sources.values())
    return facts | {
        "data": "; ".join(sources),
        "format": f"{data.format}, at most {data.max_length} tokens a row, loss on {data.supervise}",
        "steps": f"{steps:,} of batch {data.batch_size}",
        "optimizer": f"AdamW, learning rate {train.learning_rate:g}, {train.schedule}, "
        f"weight decay {train.weight_decay:g}, clipping at {train.clip_norm:g}",
        "seeds": f"training {train.seed}, data {data.seed}",
    }


def _logits(base: Base, weights: Tree, adapter: BoundAdapter | None) -> np.ndarray:
    """Compute logits [B, T, V] of arbitrary tokens, in fp32 whatever the weights' type."""
    rows, length = PROBE
    length = min(length, base.model.max_positions)
    tokens = np.random.default_rng(0).integers(0, base.model.vocabulary, rows * length)

    dtype = weights["embed_tokens"]["embedding"].dtype

    @functools.partial(jax.jit, compiler_options=compiler_options(dtype))
    def compute(weights: Tree, factors: Any) -> jax.Array:
        # The decoder computes in the type of the embeddings: these few are widened, and renumbered.
        few = weights["embed_tokens"]["embedding"][tokens].astype(jnp.float32)
        hidden, _ = decoder.hidden_states(
            base.model,
            weights | {"embed_tokens": {"embedding": few}},
            jnp.arange(rows * length).reshape(rows, length),
            jnp.broadcast_to(jnp.arange(length), (rows, length)),
            decoder.causal_mask(jnp.ones((rows, length), jnp.int32)),
            adapter=adapter and dataclasses.replace(adapter, factors=factors),
        )
        return decoder.logits(weights, hidden)

    with jax.set_mesh(base.mesh):
        return np.asarray(compute(weights, adapter and adapter.factors))


def _difference(path: pathlib.Path, expected: np.ndarray, found: np.ndarray, exact: bool) -> float:
    difference = float(np.abs(expected - found).max())
    if not np.isfinite(difference) or (exact and difference > TOLERANCE):
        raise UserError(
            f"{path}: the export's logits differ from the trained model's by "
            f"{difference:.3g}; do not use it, and report this as a bug."
        )
    return difference
