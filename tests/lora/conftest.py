"""Small models, theirs and ours of each, made once for the room."""

import copy
import functools
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.targets import parse_layers
from lora_jax.models import decoder
from lora_jax.models.config import read_config
from lora_jax.models.parameters import tree_map

TOKENS = np.random.default_rng(0).integers(0, 96, (2, 21))


class SmallModel:
    """Hold one model, as torch computes it and as we do."""

    def __init__(self, directory):
        self.directory = directory
        self.config = read_config(directory)
        self.declarations = decoder.declare(self.config)
        self._theirs = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32
        ).eval()
        self.params = self.take(self._theirs.state_dict())

    def take(self, state):
        """Return a torch state dict's weights as our tree."""

        def one(leaf):
            matrices = [state[name].numpy() for name in leaf.hf_names]
            stack = np.stack([m.T if leaf.transposed else m for m in matrices])
            return jnp.asarray(stack if leaf.stacked else stack[0])

        return tree_map(one, self.declarations)

    def theirs(self):
        """Return a torch model to put an adapter on."""
        return copy.deepcopy(self._theirs)

    def their_logits(self, model):
        """Return a torch model's logits, [B, T, V]."""
        with torch.no_grad():
            return model.eval()(torch.tensor(TOKENS)).logits.numpy()

    def spec(self, targets, layers="all", rank=4, alpha=16.0, **rest):
        """Describe an adapter for this model."""
        chosen = parse_layers(layers, self.config.layers)
        ranks = masks.select(self.declarations, targets, chosen, rank)
        return AdapterSpec.from_ranks(ranks, alpha, **rest)

    def draw(self, spec, seed=1):
        """Return factors that do something, B drawn too, zero beyond every layer's own rank."""
        rng = np.random.default_rng(seed)
        factors = {}
        for place in spec.placements:
            declared = spec.declare(self.declarations)[place.projection]
            a, b = (0.2 * rng.standard_normal(declared[f].shape, np.float32) for f in "ab")
            for row, rank in enumerate(place.ranks):
                a[row, :, rank:], b[row, rank:] = 0, 0
            factors[place.projection] = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
        return factors

    def logits(self, spec=None, factors=None):
        """Return our logits of `TOKENS`, [B, T, V]."""
        return np.asarray(_logits(self.config, spec, self.params, factors))

    @functools.cached_property
    def base_logits(self):
        """Return our logits without any adapter."""
        return self.logits()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(config, spec, params, factors):
    positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
    mask = decoder.causal_mask(jnp.ones(TOKENS.shape, jnp.int32))
    adapter = None if spec is None else spec.bind(factors)
    tokens = jnp.asarray(TOKENS)
    hidden, _ = decoder.hidden_states(config, params, tokens, positions, mask, adapter=adapter)
    return decoder.logits(params, hidden)


@pytest.fixture(scope="session")
def small(hf_model):
    """Give small models by the name of their family."""
    return functools.cache(lambda family: SmallModel(hf_model(family)))


@pytest.fixture
def no_complaints(caplog):
    """Turn warnings into errors, and anything logged as a warning too."""
    transformers.utils.logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # Said by PEFT of itself to transformers, whatever the adapter.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        yield
    transformers.utils.logging.disable_propagation()
    assert not caplog.records
