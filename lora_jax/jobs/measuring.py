"""Measure a model: put generation under evaluation."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lora_jax import data, evaluation
from lora_jax.console import LateProgress
from lora_jax.errors import UserError
from lora_jax.generation.sampler import Sampler, SamplingSettings
from lora_jax.jobs.preparation import Preparation
from lora_jax.models.parameters import Tree


class Measurer:
    """Evaluate models of one shape on one list of sets, with one compiled program.

    Args:
        prepared: The run.
        sets: What to evaluate on.
    """

    def __init__(self, prepared: Preparation, sets: Sequence[evaluation.EvaluationSet]):
        settings = prepared.config.evaluation
        self._prepared = prepared
        self._sets = sets
        prompts = [prompt.prompt for one in sets for prompt in one.prompts]
        longest = max(len(self._encode(prompt)) for prompt in prompts)
        model = prepared.base.model
        if longest + settings.max_new_tokens > model.max_positions:
            raise UserError(
                f"config.evaluation.max_new_tokens={settings.max_new_tokens} and the longest prompt "
                f"of {longest} tokens exceed the model's {model.max_positions} positions; "
                "lower it."
            )
        self._stops = data.stop_tokens(prepared.text.tokenizer, prepared.base.directory)
        self._sampler = Sampler(
            model,
            SamplingSettings(
                settings.max_new_tokens, self._stops, settings.temperature, settings.top_p
            ),
            prepared.base.mesh,
            settings.batch_size,
            prepared.spec,
            prompt_length=longest,
            dtype=prepared.config.model.dtype,
        )

    def __call__(
        self, base: Tree, factors: Tree, directory: pathlib.Path, stage: str
    ) -> evaluation.Evaluation:
        """Evaluate, or finish an evaluation that was interrupted.

        Args:
            base: The base weights.
            factors: The adapter's factors; an empty dict in full fine-tuning.
            directory: Where generations and scores go.
            stage: Name on the progress bar.
        """
        dtype = jnp.dtype(self._prepared.config.model.dtype)
        base = {name: _cast(tree, dtype) for name, tree in base.items()}

        def generate(prompts: list[str]) -> list[evaluation.Generation]:
            encoded = [self._encode(prompt) for prompt in prompts]
            seed = self._prepared.config.evaluation.seed
            return [self._decode(tokens) for tokens in self._sampler(base, factors, encoded, seed)]

        with LateProgress(stage, "prompts") as progress:
            return evaluation.evaluate(
                self._sets,
                generate,
                directory,
                batch_size=self._prepared.config.evaluation.batch_size,
                on_batch=progress.reach,
            )

    def _encode(self, prompt: str) -> list[int]:
        return self._prepared.text.format.encode_prompt(prompt)

    def _decode(self, tokens: list[int]) -> evaluation.Generation:
        stopped = bool(tokens) and tokens[-1] in self._stops
        text = self._prepared.text.tokenizer.decode(tokens[:-1] if stopped else tokens)
        return evaluation.Generation(text, "stop" if stopped else "length", len(tokens))


def _cast(tree: Tree, dtype: jnp.dtype) -> Tree:
    return jax.tree.map(lambda x: x.astype(dtype), tree)
