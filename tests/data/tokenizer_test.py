import json

import pytest

from lora_jax.data.tokenizer import load_tokenizer, stop_tokens
from lora_jax.errors import UserError


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_tokenizer_comes_back_with_its_template(tokenizer, saved):
    loaded = load_tokenizer(saved)
    assert loaded.encode("bake it") == tokenizer.encode("bake it")
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.eos_token_id == tokenizer.eos_token_id


def test_the_class_named_by_the_checkpoint_is_neither_used_nor_run(tokenizer, saved):
    edit(
        saved / "tokenizer_config.json",
        tokenizer_class="LlamaTokenizerFast",
        auto_map={"AutoTokenizer": ["evil.Tokenizer", None]},
    )
    (saved / "evil.py").write_text("raise SystemExit('run')")
    assert load_tokenizer(saved).encode("bake  it") == tokenizer.encode("bake  it")


def test_a_directory_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(UserError, match="not a directory"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("tokenizer.json", "{broken", "cannot be read"),
        ("tokenizer.json", "{}", "cannot be read"),
        ("tokenizer.json", "[" * 100_000, "cannot be read"),
        ("tokenizer_config.json", "{broken", r"tokenizer_config\.json is not valid JSON"),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json is a JSON list"),
        ("tokenizer_config.json", "\udcff", r"tokenizer_config\.json is not valid JSON"),
    ],
)
def test_broken_files_are_one_sentence(saved, file, text, complaint):
    (saved / file).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=complaint) as caught:
        load_tokenizer(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token", "unk_token"])
def test_special_tokens_that_the_vocabulary_lacks_are_named(saved, name):
    edit(saved / "tokenizer_config.json", **{name: "<|new|>"})
    with pytest.raises(UserError, match=rf"{name} is '<\|new\|>', which tokenizer.json does not"):
        load_tokenizer(saved)


@pytest.mark.parametrize("value", [3, ["<eos>"]])
def test_special_tokens_of_other_types_are_refused(saved, value):
    edit(saved / "tokenizer_config.json", eos_token=value)
    with pytest.raises(UserError, match="tokenizer") as caught:
        load_tokenizer(saved)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_end_is_refused(saved):
    edit(saved / "tokenizer_config.json", eos_token=None)
    with pytest.raises(UserError, match="end-of-sequence"):
        load_tokenizer(saved)
    (saved / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="end-of-sequence"):
        load_tokenizer(saved)


@pytest.mark.parametrize(
    ("named", "stops"), [(None, (1,)), (1, (1,)), (5, (1, 5)), ([4, 1, 4], (1, 4)), ([], (1,))]
)
def test_a_model_stops_wherever_its_files_say(tokenizer, tmp_path, named, stops):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    assert stop_tokens(tokenizer, tmp_path) == stops


def test_a_model_stops_at_the_end_of_a_turn_and_of_the_text(family, tmp_path):
    tokenizer = family("llama3")
    ends = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert stop_tokens(tokenizer, tmp_path) == tuple(sorted(ends))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{broken", "is not valid JSON"),
        ("[1]", "is a JSON list"),
        ('{"eos_token_id": "1"}', "eos_token_id is '1'"),
        ('{"eos_token_id": true}', "eos_token_id is True"),
        ('{"eos_token_id": [1, 2.5]}', r"eos_token_id is \[1, 2.5\]"),
        ('{"eos_token_id": -1}', "has the ids 0 to 299"),
        ('{"eos_token_id": [1, 300]}', "has the ids 0 to 299"),
    ],
)
def test_broken_generation_configs_are_one_sentence(tokenizer, tmp_path, text, complaint):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match=complaint) as caught:
        stop_tokens(tokenizer, tmp_path)
    assert "generation_config.json" in str(caught.value)
    assert "\n" not in str(caught.value)
