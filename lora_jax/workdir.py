"""The directory of a run: one configuration, one process at a time, and whole files only."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections

from lora_jax.config import default_config, differences
from lora_jax.errors import UserError

INSPECTION = "inspection"  # What `--job=inspect` writes; a configuration may change after it.
PLAN = "plan"  # What `--job=plan` writes, likewise.
_CONFIG = "config.json"
_LOCK = ".lock"
# What a run leaves that only looked at its data, refused it, or was killed before it made anything.
_NOTHING_YET = {_CONFIG, _LOCK, f".{_CONFIG}.partial", INSPECTION, PLAN}
# Sections that say how a run is shown and handed over, and not what it is.
_FREE = ("inspect", "plan", "export")

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, or choose another --workdir",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another --workdir",
    errno.EACCES: "there is no permission; give it, or choose another path",
    errno.EPERM: "there is no permission; give it, or choose another path",
    errno.EROFS: "the file system is read-only; choose another --workdir",
}


@contextlib.contextmanager
def open_workdir(
    path: str | os.PathLike[str], config: ml_collections.ConfigDict
) -> Iterator[pathlib.Path]:
    """Make a directory this run's own, or enter it again to resume.

    The directory stays locked against other processes until the context ends, or this process does.

    Args:
      path: a directory that may not exist yet.
      config: of the run, written to `config.json` where there is none.

    Yields:
      The directory.

    Raises:
      UserError: if the path is not a directory, holds something else, belongs to another
        configuration, or is in use.
    """
    workdir = pathlib.Path(path)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"workdir '{workdir}' cannot be made ({error.strerror}); choose another with --workdir."
        ) from None
    _saved_config(workdir)  # refuses a directory that is not a run's, before the lock touches it
    with _locked(workdir):
        _claim(workdir, config)
        yield workdir


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, whole.

    Args:
      path: of the file, in a directory that exists.
      content: text is written as UTF-8.

    Raises:
      OSError: carrying the path; the old file, if any, is then unchanged.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        # Failing writes, unlike failing opens, do not say of which file.
        error.filename = str(path)
        raise


def explain_refusal(error: BaseException, workdir: pathlib.Path) -> str | None:
    """Put the system's refusal to read or write, however deep it was met, into one sentence.

    Libraries that write in C++ or Rust report a full disk as their own error, with the system's
    words in the message, so those words are looked for as well.

    Args:
      error: what ended the run.
      workdir: named where the error does not say which file it was.

    Returns:
      The sentence, or None if the error is about something else.
    """
    while error is not None:
        for code, reason in _REASONS.items():
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                path = getattr(error, "filename", None) or workdir
                return f"cannot use '{path}': {reason}."
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def saved_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Read the configuration of a run that was made before.

    Raises:
      UserError: if there is no such run.
    """
    saved = _saved_config(workdir) if workdir.is_dir() else None
    if saved is None:
        raise UserError(f"there is no run in '{workdir}'; check --workdir, or add --config=FILE.")
    return saved


def _saved_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    file = workdir / _CONFIG
    if not file.exists():
        if _contents(workdir) <= _NOTHING_YET:
            return None
        raise UserError(
            f"workdir '{workdir}' holds files but no {_CONFIG}, so it is not a run's; "
            "choose another with --workdir."
        )
    try:
        saved = json.loads(file.read_text())
    except ValueError:
        saved = None
    # Many programs have a config.json; a Hugging Face model, for one.
    if not isinstance(saved, dict) or saved.keys() != set(default_config()):
        raise UserError(
            f"'{file}' is not a run's configuration; choose another directory with --workdir."
        )
    return saved


def _contents(workdir: pathlib.Path) -> set[str]:
    return {entry.name for entry in workdir.iterdir()}


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
    with open(workdir / _LOCK, "a+") as file:
        try:
            # Unlike flock, this lock is not inherited by forked data workers, which may outlive a
            # killed run and would keep its workdir locked.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise UserError(
                f"workdir '{workdir}' is in use by process {pid}; wait until it ends, or choose "
                "another with --workdir."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    saved = _saved_config(workdir)
    changed = [] if saved is None else differences(saved, config, but=_FREE)
    # A run that made nothing most likely ended by a mistake in its configuration, now corrected.
    if changed and not _contents(workdir) <= _NOTHING_YET:
        raise UserError(
            f"workdir '{workdir}' belongs to a run with another configuration "
            f"({'; '.join(changed)}); give the same one to resume, or choose another with --workdir."
        )
    if saved is None or differences(saved, config):
        write_atomically(workdir / _CONFIG, json.dumps(config.to_dict(), indent=2) + "\n")


def _sync_directory(path: pathlib.Path) -> None:
    # Without this, a power cut may undo the rename although the file's content is on the disk.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
