import json
import pathlib

import pytest

from lora_jax.data.tokenizer import load_tokenizer
from lora_jax.errors import UserError


def test_a_saved_tokenizer_comes_back_with_its_template(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode("bake it") == tokenizer.encode("bake it")
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.eos_token_id == tokenizer.eos_token_id


def test_the_class_named_by_the_checkpoint_is_neither_used_nor_run(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "LlamaTokenizerFast"
    config["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    path.write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    assert load_tokenizer(tmp_path).encode("bake  it") == tokenizer.encode("bake  it")


def test_what_is_missing_or_broken_is_named(tokenizer, tmp_path):
    with pytest.raises(UserError, match="not a directory"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_end_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    pathlib.Path(tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="end-of-sequence"):
        load_tokenizer(tmp_path)
