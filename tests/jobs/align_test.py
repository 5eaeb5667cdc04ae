"""The whole job, on a model so small that it takes seconds."""

import contextlib
import dataclasses
import io
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import main
from lora_jax.lora.load import load_adapter
from lora_jax.models import checkpoint, decoder
from lora_jax.models.config import read_config
from lora_jax.models.parameters import count
from lora_jax.sharding import make_mesh, parameter_shardings
from lora_jax.training.metrics import read_metrics

MODES = {
    "lora": {"lora.targets": "up_proj,q_proj", "lora.layers": "1-1"},
    "full": {"train.mode": "full", "train.max_steps": 5},
}
LOGGED = {"lora": [2, 4, 6, 8, 10, 12], "full": [2, 4, 5]}


@dataclasses.dataclass
class Run:
    """A run that ended: its site, its mode, and what it said."""

    site: object
    mode: str
    said: str

    @property
    def base(self):
        return self.site.model if self.mode == "lora" else self.site.workdir / "model"

    @property
    def export(self):
        return self.site.workdir / ("adapter" if self.mode == "lora" else "model")


def run_job(site) -> str:
    """Run the command in this process, without a word on standard error, and return what it said."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main.main(site.arguments)
    assert (code, err.getvalue()) == (0, "")
    return out.getvalue()


@pytest.fixture(scope="module", params=MODES)
def run(request, make_site) -> Run:
    site = make_site()
    site.fields |= MODES[request.param]
    return Run(site, request.param, run_job(site))


def our_logits(run: Run, tokens) -> np.ndarray:
    """Return the logits of the exported model, read by our own code."""
    config = read_config(run.base)
    declarations = decoder.declare(config)
    mesh = make_mesh(devices=jax.local_devices()[:1])
    base = checkpoint.load(run.base, declarations, parameter_shardings(declarations, mesh))
    adapter = None
    if run.mode == "lora":
        spec, factors = load_adapter(run.export, declarations, mesh)
        adapter = spec.bind(factors)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = decoder.causal_mask(jnp.ones(tokens.shape, jnp.int32))
    hidden, _ = decoder.hidden_states(config, base, tokens, positions, mask, adapter=adapter)
    return np.asarray(decoder.logits(base, hidden))


def their_logits(run: Run, tokens) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of the exported and of the base model, by transformers and PEFT."""
    base = transformers.AutoModelForCausalLM.from_pretrained(run.site.model, dtype=torch.float32)
    ids = torch.tensor(np.asarray(tokens))
    with torch.no_grad():
        before = base.eval()(ids).logits.numpy()
        if run.mode == "lora":
            trained = peft.PeftModel.from_pretrained(base, run.export)
        else:
            trained = transformers.AutoModelForCausalLM.from_pretrained(
                run.export, dtype=torch.float32
            )
        return trained.eval()(ids).logits.numpy(), before


def test_it_ends_with_a_report_and_its_figures(run):
    report = run.site.workdir / "report.md"
    assert run.said.splitlines()[-1] == f"Report: {report}"
    images = {path.name for path in run.site.workdir.glob("*.png")}
    assert images == {"loss.png", "refusals.png", "safety_reasoning.png"}
    assert all(f"({image})" in report.read_text() for image in images)


def test_plan_counts_what_is_trained(run):
    total = trained = count(decoder.declare(read_config(run.site.model)))
    if run.mode == "lora":
        tensors = load_file(run.export / "adapter_model.safetensors")
        trained = sum(tensor.size for tensor in tensors.values())
        assert trained == 2 * (16 + 24) + 2 * (16 + 16)  # rank x (in + out), of up_proj and q_proj
    plan = " ".join(run.said.replace("│", " ").split())
    assert f"{trained:,} parameters ({trained / total:.3%})" in plan
    assert f"parameters {total:,}" in plan
    assert "12 rows" in plan and f"{LOGGED[run.mode][-1]} of batch 2" in plan


def test_metrics_have_a_row_every_so_many_steps_up_to_the_last(run):
    rows = read_metrics(run.site.workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == LOGGED[run.mode]
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for row in rows)
    rates = [row["learning_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.1 * run.site.fields["train.learning_rate"], "the schedule did not end"


def test_export_is_loaded_by_other_programs_without_a_warning(run):
    tokens = jax.random.randint(jax.random.key(0), (2, 20), 0, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)  # of the two programs to each other
        theirs, before = their_logits(run, tokens)
    np.testing.assert_allclose(our_logits(run, tokens), theirs, atol=1e-4)
    assert np.abs(theirs - before).max() > 1e-2, "training changed nothing, so this tells nothing"


def test_running_again_does_nothing_new_and_reports_the_same(run, monkeypatch):
    def contents():
        return {
            str(path): path.read_bytes()
            for path in run.site.workdir.rglob("*")
            # The writer of TensorBoard's files puts the time into their names and rows.
            if path.is_file() and path.name != ".lock" and "tensorboard" not in path.parts
        }

    def refuse(*arguments):
        raise AssertionError("a finished run samples or trains")

    before = contents()
    monkeypatch.setattr("lora_jax.generation.sampler.Sampler.__call__", refuse)
    monkeypatch.setattr("lora_jax.training.loop.Training._advance", refuse)
    said = run_job(run.site)
    assert contents() == before
    assert said.splitlines()[-1] == run.said.splitlines()[-1]
