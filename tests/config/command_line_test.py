"""Recipe files, and what the command line changes in them."""

import json
import pathlib

import pytest

from lora_jax.config import (
    default_config,
    differences,
    flatten,
    load_config,
    override,
    restore_config,
    validate,
)
from lora_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lora.rank", "4", 4),
        ("train.learning_rate", "3e-4", 3e-4),
        ("lora.alpha", "8", 8.0),
        ("data.packing", "true", True),
        ("data.packing", "False", False),
        ("lora.targets", "up_proj, gate_proj", ("up_proj", "gate_proj")),
        ("model.path", "some/where", "some/where"),
        ("mesh.data", "-1", -1),
        ("lora.targets", "up:8,re:.*mlp.*:2", ("up:8", "re:.*mlp.*:2")),
        ("lora.layers", "0,2-3", "0,2-3"),
        ("data.sources.answered.take", "25%", "25%"),
        ("evaluation.sets.harmful", "mine.jsonl", "mine.jsonl"),
    ],
)
def test_override_sets_a_field_with_its_own_type(name, text, value):
    config = default_config()
    override(config, name, text)
    result = flatten(config)[name]
    assert result == value and type(result) is type(value)
    validate(config)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lora.rnk", "config.lora.rank"),
        ("rank", "config.lora.rank"),
        ("training.learning_rate", "config.train.learning_rate"),
        ("optimizer.seed", "config.train.seed"),
        ("lora", "config.lora.rank"),
        ("evaluation.set.harmful", "config.evaluation.sets.harmful"),
    ],
)
def test_unknown_override_names_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"no field config.{name} .did you mean {nearest}"):
        override(default_config(), name, "1")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("lora.rank", "two", "a whole number"),
        ("lora.rank", "1.5", "a whole number"),
        ("train.learning_rate", "fast", "a number"),
        ("data.packing", "maybe", "true or false"),
    ],
)
def test_override_of_the_wrong_type_says_which_is_right(name, text, kind):
    config = default_config()
    with pytest.raises(UserError, match=f"config.{name} is '{text}'; it must be {kind}"):
        override(config, name, text)
    assert differences(default_config(), config) == []


def test_field_of_a_new_source_adds_it():
    config = default_config()
    override(config, "data.sources.mathematics.path", "math.jsonl")
    override(config, "data.sources.mathematics.take", "4000")
    validate(config)
    assert list(config.data.sources) == ["refusals", "answered", "mathematics"]
    assert config.data.sources.mathematics.path == "math.jsonl"


def test_a_new_evaluation_set_is_added():
    config = default_config()
    override(config, "evaluation.sets.mathematics", "math500")
    override(config, "evaluation.sets.benign", "")
    validate(config)
    assert list(config.evaluation.sets)[-1] == "mathematics"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evaluation.sets.harmfull", "did you mean config.evaluation.sets.harmful?"),
        ("data.sources.refusal.path", "did you mean config.data.sources.refusals.path"),
        ("data.sources.mathematics.pth", "no field config.data.sources.mathematics.pth"),
        ("data.sources..path", "no field"),
    ],
)
def test_source_that_is_mistyped_is_not_added(name, message):
    config = default_config()
    with pytest.raises(UserError, match=message):
        override(config, name, "x")
    assert differences(default_config(), config) == []


def test_saved_configuration_is_restored():
    config = default_config()
    override(config, "data.sources.mathematics.path", "math.jsonl")
    override(config, "lora.targets", "up,q:3")
    override(config, "evaluation.sets.gsm8k", "gsm8k")
    with config.unlocked():
        del config.data.sources["answered"]
    restored = restore_config(json.loads(json.dumps(config.to_dict())))
    validate(restored)
    assert differences(config, restored) == []
    assert restored.lora.targets == ("up", "q:3")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def get_config(arg):\n  return 1 +\n", "SyntaxError"),
        ("def get_config(arg):\n  return None\n", "AttributeError"),
        ("x = 1\n", "KeyError"),
        (
            """
from lora_jax.config import default_config
def get_config(arg):
    config = default_config()
    config.lora.rnk = 2
    return config
""",
            'Key "rnk" does not exist',
        ),
    ],
)
def test_broken_recipe_is_one_sentence(tmp_path, source, reason):
    recipe = tmp_path / "mine.py"
    recipe.write_text(source)
    with pytest.raises(UserError) as error:
        load_config(str(recipe))
    assert "mine.py" in str(error.value) and reason in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_recipe_names_the_nearest(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="no config file 'configs/r1_uproj.py' .did you mean"):
        load_config("configs/r1_uproj.py")
