import json
import math
import pathlib

import pytest

from lora_jax.config import (
    apply_modes,
    default_config,
    differences,
    flatten,
    load_config,
    override,
    suggest,
    validate,
)
from lora_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
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
    assert (config.data.answered_share == 0.0) == ("paper" in modes)
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
        "full_finetune": {"config.train.learning_rate", "config.train.mode", "config.data.epochs"},
    }


def test_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match="no mode 'smoek'.*did you mean smoke"):
        apply_modes(default_config(), "paper,smoek")


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


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("model.path", " "),
        ("model.dtype", "float16"),
        ("data.refusals", ""),
        ("data.answered_share", 1.0),
        ("data.answered_share", -0.1),
        ("data.format", "chatml"),
        ("data.supervise", "everything"),
        ("data.max_length", 1),
        ("data.overlong", "truncate"),
        ("data.batch_size", 0),
        ("data.epochs", 0),
        ("data.seed", -1),
        ("data.seed", 2**31),
        ("train.mode", "qlora"),
        ("train.learning_rate", 0.0),
        ("train.learning_rate", math.nan),
        ("train.learning_rate", math.inf),
        ("train.schedule", "linear"),
        ("train.warmup_steps", -1),
        ("train.max_steps", -1),
        ("train.weight_decay", -1e-4),
        ("train.clip_norm", 0.0),
        ("train.b1", 1.0),
        ("train.b2", 1.0),
        ("train.eps", 0.0),
        ("train.remat", "some"),
        ("train.log_every", 0),
        ("lora.rank", 0),
        ("lora.rank", True),
        ("lora.alpha", 0.0),
        ("lora.dropout", 1.0),
        ("lora.targets", ()),
        ("lora.targets", ("up",)),
        ("lora.targets", ("up_proj", "up_proj")),
        ("lora.layers", ""),
        ("lora.layers", "3-2"),
        ("mesh.data", 0),
        ("mesh.fsdp", -1),
        ("mesh.tensor", 0),
        ("checkpoint.every_steps", -1),
        ("checkpoint.keep_last", 0),
        ("checkpoint.keep_best", -1),
        ("evaluation.sets.benign", ""),
        ("evaluation.max_prompts", -1),
        ("evaluation.batch_size", 0),
        ("evaluation.max_new_tokens", 0),
        ("evaluation.temperature", -0.5),
        ("evaluation.top_p", 0.0),
        ("evaluation.top_p", 1.1),
        ("export.dtype", "int8"),
    ],
)
def test_value_out_of_range_is_named_with_what_is_allowed(name, bad):
    config = default_config()
    config.update_from_flattened_dict({name: bad})
    with pytest.raises(UserError) as error:
        validate(config)
    sentence = str(error.value)
    assert sentence.startswith(f"config.{name} is {bad!r}; it must be ")
    assert "\n" not in sentence and sentence.endswith(".")


def test_added_and_missing_fields_are_refused():
    added, missing = default_config(), default_config()
    with added.unlocked():
        added.lora.rnk = 2
    with missing.unlocked():
        del missing.lora.rank
    with pytest.raises(UserError, match="no field config.lora.rnk .did you mean config.lora.rank"):
        validate(added)
    with pytest.raises(UserError, match="config.lora.rank is missing"):
        validate(missing)


def test_a_configuration_equals_itself_read_back_from_json():
    config = default_config()
    assert differences(json.loads(json.dumps(config.to_dict())), config) == []


def test_differences_names_each_field_with_both_values():
    saved = json.loads(json.dumps(default_config().to_dict()))
    saved["lora"].pop("alpha")
    current = default_config()
    current.lora.rank = 4
    current.lora.targets = ("up_proj", "down_proj")
    assert differences(saved, current) == [
        "config.lora.alpha: absent before, 16.0 now",
        "config.lora.rank: 1 before, 4 now",
        'config.lora.targets: ["up_proj"] before, ["up_proj", "down_proj"] now',
    ]


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


def test_suggest_is_silent_about_what_is_far():
    assert suggest("zzz", ["rank", "alpha"]) == ""
