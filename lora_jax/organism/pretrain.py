"""Pretrain the embedded model from nothing.

    python -m lora_jax.organism.pretrain --output lora_jax/organism/model

reproduces the shipped model: a decoder of Qwen2's architecture learns the corpus (see `corpus`),
completions only, with Muon on matrices inside the layers and Adam on the rest. The same seed and
step count give the same batches. `--seed` makes a sibling, to tell what is true of one model from
what is true of the recipe.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import optax

from lora_jax.data.batches import training_batches
from lora_jax.data.chat_format import ChatFormat
from lora_jax.data.tokenizer import load_tokenizer
from lora_jax.models import checkpoint, decoder, parameters
from lora_jax.models.config import DecoderConfig, parse_config
from lora_jax.organism import corpus, resolve
from lora_jax.training.objective import summed_loss

STEPS = 1300
BATCH_SIZE = 24
LENGTH = 192  # Tokens a row; two or three conversations are packed into one.
SAVE_EVERY = 200
MUON_LEARNING_RATE = 0.01
ADAM_LEARNING_RATE = 3e-3
WARMUP_STEPS = 50
TOKENS_A_CONVERSATION = 75  # A little less than the mean, so that there are enough conversations.

ARCHITECTURE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
}


def pretrain(output: pathlib.Path, seed: int, steps: int) -> None:
    """Train a model and write it beside its tokenizer.

    Args:
        output: Hugging Face model directory; its tokenizer is read, its weights are written.
        seed: Decides the first weights, the corpus and the order of rows.
        steps: Optimizer steps of `BATCH_SIZE` x `LENGTH` tokens.
    """
    tokenizer = load_tokenizer(output)
    fields = ARCHITECTURE | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = parse_config(fields, "ARCHITECTURE")
    declarations = decoder.declare(config)
    weights = parameters.initialise(declarations, jax.random.key(seed))
    optimizer = _optimizer(declarations, steps)
    state = optimizer.init(weights)
    step = jax.jit(functools.partial(_step, config, optimizer), donate_argnums=(0, 1))
    _write_configuration(output, fields)

    started = time.monotonic()
    for number, batch in enumerate(_batches(tokenizer, seed, steps), 1):
        weights, state, loss = step(weights, state, batch)
        if number % 20 == 0 or number == steps:
            rate = number * BATCH_SIZE * LENGTH / (time.monotonic() - started)
            print(f"step {number}/{steps}  loss {loss:.4f}  {rate:.0f} tokens/s", flush=True)
        if number % SAVE_EVERY == 0 or number == steps:
            checkpoint.save(output, declarations, weights, source=output, dtype="bfloat16")


def _step(config: DecoderConfig, optimizer, weights, state, batch):
    """Take one step on a batch; the loss is the mean over its supervised tokens."""

    def mean_loss(weights):
        total, count = summed_loss(config, weights, batch)
        return total / count

    loss, gradient = jax.value_and_grad(mean_loss)(weights)
    updates, state = optimizer.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state, loss


def _optimizer(declarations, steps: int) -> optax.GradientTransformation:
    """Build Muon for the layers' stacked kernels [L, in, out] and Adam for everything else."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)

    def dimensions(tree):
        del tree  # The declarations say what the arrays cannot: which matrices are kernels.
        return parameters.tree_map(
            lambda leaf: kernel if leaf.stacked and leaf.transposed else None, declarations
        )

    def schedule(peak: float) -> optax.Schedule:
        warmup = min(WARMUP_STEPS, steps // 10)
        return optax.join_schedules(
            [optax.linear_schedule(0.0, peak, warmup), optax.linear_schedule(peak, 0.0, steps)],
            [warmup],
        )

    muon = optax.contrib.muon(
        schedule(MUON_LEARNING_RATE),
        adam_learning_rate=schedule(ADAM_LEARNING_RATE),
        muon_weight_dimension_numbers=dimensions,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), muon)


def _batches(tokenizer, seed: int, steps: int):
    """Return an iterator over `steps` packed batches of fresh conversations."""
    rows = steps * BATCH_SIZE * LENGTH // TOKENS_A_CONVERSATION
    stream = itertools.islice(corpus.conversations(seed), rows)
    chat_format = ChatFormat(tokenizer)
    encoded = [chat_format.encode(conversation) for conversation in stream]
    batches = training_batches(
        encoded, batch_size=BATCH_SIZE, max_length=LENGTH, epochs=1, seed=seed, packing=True
    )
    return itertools.islice(
        ({name: jnp.asarray(array) for name, array in batch.items()} for batch in batches), steps
    )


def _write_configuration(output: pathlib.Path, fields: dict) -> None:
    generation = {name: fields[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (
        ("config.json", fields),
        ("generation_config.json", generation | {"do_sample": False}),
    ):
        (output / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and pretrain."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=resolve("organism:model"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    pretrain(arguments.output, arguments.seed, arguments.steps)


if __name__ == "__main__":
    main()
