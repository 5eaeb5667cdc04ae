import json
import os
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from lora_jax.errors import UserError
from lora_jax.training.metrics import MetricsWriter, read_metrics


def row(step, loss=None):
    return {"step": step, "epoch": 0, "loss": loss if loss is not None else 1 / (step + 1)}


def write_run(workdir, first, last):
    writer = MetricsWriter(workdir)
    writer.truncate_after(first - 1)
    for step in range(first, last + 1):
        writer.write(row(step))


def read_board(workdir):
    """Read (step, name, value) back: a record is its length, a checksum, an event, a checksum."""
    scalars = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            body = content[12 : 12 + length]
            checksums = content[8:12] + content[12 + length : 16 + length]
            expected = masked_crc32c(content[:8]), masked_crc32c(body)
            assert struct.unpack("<II", checksums) == expected
            event = Event.FromString(body)
            scalars += [
                (event.step, value.tag, value.simple_value) for value in event.summary.value
            ]
            content = content[16 + length :]
    return scalars


def test_rows_are_readable_at_once(tmp_path):
    write_run(tmp_path, 1, 3)
    assert read_metrics(tmp_path / "metrics.jsonl") == [row(1), row(2), row(3)]
    assert {step for step, *_ in read_board(tmp_path)} == {1, 2, 3}


def test_array_scalars_become_numbers(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write({"step": np.int32(4), "loss": np.float32(0.5)})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 4, "loss": 0.5}\n'


@pytest.mark.parametrize("torn", ["", '{"step": 9, "lo', '{"step": 9, "loss": 0.1}'])
def test_resumed_file_equals_an_uninterrupted_one(tmp_path, torn):
    (tmp_path / "whole").mkdir()
    (tmp_path / "resumed").mkdir()
    write_run(tmp_path / "whole", 1, 12)
    write_run(tmp_path / "resumed", 1, 8)
    with open(tmp_path / "resumed" / "metrics.jsonl", "a") as file:
        file.write(torn)
    write_run(tmp_path / "resumed", 6, 12)  # the last save was that of step 5
    whole, resumed = (tmp_path / name / "metrics.jsonl" for name in ("whole", "resumed"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_tensorboard_shows_a_resumed_run_like_an_uninterrupted_one(tmp_path):
    write_run(tmp_path, 1, 8)
    write_run(tmp_path, 6, 12)
    losses = [(step, value) for step, name, value in read_board(tmp_path) if name == "loss"]
    assert losses == [(step, pytest.approx(1 / (step + 1))) for step in range(1, 13)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_full_disk_is_an_error_at_once_that_names_the_file(tmp_path, full):
    write_run(tmp_path, 1, 1)
    writer = MetricsWriter(tmp_path)
    writer.write(row(2))
    path = writer._board if full == "tensorboard" else tmp_path / full
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        writer.write(row(3))
    assert caught.value.filename == str(path)


def test_run_from_the_beginning_keeps_no_rows(tmp_path):
    write_run(tmp_path, 1, 5)
    MetricsWriter(tmp_path).truncate_after(0)
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("broken", ["nonsense", "[1]", '{"loss": 1}', '{"step": 2'])
def test_broken_row_in_the_middle_is_named_and_kept(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    content = json.dumps(row(1)) + "\n" + broken + "\n" + json.dumps(row(3)) + "\n"
    path.write_text(content)
    with pytest.raises(UserError, match="metrics.jsonl' line 2"):
        MetricsWriter(tmp_path).truncate_after(5)
    assert path.read_text() == content
