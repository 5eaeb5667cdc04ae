"""What only another process, or the system, can bring about."""

import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

import main
from lora_jax.workdir import open_workdir
from tests.jobs.bad_input.cases import assert_one_sentence, good_config

ROOT = pathlib.Path(main.__file__).parent


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


def test_dataset_without_a_network(site):
    site.fields["data.sources.refusals.path"] = "nobody/nothing"
    run = run_command(site, HF_HUB_OFFLINE="1", HF_HOME=str(site.root / "hub"))
    assert_one_sentence(run.returncode, run.stdout, run.stderr, "nobody/nothing")


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
