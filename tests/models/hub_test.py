"""Models are found locally or on the hub; what is neither is told in one sentence.

The hub is a small server on this machine, so that the hub's own client is what is tested.
"""

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse

import huggingface_hub
import pytest
from huggingface_hub import constants

from lora_jax.errors import UserError
from lora_jax.models import hub

MODEL, GATED, ABSENT = "lab/model", "lab/gated", "lab/absent"
COMMIT, OLDER = "a" * 40, "b" * 40
FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": b"weights again",
    "original/params.json": b"{}",
    "README.md": b"# Model",
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer the few requests that downloading a snapshot takes."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path.strip("/")
        if GATED in path:
            self.refuse(403, "GatedRepo")
        elif MODEL not in path:
            self.refuse(401, "RepoNotFound")
        elif path.startswith("api/models/lab/model/tree/"):
            self.answer([
                {"type": "file", "path": name, "size": len(content), "oid": self.digest(content)}
                for name, content in FILES.items()
            ])  # fmt: skip
        elif path.startswith("api/models"):
            revision = path.partition("/revision/")[2] or "main"
            commits = {"main": COMMIT, "v1.0": OLDER}
            if revision in commits:
                self.answer({"id": MODEL, "sha": commits[revision], "siblings": []})
            else:
                self.refuse(404, "RevisionNotFound")
        else:
            commit, _, name = path.partition("/resolve/")[2].partition("/")
            self.server.sent.append(name)
            headers = {"X-Repo-Commit": commit, "ETag": self.digest(FILES[name])}
            self.answer(FILES[name], headers)

    @staticmethod
    def digest(content):
        return hashlib.sha1(content).hexdigest()

    def answer(self, content, headers=()):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def set_endpoint(monkeypatch, port):
    endpoint = f"http://127.0.0.1:{port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Give an empty cache, and a hub that nothing reaches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    set_endpoint(monkeypatch, port=9)
    return tmp_path / "cache"


@pytest.fixture
def server(cache, monkeypatch):
    """Give a hub whose `sent` lists the files that it was asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.sent = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    set_endpoint(monkeypatch, server.server_port)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write_cached(cache, commit=COMMIT, ref="main"):
    """Lay a snapshot out as the hub's client does."""
    root = cache / "models--lab--model"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes(FILES[name])
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    return snapshot


def test_local_directory_needs_no_hub(tmp_path, cache):
    assert hub.locate(str(tmp_path)) == tmp_path
    assert hub.resolved_revision(tmp_path) == ""


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert hub.locate("~/model") == tmp_path / "model"


def test_local_directory_has_no_revision(tmp_path):
    with pytest.raises(UserError, match=r"revision='v1.0' is for models on the hub"):
        hub.locate(str(tmp_path), "v1.0")


def test_weights_and_tokenizer_are_downloaded_once_and_nothing_else(server):
    directory = hub.locate(MODEL)
    wanted = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in directory.iterdir()} == set(server.sent) == wanted
    assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.resolved_revision(directory) == COMMIT
    server.sent.clear()
    assert hub.locate(MODEL) == directory
    assert not server.sent


def test_weights_stay_where_they_are_if_they_are_not_needed(server):
    directory = hub.locate(MODEL, weights=False)
    assert {path.name for path in directory.iterdir()} == {"config.json", "tokenizer.json"}


def test_progress_is_shown(server, capfd, monkeypatch):
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    hub.locate(MODEL)
    assert "Fetching 3 files" in capfd.readouterr().err


def test_revision_is_honoured(server):
    assert hub.resolved_revision(hub.locate(MODEL, "v1.0")) == OLDER
    assert hub.resolved_revision(hub.locate(MODEL)) == COMMIT


def test_cache_serves_offline(cache, offline):
    newest = write_cached(cache)
    tagged = write_cached(cache, OLDER, "v1.0")
    assert hub.locate(MODEL) == newest
    assert hub.locate(MODEL, "v1.0") == hub.locate(MODEL, OLDER) == tagged


def test_cache_serves_without_a_connection(cache):
    snapshot = write_cached(cache)
    assert hub.locate(MODEL) == snapshot


@pytest.mark.parametrize(
    ("path", "revision", "sentence"),
    [
        (GATED, "", "'lab/gated' is gated on the Hugging Face hub; accept its terms"),
        (ABSENT, "", "'lab/absent' is no local directory and no model on the Hugging Face hub"),
        (MODEL, "v9", "config.model.revision='v9' is no branch, tag or commit of lab/model"),
    ],
)
def test_refusal_of_the_hub_is_one_sentence(server, path, revision, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        hub.locate(path, revision)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("revision", "named"), [("", "cache, and"), ("v1.0", "revision 'v1.0'")])
def test_what_is_not_cached_is_told_offline(cache, offline, revision, named):
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids") as refusal:
        hub.locate(MODEL, revision)
    assert MODEL in str(refusal.value) and named in str(refusal.value)


def test_missing_connection_is_one_sentence(cache):
    with pytest.raises(UserError, match="check the name, or the connection") as refusal:
        hub.locate(MODEL)
    assert MODEL in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("error", [OSError("no space\nmore about it"), RuntimeError()])
def test_any_other_failure_is_one_sentence(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match="did not give a model") as refusal:
        hub.locate(MODEL)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["./absent", "/absent/model", "a/b/c", "with space/model"])
def test_path_that_can_be_no_hub_id_is_not_sent_there(server, path):
    with pytest.raises(UserError, match="does not exist"):
        hub.locate(path)


def test_file_is_not_a_directory(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="is a file; give the model's directory"):
        hub.locate(str(tmp_path / "model.safetensors"))
