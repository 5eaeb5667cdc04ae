"""Whatever is wrong with the input: one sentence, exit code 2, and a run that can be corrected."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import main
from lora_jax.workdir import open_workdir

ROOT = pathlib.Path(main.__file__).parent


@dataclasses.dataclass
class Case:
    """A way to spoil a run, and what the sentence must name."""

    spoil: Callable
    expected: tuple[str, ...]


CASES: dict[str, Case] = {}


def case(*expected: str):
    """Take a function that spoils a site as a case, named by the function."""

    def register(spoil):
        CASES[spoil.__name__] = Case(spoil, expected)
        return spoil

    return register


def edit_json(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_row(path: pathlib.Path, number: int, edit: Callable[[str], str]) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = edit(lines[number - 1])
    path.write_text("\n".join(lines) + "\n")


def edit_field(path: pathlib.Path, number: int, field: str, value: str | None) -> None:
    def edit(line: str) -> str:
        row = json.loads(line) | {field: value}
        return json.dumps({name: text for name, text in row.items() if text is not None})

    edit_row(path, number, edit)


def edit_tensors(site, edit: Callable[[dict], None]) -> None:
    path = site.model / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


UP = "model.layers.1.mlp.up_proj.weight"


# The model.


@case("config.model.path", "nowhere", "does not exist")
def model_path_does_not_exist(site):
    site.fields["model.path"] = site.root / "nowhere"


@case("config.model.path", "config.json", "is a file")
def model_path_is_a_file(site):
    site.fields["model.path"] = site.model / "config.json"


@case("organism:modle", "organism:model")
def model_path_is_not_in_the_package(site):
    site.fields["model.path"] = "organism:modle"


@case("model/config.json", "model_type 'gpt2'", "qwen2")
def architecture_is_another(site):
    edit_json(site.model / "config.json", model_type="gpt2")


@case("model/config.json", "sliding-window attention")
def attention_slides(site):
    edit_json(site.model / "config.json", use_sliding_window=True)


@case("model/config.json", "rope type 'yarn'")
def positions_are_scaled(site):
    edit_json(site.model / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0})


@case("model/config.json", "hidden_size", "'16'")
def size_is_text(site):
    edit_json(site.model / "config.json", hidden_size="16")


@case("model/config.json", "rms_norm_eps")
def norm_eps_is_text(site):
    edit_json(site.model / "config.json", rms_norm_eps="small")


@case("model/config.json", "head_dim")
def head_width_is_odd(site):
    edit_json(site.model / "config.json", head_dim=7)


@case("model/config.json", "rope_scaling")
def rope_scaling_is_text(site):
    edit_json(site.model / "config.json", rope_scaling="yarn")


@case("model/config.json", "not valid JSON")
def model_config_is_broken(site):
    (site.model / "config.json").write_text('{"model_type": ')


@case("has no config.json")
def model_config_is_missing(site):
    (site.model / "config.json").unlink()


@case("model.safetensors")
def weights_are_missing(site):
    (site.model / "model.safetensors").unlink()


@case("model/model.safetensors", "truncated")
def weights_are_truncated(site):
    path = site.model / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


@case("model-00002-of-00002.safetensors", "missing")
def shard_is_missing(site):
    weights = site.model / "model.safetensors"
    weight_map = dict.fromkeys(load_file(weights), "model-00001-of-00002.safetensors")
    weight_map[UP] = "model-00002-of-00002.safetensors"
    weights.rename(site.model / "model-00001-of-00002.safetensors")
    index = site.model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


@case(UP, "missing")
def tensor_is_missing(site):
    edit_tensors(site, lambda tensors: tensors.pop(UP))


@case("model/model.safetensors", UP, "(24, 15)", "(24, 16)")
def tensor_is_misshapen(site):
    edit_tensors(site, lambda tensors: tensors.update({UP: np.zeros((24, 15), np.float32)}))


@case("model/model.safetensors", UP, "not finite")
def tensor_is_not_finite(site):
    edit_tensors(site, lambda tensors: tensors[UP].put(3, np.nan))


@case("model", "tokenizer.json")
def tokenizer_is_missing(site):
    (site.model / "tokenizer.json").unlink()


@case("model", "cannot be read")
def tokenizer_is_broken(site):
    (site.model / "tokenizer.json").write_text("{}")


@case("model", "no chat template")
def chat_template_is_missing(site):
    (site.model / "chat_template.jinja").unlink()


@case("model", "chat template", "cannot be rendered")
def chat_template_is_broken(site):
    (site.model / "chat_template.jinja").write_text("{% for %}")


@case("tokenizer", "1024", "512")
def tokenizer_is_of_another_model(site):
    edit_json(site.model / "config.json", vocab_size=512)


# The data.


@case("refusals.jsonl", "cannot be read")
def training_file_is_missing(site):
    site.data("refusals").unlink()


@case("refusals.txt", ".jsonl")
def training_file_is_of_another_kind(site):
    site.fields["data.refusals"] = site.data("refusals").rename(site.root / "refusals.txt")


@case("refusals.jsonl row 3", "not valid JSON")
def training_row_is_broken(site):
    edit_row(site.data("refusals"), 3, lambda line: line[:20])


@case("refusals.jsonl", "no rows")
def training_file_is_empty(site):
    site.data("refusals").write_text("")


@case("refusals.jsonl row 4", "'refusal'")
def training_field_is_missing(site):
    edit_field(site.data("refusals"), 4, "refusal", None)


@case("refusals.jsonl row 5", "'prompt'", "empty")
def training_prompt_is_empty(site):
    edit_field(site.data("refusals"), 5, "prompt", "  ")


@case("answered.jsonl row 2", "'response'", "think tags")
def answered_row_has_stray_think_tags(site):
    edit_field(site.data("answered"), 2, "response", "<think>a</think>b</think>c")


@case("refusals.jsonl row", "max_length 40", "overlong")
def training_row_is_too_long(site):
    site.fields["data.max_length"] = 40


@case("harmful.jsonl", "no evaluation set")
def evaluation_set_is_missing(site):
    site.data("harmful").unlink()


@case("lookalike.jsonl", "no rows")
def evaluation_set_is_empty(site):
    site.data("lookalike").write_text("\n")


@case("problems.jsonl row 2", '"answer"', "missing")
def problem_has_no_answer(site):
    edit_field(site.data("problems"), 2, "answer", None)


@case("config.evaluation.max_new_tokens=250", "256 positions")
def samples_do_not_fit_the_model(site):
    site.fields["evaluation.max_new_tokens"] = 250


@case("config.data.max_length", "256 positions")
def training_rows_do_not_fit_the_model(site):
    edit_field(site.data("refusals"), 1, "prompt", "bridge " * 300)


# The recipe and the command line.


@case("config.lora.targets", "'up'", "up_proj")
def target_is_unknown(site):
    site.fields["lora.targets"] = "up"


@case("config.lora.layers", "'1-2'", "layers 0 to 1")
def layers_are_out_of_range(site):
    site.fields["lora.layers"] = "1-2"


@case("config.lora.rank is 0")
def rank_is_zero(site):
    site.fields["lora.rank"] = 0


@case("config.train.learning_rate is -0.1")
def learning_rate_is_negative(site):
    site.fields["train.learning_rate"] = -0.1


@case("config.train.learning_rat", "did you mean config.train.learning_rate?")
def field_is_unknown(site):
    site.fields["train.learning_rat"] = 0.1


@case("config.data.epochs is '1.5'", "whole number")
def value_is_of_another_type(site):
    site.fields["data.epochs"] = 1.5


@case("--job", "'trian'", "align")
def job_is_unknown(site):
    site.extra = ("--job=trian",)


@case("'smok'", "did you mean smoke?")
def mode_is_unknown(site):
    site.recipe += ":smok"


@case("configs/r1_upprojs.py", "did you mean configs/r1_upproj.py?")
def recipe_is_missing(site):
    site.recipe = "--config=configs/r1_upprojs.py"


@case("recipe.py", "SyntaxError")
def recipe_is_no_python(site):
    (site.root / "recipe.py").write_text("def get_config(:")
    site.recipe = f"--config={site.root / 'recipe.py'}"


@case("config.mesh", "tensor=3", "1 devices")
def mesh_does_not_fit(site):
    site.fields["mesh.tensor"] = 3


@case("do not fill one batch of 64")
def batch_is_larger_than_the_data(site):
    site.fields["data.batch_size"] = 64


# The workdir.


@case("config.lora.rank: 4 before, 2 now", "config.lora.alpha: 8.0 before, 16.0 now", "--workdir")
def workdir_is_another_run_s(site):
    config = good_config(site)
    config.lora.rank, config.lora.alpha = 4, 8.0
    with open_workdir(site.workdir, config):
        (site.workdir / "metrics.jsonl").write_text("{}\n")


@case("runs/run", "not a run's", "--workdir")
def workdir_holds_something_else(site):
    site.workdir.mkdir(parents=True)
    (site.workdir / "thesis.tex").write_text("")


@case("model", "not a run's", "--workdir")
def workdir_is_the_model(site):
    site.extra = (f"--workdir={site.model}",)


@case("runs/run", "--workdir")
def workdir_is_a_file(site):
    site.workdir.parent.mkdir()
    site.workdir.write_text("")


OTHERS = {"workdir_is_another_run_s", "workdir_holds_something_else", "workdir_is_a_file"}


def good_config(site) -> ml_collections.ConfigDict:
    """Return the config that the site has before it is spoilt."""
    return main._parse(site.arguments)[1]


def snapshot(directory: pathlib.Path) -> dict[str, bytes]:
    """Return every file's content; a lock's file says only who held it last."""
    return {
        str(path): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def assert_one_sentence(code: int, out: str, err: str, *expected: str) -> None:
    assert code == 2, err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in out + err
    for fragment in expected:
        assert fragment in err


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_leaves_nothing_in_the_way(site, capsys, name):
    good = good_config(site)
    CASES[name].spoil(site)
    before = snapshot(site.root)
    code = main.main(site.arguments)
    assert_one_sentence(code, *capsys.readouterr(), *CASES[name].expected)
    after = snapshot(site.root)
    made = {path for path in after if path not in before}
    assert made <= {str(site.workdir / "config.json")}
    assert {path: after[path] for path in before} == before
    if name not in OTHERS:
        with open_workdir(site.workdir, good):
            pass  # a corrected run gets in


# What only another process, or the system, can bring about.


def run_command(site, command=(), **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*command, sys.executable, "main.py", *site.arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_hub_id_without_a_network(site):
    site.fields["model.path"] = "nobody/nothing"
    run = run_command(site, HF_HUB_OFFLINE="1", HF_HOME=str(site.root / "hub"))
    assert_one_sentence(
        run.returncode, run.stdout, run.stderr, "config.model.path='nobody/nothing'"
    )


def test_heads_that_do_not_divide_over_the_mesh(site, capsys, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:2])
    site.fields |= {"mesh.tensor": 2, "mesh.data": 1}
    code = main.main(site.arguments)
    expected = ("config.mesh.tensor=2", "1 key/value heads")
    assert_one_sentence(code, *capsys.readouterr(), *expected)


def test_workdir_in_use(site):
    with open_workdir(site.workdir, good_config(site)):
        run = run_command(site)
    assert_one_sentence(run.returncode, run.stdout, run.stderr, f"in use by process {os.getpid()}")


@contextlib.contextmanager
def nobody():
    """Give up root's privilege to write everywhere, if this is root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("unwritable", ["parent", "workdir"])
def test_no_permission_to_write(site, capsys, monkeypatch, unwritable):
    site.workdir.mkdir(parents=True)
    locked = site.workdir if unwritable == "workdir" else site.workdir.parent
    if unwritable == "parent":
        site.workdir.rmdir()
    for directory in [site.root, *site.root.parents]:
        if directory.owner() == site.root.owner() and not directory.stat().st_mode & 0o001:
            directory.chmod(0o711)
    locked.chmod(0o555)
    open_as_root = main.open_workdir

    @contextlib.contextmanager
    def open_as_nobody(*arguments):
        with nobody(), open_as_root(*arguments) as workdir:
            yield workdir

    monkeypatch.setattr(main, "open_workdir", open_as_nobody)
    code = main.main(site.arguments)
    assert_one_sentence(code, *capsys.readouterr(), "runs/run", "ermission")
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("call", [1, 2, 3])
def test_disk_that_fills_up_at_a_write(site, capsys, monkeypatch, call):
    calls = 0
    fsync = os.fsync

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code = main.main(site.arguments)
    assert_one_sentence(code, *capsys.readouterr(), str(site.workdir), "the disk is full")
    with open_workdir(site.workdir, good_config(site)):
        assert not list(site.workdir.rglob("*.partial"))


def mounted(options: str, directory: pathlib.Path) -> list[str]:
    """Return a command prefix that sees its own file system at a directory."""
    script = f'mount -t tmpfs -o {options} none "{directory}" && exec "$@"'
    prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("this system does not let its users mount a file system")
    return prefix


def test_read_only_file_system(site):
    site.workdir.parent.mkdir()
    run = run_command(site, mounted("ro", site.workdir.parent))
    assert_one_sentence(run.returncode, run.stdout, run.stderr, "runs", "ead-only")


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 16, 28, 48, 64, 96, 128, 192])
def test_disk_that_is_really_full(site, cache, kilobytes):
    site.workdir.parent.mkdir()
    command = mounted(f"size={kilobytes}k", site.workdir.parent)
    run = run_command(site, command, JAX_COMPILATION_CACHE_DIR=str(cache))
    assert_one_sentence(run.returncode, run.stdout, run.stderr, "runs", "the disk is full")
