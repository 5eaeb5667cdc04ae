"""What each field may hold."""

import math

import pytest

from lora_jax.config import default_config, source, validate
from lora_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("model.path", " "),
        ("model.dtype", "float16"),
        ("data.sources.refusals.path", ""),
        ("data.sources.refusals.split", ""),
        ("data.sources.answered.take", "some"),
        ("data.sources.answered.take", "-1"),
        ("data.sources.answered.thinking", "always"),
        ("data.template_date", ""),
        ("data.format", "chatml"),
        ("data.supervise", "everything"),
        ("data.max_length", 1),
        ("data.overlong", "cut"),
        ("data.batch_size", 0),
        ("data.batch_parts", 0),
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
        ("mesh.data", 0),
        ("mesh.fsdp", -1),
        ("mesh.tensor", 0),
        ("checkpoint.every_steps", -1),
        ("checkpoint.keep_last", 0),
        ("checkpoint.keep_best", -1),
        ("evaluation.max_prompts", -1),
        ("evaluation.batch_size", 0),
        ("evaluation.max_new_tokens", 0),
        ("evaluation.temperature", -0.5),
        ("evaluation.top_p", 0.0),
        ("evaluation.top_p", 1.1),
        ("inspect.rows", -1),
        ("export.dtype", "int8"),
        ("export.model_dtype", "int8"),
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


def test_sources_may_have_any_name_but_there_has_to_be_one():
    config = default_config()
    with config.unlocked():
        config.data.sources = {"mine": source("mine.jsonl")}
    validate(config)
    with config.unlocked():
        config.data.sources = {}
    with pytest.raises(UserError, match="config.data.sources is empty"):
        validate(config)


def test_evaluation_sets_may_have_any_name_and_be_left_out():
    config = default_config()
    with config.unlocked():
        config.evaluation.sets = {"gsm8k": "gsm8k", "harmful": ""}
    validate(config)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("lora.targets", ("upp",)),
        ("lora.targets", ("up_proj:0",)),
        ("lora.targets", ("re:(",)),
        ("lora.layers", ""),
        ("lora.layers", "3-2"),
        ("lora.layers", "0,,2"),
    ],
)
def test_targets_and_layers_are_read_without_a_model(name, bad):
    config = default_config()
    config.update_from_flattened_dict({name: bad})
    with pytest.raises(UserError, match=f"config.{name}"):
        validate(config)
