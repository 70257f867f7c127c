"""`push` through the real huggingface_hub client to a stand-in for the Hub on this machine.

It speaks the endpoints that a push uses: create, settings, refs, tree, preupload, LFS batch and
upload, commit, tag, branch, resolve. Large files go by LFS: the Xet store has no stand-in.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from egotriad.manifests.errors import PushError, PushInterrupted
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_simulated import Simulated
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.push import push
from egotriad.pipelines.push_plan import MARKERS, PushConfig

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("datasets")

# huggingface_hub's own way of sending a file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "user/shards"
TOKEN = "hf_" + "stand-in"


class Repository:
    """The state of one dataset repository: settings, commits, references, stored large files."""

    def __init__(self) -> None:
        self.exists = False
        self.settings: dict[str, Any] = {"visibility": "public", "gated": False}
        self.commits: list[dict[str, dict[str, Any]]] = [{}]
        self.branches = {"main": 0}
        self.tags: dict[str, int] = {}
        self.stored: dict[str, bytes] = {}
        self.log: list[str] = []
        self.refuse_storage_after: int | None = None
        self.token_is_good = True

    def oid(self, number: int) -> str:
        return f"{number:040x}"

    def number(self, revision: str) -> int:
        known = self.branches | self.tags
        return known[revision] if revision in known else int(revision, 16)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        entries = self.commits[self.number(revision)]
        return {p: self.stored[e["sha256"]] if e["lfs"] else e["data"] for p, e in entries.items()}


class Handler(BaseHTTPRequestHandler):
    """Routes of the Hub, each a method named after what it does."""

    protocol_version = "HTTP/1.1"
    repository: Repository

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.route()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

    def route(self) -> None:
        repository = self.repository
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        api = f"/api/datasets/{REPO}"
        tail = path.removeprefix(api).strip("/").split("/", 1)
        repository.log.append(f"{self.command} {path}")
        if not path.startswith("/storage/"):
            if not repository.token_is_good:
                return self.answer({"error": "Invalid username or password."}, 401)
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({})
        if path.startswith(f"/datasets/{REPO}/resolve/"):
            return self.resolve(path.removeprefix(f"/datasets/{REPO}/resolve/"))
        if path == f"/datasets/{REPO}.git/info/lfs/objects/batch":
            return self.batch(json.loads(body))
        if path.startswith("/storage/"):
            return self.store(path.rpartition("/")[2], body)
        if path.startswith(api):
            action = getattr(self, f"do_{tail[0] or 'info'}")
            return action(tail[1] if len(tail) > 1 else "", body)
        return self.answer({"error": f"no route {path}"}, 404)

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def create(self, given: dict[str, Any]) -> None:
        url = f"http://{self.headers['Host']}/datasets/{REPO}"
        if self.repository.exists:
            return self.answer({"error": "You already created this repo", "url": url}, 409)
        self.repository.exists = True
        private = given.get("private") or given.get("visibility") == "private"
        self.repository.settings["visibility"] = "private" if private else "public"
        return self.answer({"url": url})

    def do_info(self, _: str, body: bytes) -> None:
        self.do_revision("main", body)

    def do_revision(self, revision: str, _: bytes) -> None:
        repository = self.repository
        facts = {
            "id": REPO,
            "sha": repository.oid(repository.number(revision)),
            "private": repository.settings["visibility"] == "private",
            "gated": repository.settings["gated"],
        }
        self.answer(facts)

    def do_settings(self, _: str, body: bytes) -> None:
        self.repository.settings |= json.loads(body)
        self.answer({})

    def do_refs(self, _: str, body: bytes) -> None:
        repository = self.repository

        def listed(kind: str, names: dict[str, int]) -> list[dict[str, str]]:
            return [
                {"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": repository.oid(number)}
                for n, number in names.items()
            ]

        heads, tags = listed("heads", repository.branches), listed("tags", repository.tags)
        self.answer({"branches": heads, "converts": [], "tags": tags})

    def do_tree(self, revision: str, _: bytes) -> None:
        entries = self.repository.commits[self.repository.number(revision.split("/")[0])]
        self.answer([listing(path, entry) for path, entry in sorted(entries.items())])

    def do_preupload(self, revision: str, body: bytes) -> None:
        entries = self.repository.commits[self.repository.number(revision)]
        self.answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                        "shouldIgnore": False,
                        "oid": remote_oid(entries.get(file["path"])),
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def batch(self, given: dict[str, Any]) -> None:
        objects = []
        for item in given["objects"]:
            href = f"http://{self.headers['Host']}/storage/{item['oid']}"
            known = item["oid"] in self.repository.stored
            objects.append(item if known else item | {"actions": {"upload": {"href": href}}})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str, body: bytes) -> None:
        repository = self.repository
        left = repository.refuse_storage_after
        if left is not None and len(repository.stored) >= left:
            return self.answer({"error": "out of order"}, 503)
        assert hashlib.sha256(body).hexdigest() == oid
        repository.stored[oid] = body
        return self.answer({})

    def do_commit(self, revision: str, body: bytes) -> None:
        repository = self.repository
        files = dict(repository.commits[repository.branches[revision]])
        for line in body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                data = base64.b64decode(value["content"])
                files[value["path"]] = {"lfs": False, "data": data}
            elif item["key"] == "lfsFile":
                assert value["oid"] in repository.stored, "committed before it was stored"
                size = len(repository.stored[value["oid"]])
                files[value["path"]] = {"lfs": True, "sha256": value["oid"], "size": size}
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits.append(files)
        repository.branches[revision] = len(repository.commits) - 1
        oid = repository.oid(len(repository.commits) - 1)
        self.answer({"commitUrl": f"http://{self.headers['Host']}/c/{oid}", "commitOid": oid})

    def do_tag(self, revision: str, body: bytes) -> None:
        self.repository.tags[json.loads(body)["tag"]] = self.repository.number(revision)
        self.answer({})

    def do_branch(self, name: str, _: bytes) -> None:
        if name in self.repository.branches:
            return self.answer({"error": "exists"}, 409)
        self.repository.branches[name] = self.repository.branches["main"]
        return self.answer({})

    def resolve(self, where: str) -> None:
        revision, _, path = where.partition("/")
        data = self.repository.files(revision)[path]
        digest = hashlib.sha1(data).hexdigest()
        commit = self.repository.oid(self.repository.number(revision))
        self.answer(data, ETag=f'"{digest}"', X_Repo_Commit=commit)


def listing(path: str, entry: dict[str, Any]) -> dict[str, Any]:
    if entry["lfs"]:
        lfs = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 130}
        pointer = {"type": "file", "path": path, "size": entry["size"], "oid": "0" * 40}
        return pointer | {"lfs": lfs}
    return {"type": "file", "path": path, "size": len(entry["data"]), "oid": remote_oid(entry)}


def remote_oid(entry: dict[str, Any] | None) -> str | None:
    if entry is None:
        return None
    if entry["lfs"]:
        return str(entry["sha256"])
    return hashlib.sha1(b"blob %d\0" % len(entry["data"]) + entry["data"]).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Repository]]:
    """(client, repository) of a stand-in that listens on this machine."""
    repository = Repository()
    handler = type("Bound", (Handler,), {"repository": repository})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    huggingface_hub.utils.disable_progress_bars()
    yield huggingface_hub.HfApi(endpoint=url, token=TOKEN), repository
    huggingface_hub.utils.enable_progress_bars()
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds of a tiny world, with windows of different length."""
    root = tmp_path_factory.mktemp("builds")
    options = Simulated().fake(root / "raw")
    for seconds in (4.5, 2.0):
        config = BuildConfig(**(dict(Simulated.build_defaults) | {"window_s": seconds}))
        build(Simulated(), options, config, raw=root / "raw", out=root / f"{seconds}", workers=1)
    return [root / "4.5", root / "2.0"]


def send(folder: Path, api: Any, **given: Any) -> Any:
    return push(folder, PushConfig(repo_id=REPO, **given), api=api, verify=lambda folder: [])


def listed(folder: Path) -> dict[str, bytes]:
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return {n: (folder / n).read_bytes() for n in [*names, "SHA256SUMS", "provenance.json"]}


def test_a_build_arrives_byte_for_byte_private_gated_and_tagged(
    hub: tuple[Any, Repository], builds: list[Path]
) -> None:
    api, repository = hub
    report = send(builds[0], api)
    assert repository.files("v1.0.0") == listed(builds[0])
    assert repository.settings == {"visibility": "private", "gated": "manual"}
    assert repository.oid(repository.tags["v1.0.0"]) == report.commit
    settings = repository.log.index(f"PUT /api/datasets/{REPO}/settings")
    first_data = next(k for k, line in enumerate(repository.log) if "preupload" in line)
    assert settings < first_data
    commits = [set(files) for files in repository.commits[1:]]
    assert commits[0] == {"README.md"}
    assert not commits[1] & set(MARKERS)
    assert len(commits) == 3
    repository.log.clear()
    again = send(builds[0], api)
    assert (again.sent, again.commit) == (0, report.commit)
    assert not [line for line in repository.log if "preupload" in line or "/commit/" in line]


def test_storage_that_fails_midway_leaves_no_complete_revision_and_resumes(
    hub: tuple[Any, Repository], builds: list[Path]
) -> None:
    api, repository = hub
    repository.refuse_storage_after = 1
    with pytest.raises(PushInterrupted, match=r"503.*run the same command again"):
        send(builds[0], api)
    assert not set(MARKERS) & set(repository.files())
    assert repository.tags == {}
    sent_before = set(repository.stored)
    assert sent_before
    repository.refuse_storage_after = None
    repository.log.clear()
    send(builds[0], api)
    assert repository.files("v1.0.0") == listed(builds[0])
    assert not [oid for oid in sent_before if f"PUT /storage/{oid}" in repository.log]


def test_another_build_replaces_the_old_one_whose_tag_still_gives_it(
    hub: tuple[Any, Repository], builds: list[Path]
) -> None:
    api, repository = hub
    send(builds[0], api)
    before = len(repository.commits)
    send(builds[1], api, version="1.1.0")
    for files in repository.commits[before:-1]:
        assert not set(MARKERS) & set(files)
    assert repository.files("v1.0.0") == listed(builds[0])
    assert repository.files("v1.1.0") == repository.files("main") == listed(builds[1])


def test_a_token_without_rights_is_told_to_log_in(
    hub: tuple[Any, Repository], builds: list[Path]
) -> None:
    api, repository = hub
    repository.token_is_good = False
    with pytest.raises(PushError, match="hf auth login"):
        send(builds[0], api)
    assert repository.commits == [{}]
