import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from lora_jax.config import default_config
from lora_jax.errors import UserError
from lora_jax.workdir import explain_refusal, open_workdir, write_atomically

HOLD = """
import sys
from lora_jax.config import default_config
from lora_jax.workdir import open_workdir
with open_workdir(sys.argv[1], default_config()):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def read_only_directory():
    """A directory that may be listed but not written to, also where the tests run as root."""
    directory = pathlib.Path(tempfile.mkdtemp())
    directory.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield directory
    os.seteuid(user)
    shutil.rmtree(directory)


@pytest.fixture
def holder(tmp_path):
    """Another process that has `tmp_path / 'run'` open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


def config_with_rank(rank):
    config = default_config()
    config.lora.rank = rank
    return config


def test_new_workdir_holds_the_config(tmp_path):
    with open_workdir(tmp_path / "runs" / "new", default_config()) as workdir:
        assert workdir == tmp_path / "runs" / "new"
        saved = json.loads((workdir / "config.json").read_text())
    assert saved["lora"]["targets"] == ["up_proj"]


def test_same_config_enters_again(tmp_path):
    for _ in range(2):
        with open_workdir(tmp_path / "run", default_config()) as workdir:
            (workdir / "metrics.jsonl").write_text("kept")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "kept"


def test_other_config_is_refused_with_the_fields_and_changes_nothing(tmp_path):
    with open_workdir(tmp_path / "run", config_with_rank(1)) as workdir:
        (workdir / "metrics.jsonl").write_text("")
    before = (workdir / "config.json").read_bytes()
    with (
        pytest.raises(UserError, match="config.lora.rank: 1 before, 2 now"),
        open_workdir(tmp_path / "run", config_with_rank(2)),
    ):
        pass
    assert (workdir / "config.json").read_bytes() == before


def test_other_config_may_replace_a_run_that_made_nothing(tmp_path):
    for rank in (1, 2):
        with open_workdir(tmp_path / "run", config_with_rank(rank)) as workdir:
            pass
    assert json.loads((workdir / "config.json").read_text())["lora"]["rank"] == 2


def test_run_killed_before_its_config_was_whole_starts_again(tmp_path):
    (tmp_path / ".lock").write_text("123")
    (tmp_path / ".config.json.partial").write_text('{"mod')
    with open_workdir(tmp_path, default_config()):
        assert json.loads((tmp_path / "config.json").read_text())


def test_foreign_directory_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a run's"), open_workdir(tmp_path, default_config()):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{", "[1]", '"text"', '{"architectures": ["Qwen2"]}'])
def test_config_json_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with (
        pytest.raises(UserError, match="config.json' is not a run's"),
        open_workdir(tmp_path, default_config()),
    ):
        pass
    assert (tmp_path / "config.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("path", ["file", "file/inside"])
def test_file_in_the_way_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(UserError, match="cannot be made"),
        open_workdir(tmp_path / path, default_config()),
    ):
        pass


def test_workdir_in_use_is_refused_with_the_process(tmp_path, holder):
    with (
        pytest.raises(UserError, match=f"in use by process {holder.pid};"),
        open_workdir(tmp_path / "run", default_config()),
    ):
        pass


def test_lock_ends_with_a_killed_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    with open_workdir(tmp_path / "run", default_config()):
        pass


def test_lock_is_not_kept_by_a_fork_that_outlives_its_run(tmp_path):
    script = HOLD.replace("sys.stdin.read()", "import os, time\n    os.fork() or time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", "import os\nos.setsid()" + script, tmp_path / "run"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    process.wait(timeout=30)
    try:
        with open_workdir(tmp_path / "run", default_config()):
            pass
    finally:
        os.killpg(process.pid, 9)
        process.stdout.close()


def test_no_permission_is_one_sentence(read_only_directory):
    with (
        pytest.raises(UserError, match="cannot be made .Permission denied"),
        open_workdir(read_only_directory / "run", default_config()),
    ):
        pass
    with (
        pytest.raises(PermissionError) as error,
        open_workdir(read_only_directory, default_config()),
    ):
        pass
    sentence = explain_refusal(error.value, read_only_directory)
    assert str(read_only_directory) in sentence and "no permission" in sentence


@pytest.mark.parametrize("content", ["text ±\n", b"\x00bytes"])
def test_write_atomically_replaces_the_whole_file(tmp_path, content):
    path = tmp_path / "report.md"
    path.write_text("a longer text that was here before")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [found.name for found in tmp_path.iterdir()] == ["report.md"]


def test_full_disk_leaves_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "report.md"
    path.write_text("old")
    (tmp_path / ".report.md.partial").symlink_to("/dev/full")  # every write to it is ENOSPC
    with pytest.raises(OSError) as error:
        write_atomically(path, "new")
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    sentence = explain_refusal(error.value, tmp_path)
    assert f"'{path}': the disk is full" in sentence


def test_explanation_looks_through_the_causes_but_leaves_bugs_alone(tmp_path):
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RuntimeError("save failed") from cause
    except RuntimeError as error:
        assert f"'{tmp_path}': the disk is full" in explain_refusal(error, tmp_path)
    assert explain_refusal(ValueError("shape mismatch"), tmp_path) is None
    assert explain_refusal(FileNotFoundError(errno.ENOENT, "No such file"), tmp_path) is None
