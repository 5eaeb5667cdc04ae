"""The one declaration of every parameter: against Hugging Face's names, and as a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from lora_jax.models import decoder, parameters
from lora_jax.models.config import DecoderConfig, read_config
from lora_jax.models.parameters import Parameter, count, flatten, initialise, unflatten

DECLARATIONS = decoder.declare(DecoderConfig("llama", 61, 16, 24, 3, 2, 1, 8, o_bias=True))


@pytest.mark.parametrize("family", ["qwen2 tied", "qwen2 untied", "qwen3", "llama"])
def test_names_shapes_and_count_are_those_of_transformers(hf_model, family):
    directory = hf_model(family)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    theirs = {name: tuple(p.shape) for name, p in model.named_parameters()}
    declarations = decoder.declare(read_config(directory))
    ours = {
        name: leaf.hf_shape for leaf in flatten(declarations).values() for name in leaf.hf_names
    }
    assert ours == theirs
    assert count(declarations) == model.num_parameters()


def test_unflatten_inverts_flatten_and_keeps_the_order():
    flat = flatten(DECLARATIONS)
    assert unflatten(flat) == DECLARATIONS
    assert list(flatten(unflatten(flat))) == list(flat)
    assert "layers.mlp.up_proj.kernel" in flat


def test_every_dimension_has_an_axis_of_its_own():
    for path, leaf in flatten(DECLARATIONS).items():
        assert len(leaf.axes) == len(leaf.shape), path
        named = [axis for axis in leaf.axes if axis]
        assert len(set(named)) == len(named), path


def test_stack_adds_a_leading_axis_of_those_layers():
    one = Parameter((4, 6), ("embed", "mlp"), "layer.{layer}.weight", transposed=True)
    stacked = one.stack([1, 5])
    assert (stacked.shape, stacked.axes) == ((2, 4, 6), ("layers", "embed", "mlp"))
    assert stacked.hf_names == ["layer.1.weight", "layer.5.weight"]
    assert one.hf_shape == stacked.hf_shape == (6, 4)
    assert stacked.stacked and not one.stacked


def test_initialise_draws_what_is_declared():
    shapes = {"normal": (300, 300), "zeros": (3,), "ones": (4,), "kaiming_uniform": (2, 400, 50)}
    tree = {name: Parameter(shape, (None,) * len(shape), name, init=name) for name, shape in shapes.items()}  # fmt: skip
    drawn = initialise(tree, jax.random.key(0))
    assert {name: x.shape for name, x in drawn.items()} == shapes
    assert {x.dtype for x in drawn.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(np.std(drawn["normal"]), 0.02, rtol=0.02)
    np.testing.assert_allclose(np.mean(drawn["normal"]), 0, atol=3e-4)
    assert (drawn["zeros"] == 0).all() and (drawn["ones"] == 1).all()
    bound = 400**-0.5
    assert 0.99 * bound < np.abs(drawn["kaiming_uniform"]).max() <= bound


def test_initialise_depends_on_the_key_alone_and_repeats_no_draw():
    one, again = (initialise(DECLARATIONS, jax.random.key(1)) for _ in range(2))
    other = initialise(DECLARATIONS, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    mlp = one["layers"]["mlp"]
    assert not np.array_equal(mlp["up_proj"]["kernel"], other["layers"]["mlp"]["up_proj"]["kernel"])
    assert not np.array_equal(mlp["up_proj"]["kernel"], mlp["gate_proj"]["kernel"])
    assert not np.array_equal(mlp["up_proj"]["kernel"][0], mlp["up_proj"]["kernel"][1])


def test_tree_map_stops_at_declarations():
    shapes = parameters.tree_map(lambda leaf: leaf.shape, DECLARATIONS)
    assert shapes["norm"]["weight"] == (16,)
