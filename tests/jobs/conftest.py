"""A whole job small enough to run in seconds: its model, its data, and its command line."""

import dataclasses
import json
import os
import pathlib
import shutil

import jax
import pytest

import main
from lora_jax.models import checkpoint, decoder
from lora_jax.models.config import parse_config
from lora_jax.models.parameters import initialise
from lora_jax.organism import MODEL_DIRECTORY, resolve

ROOT = pathlib.Path(main.__file__).parent
RECIPE = "--config=configs/r1_upproj.py"
SHAPE = {
    "model_type": "qwen2",
    "vocab_size": 1024,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "eos_token_id": 4,
    "bos_token_id": 1,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclasses.dataclass
class Site:
    """Everything that one run reads and writes, and its command line.

    Attributes:
        root: Directory of the model and the data.
        runs: Directory of the workdir.
        fields: Overridden fields of the config, by dotted name.
        recipe: The first argument.
        extra: Arguments besides.
    """

    root: pathlib.Path
    runs: pathlib.Path
    fields: dict[str, object]
    recipe: str = RECIPE
    extra: tuple[str, ...] = ()

    @property
    def model(self) -> pathlib.Path:
        return self.root / "model"

    @property
    def workdir(self) -> pathlib.Path:
        return self.runs / "run"

    def data(self, name: str) -> pathlib.Path:
        return self.root / "data" / f"{name}.jsonl"

    @property
    def arguments(self) -> list[str]:
        fields = [f"--config.{name}={value}" for name, value in self.fields.items()]
        return [self.recipe, f"--workdir={self.workdir}", *fields, *self.extra]


def write_model(directory: pathlib.Path) -> None:
    """Write a random model, scaled so that what it says depends on what it is asked."""
    directory.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copyfile(MODEL_DIRECTORY / name, directory / name)
    (directory / "config.json").write_text(json.dumps(SHAPE))
    declarations = decoder.declare(parse_config(SHAPE, "SHAPE"))
    drawn = initialise(declarations, jax.random.key(0))
    weights = jax.tree.map(lambda x: 8 * x if x.ndim > 2 else x, drawn)
    checkpoint.save(directory, declarations, weights, source=directory)


def write_site(root: pathlib.Path) -> Site:
    """Write a model and the first rows of the shipped data."""
    write_model(root / "model")
    site = Site(root, root / "runs", {"model.path": root / "model"})
    (root / "data").mkdir()
    sources = {"refusals": 12, "answered": 6} | {
        f"test/{name}": 5 for name in ("harmful", "lookalike", "benign", "problems")
    }
    for source, count in sources.items():
        lines = resolve(f"organism:data/{source}.jsonl").read_text().splitlines()[:count]
        name = source.rpartition("/")[2]
        site.data(name).write_text("\n".join(lines) + "\n")
        field = f"evaluation.sets.{name}" if "/" in source else f"data.sources.{name}.path"
        site.fields[field] = site.data(name)
    site.fields |= {
        "data.sources.refusals.take": "9",
        "data.sources.answered.take": "3",
        "data.epochs": 2,
        "train.learning_rate": 0.01,
        "train.log_every": 2,
        "lora.rank": 2,
        "checkpoint.every_steps": 4,
        "evaluation.batch_size": 4,
        "evaluation.max_new_tokens": 12,
    }
    return site


@pytest.fixture(scope="module")
def make_site(tmp_path_factory):
    """Make runs that would succeed, started from the repository's root on one device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(os, "environ", os.environ.copy())
        # The suite's other devices are for the tests of sharding.
        patch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
        yield lambda: write_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(make_site) -> Site:
    return make_site()


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> pathlib.Path:
    """A compilation cache for all processes of the session."""
    return tmp_path_factory.mktemp("compilation_cache")
