import errno
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

import main
from lora_jax.errors import UserError

ROOT = pathlib.Path(main.__file__).parent
RECIPE = "--config=configs/r1_upproj.py"


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A job that records its calls, and raises `job.error` if one is set."""
    module = types.ModuleType("lora_jax.jobs.align")
    module.calls, module.error = [], None

    def run(config, workdir):
        module.calls.append((config, workdir))
        if module.error is not None:
            raise module.error

    module.run = run
    monkeypatch.setitem(sys.modules, "lora_jax.jobs.align", module)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return module


def assert_refused(capsys, code):
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def test_job_gets_the_overridden_config_and_the_workdir(job):
    assert main.main([f"{RECIPE}:paper", "--config.lora.rank=4", "--workdir=here"]) == 0
    [(config, workdir)] = job.calls
    assert (config.lora.rank, config.data.sources.answered.take) == (4, "0")
    assert workdir == pathlib.Path("here")
    assert json.loads((workdir / "config.json").read_text())["lora"]["rank"] == 4


@pytest.mark.parametrize(
    ("modes", "expected"),
    [("", "runs/r1_upproj"), (":smoke,paper", "runs/r1_upproj-smoke-paper")],
)
def test_default_workdir_is_named_after_recipe_and_modes(job, modes, expected):
    assert main.main([RECIPE + modes]) == 0
    assert job.calls[0][1] == pathlib.Path(expected)


def test_compilation_cache_is_beside_the_workdir_unless_the_user_says_otherwise(job, tmp_path):
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    main.main([RECIPE])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "runs/.compilation_cache")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = "/elsewhere"
    main.main([RECIPE])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--config"),
        (["--config=configs/r1_uproj.py"], "did you mean configs/r1_upproj.py"),
        ([f"{RECIPE}:smok"], "did you mean smoke"),
        ([RECIPE, "--config.lora.rnk=2"], "did you mean config.lora.rank"),
        ([RECIPE, "--config.lora.rank=two"], "config.lora.rank is 'two'"),
        ([RECIPE, "--config.lora.rank=0"], "config.lora.rank is 0"),
        ([RECIPE, "--config.lora.targets=upp"], "config.lora.targets: 'upp' is no projection"),
        (["--workdir=nowhere"], "there is no run in 'nowhere'"),
        ([RECIPE, "--config.lora.rank", "2"], "write --config.lora.rank=VALUE"),
        ([RECIPE, "--workdr=x"], "did you mean --workdir"),
        ([RECIPE, "--job=algn"], "align"),
        ([RECIPE, "smoke"], "'smoke'"),
        ([RECIPE, "--workdir=configs/r1_upproj.py"], "--workdir"),
    ],
)
def test_bad_command_line_is_one_sentence_and_starts_nothing(job, capsys, arguments, expected):
    assert expected in assert_refused(capsys, main.main(arguments))
    assert job.calls == []
    assert not pathlib.Path("runs").exists()


def test_other_config_in_the_same_workdir_is_refused_with_the_fields(job, capsys):
    assert main.main([RECIPE]) == 0
    pathlib.Path("runs/r1_upproj/metrics.jsonl").write_text("")
    sentence = assert_refused(capsys, main.main([RECIPE, "--config.lora.rank=2"]))
    assert "config.lora.rank: 1 before, 2 now" in sentence


def test_user_error_of_a_job_is_one_sentence(job, capsys):
    job.error = UserError("refusals.jsonl row 7 has no prompt; add one.")
    sentence = assert_refused(capsys, main.main([RECIPE]))
    assert sentence == "error: refusals.jsonl row 7 has no prompt; add one.\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a/b"), "'runs/a/b': the disk is"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "'/x': there is no permission"),
        (OSError(errno.EROFS, "Read-only file system"), "'runs/r1_upproj': the file system"),
        (ValueError("RESOURCE_EXHAUSTED: write: No space left on device"), "the disk is full"),
    ],
)
def test_refusal_of_the_system_is_one_sentence(job, capsys, error, expected):
    job.error = error
    assert expected in assert_refused(capsys, main.main([RECIPE]))


def test_a_bug_keeps_its_traceback(job):
    job.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        main.main([RECIPE])


def test_a_run_s_workdir_brings_its_own_config(job):
    assert main.main([RECIPE, "--workdir=here", "--config.lora.rank=4"]) == 0
    assert main.main(["--workdir=here", "--config.export.partners=true"]) == 0
    config = job.calls[1][0]
    assert (config.lora.rank, config.lora.targets) == (4, ("up_proj",))
    assert config.export.partners
    assert json.loads(pathlib.Path("here/config.json").read_text())["export"]["partners"]


def test_interrupt_is_one_line(job, capsys):
    job.error = KeyboardInterrupt()
    assert main.main([RECIPE]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_help_imports_no_jax():
    script = (
        "import sys, main\ntry: main.main(['--help'])\nfinally: assert 'jax' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0 and "--workdir" in result.stdout, result.stderr


def test_the_program_exits_with_2_and_one_line():
    result = subprocess.run(
        [sys.executable, "main.py", RECIPE, "--config.lora.rank=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and "config.lora.rank" in result.stderr
