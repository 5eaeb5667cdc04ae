"""Names of fields, and two configurations side by side."""

import json

from lora_jax.config import default_config, differences, suggest


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


def test_sections_left_out_do_not_differ():
    current = default_config()
    current.export.partners = True
    current.lora.rank = 4
    assert differences(default_config(), current, but=("export",)) == [
        "config.lora.rank: 1 before, 4 now"
    ]


def test_suggest_is_silent_about_what_is_far():
    assert suggest("zzz", ["rank", "alpha"]) == ""
