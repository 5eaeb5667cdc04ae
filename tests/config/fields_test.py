"""Defaults, recipes and their modes."""

import pathlib

import pytest

from lora_jax.config import apply_modes, default_config, differences, load_config, validate
from lora_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


def test_defaults_are_valid_and_the_papers():
    config = default_config()
    validate(config)
    assert (config.train.learning_rate, config.train.weight_decay, config.train.clip_norm) == (
        5e-5,
        1e-4,
        1.0,
    )
    assert (config.data.batch_size, config.data.epochs, config.data.max_length) == (2, 10, 1024)
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (1, 16.0, 0.05)
    assert config.lora.targets == ("up_proj",)


def test_fields_cannot_be_added():
    with pytest.raises(AttributeError):
        default_config().lora.rnak = 2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("modes", ["", "smoke", "paper", "smoke,paper"])
def test_every_recipe_is_valid_in_every_mode(recipe, modes):
    config = load_config(str(recipe), modes)
    validate(config)
    assert (config.data.sources.answered.take == "0") == ("paper" in modes)
    assert (config.train.max_steps > 0) == ("smoke" in modes)
    assert (config.evaluation.max_prompts > 0) == ("smoke" in modes)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_docstring_gives_its_command(recipe):
    assert f"python main.py --config=configs/{recipe.name}\n" in recipe.read_text()


def test_recipes_differ_from_the_default_only_where_they_should():
    changed = {
        recipe.stem: {
            line.split(":")[0] for line in differences(default_config(), load_config(str(recipe)))
        }
        for recipe in RECIPES
    }
    assert changed == {
        "r1_upproj": {"config.train.learning_rate", "config.data.epochs"},
        "r1_upproj_middle": {
            "config.train.learning_rate",
            "config.data.epochs",
            "config.lora.layers",
        },
        "full_finetune": {
            "config.train.learning_rate",
            "config.train.mode",
            "config.data.epochs",
            "config.export.model_dtype",
        },
    }


def test_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match="no mode 'smoek'.*did you mean smoke"):
        apply_modes(default_config(), "paper,smoek")
