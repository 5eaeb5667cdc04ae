"""Models are found locally or on the hub; what is neither is told in one sentence."""

import huggingface_hub
import pytest

from lora_jax.errors import UserError
from lora_jax.models import hub

HUB_ID = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


@pytest.fixture
def download(monkeypatch, tmp_path):
    """Stand in for the hub: record what is asked of it, and fail with `calls.error` if set."""

    class Download:
        def __init__(self):
            self.error, self.asked = None, []

        def __call__(self, repository, **options):
            if self.error is not None:
                raise self.error
            self.asked.append((repository, options))
            return str(tmp_path / "snapshot")

    stand_in = Download()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    return stand_in


def test_local_directory_needs_no_hub(download, tmp_path):
    download.error = AssertionError("the hub was asked")
    assert hub.locate(str(tmp_path)) == tmp_path


def test_home_is_expanded(download, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert hub.locate("~/model") == tmp_path / "model"


@pytest.mark.parametrize(("revision", "asked"), [("", None), ("v1.0", "v1.0")])
def test_hub_is_asked_for_weights_and_tokenizer_but_no_pickles(download, tmp_path, revision, asked):
    assert hub.locate(HUB_ID, revision) == tmp_path / "snapshot"
    [(repository, options)] = download.asked
    assert (repository, options["revision"]) == (HUB_ID, asked)
    patterns = options["allow_patterns"]
    assert {"*.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(
        patterns
    )
    assert not any("bin" in pattern or pattern == "*" for pattern in patterns)


@pytest.mark.parametrize(
    "error",
    [
        OSError("no connection\nmore about it"),
        huggingface_hub.errors.LocalEntryNotFoundError("nothing in the cache"),
        huggingface_hub.errors.HFValidationError("bad id"),
        RuntimeError(),
    ],
)
def test_failing_hub_is_one_sentence(download, error):
    download.error = error
    with pytest.raises(UserError, match="check the name, or the connection") as refusal:
        hub.locate(HUB_ID)
    assert HUB_ID in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["./absent", "/absent/model", "a/b/c", "with space/model"])
def test_path_that_can_be_no_hub_id_is_not_sent_there(download, path):
    download.error = AssertionError("the hub was asked")
    with pytest.raises(UserError, match="does not exist"):
        hub.locate(path)


def test_file_is_not_a_directory(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="is a file; give the model's directory"):
        hub.locate(str(tmp_path / "model.safetensors"))
