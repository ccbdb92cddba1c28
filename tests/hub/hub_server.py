"""A Hub on loopback: repositories, commits, LFS, ETags, ranges and errors, as huggingface_hub calls them.

Large files travel by LFS through a second address with redirects, as on the real Hub. Xet is not spoken: clients run
with HF_HUB_DISABLE_XET=1. What a request did stands in `calls`; `cut` and `answer` make the next fitting ones fail.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".png", ".parquet", ".bin")
TOKEN = "hf_loopback"
KINDS = ("models", "datasets", "spaces")


@dataclass(frozen=True)
class Blob:
    """A file's content. `oid` is git's SHA-1, or the SHA-256 of LFS content."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repo:
    """Every commit is a whole tree; refs name commits."""

    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, Blob], message: str, branch: str = "main") -> str:
        described = json.dumps([message, len(self.commits), {path: blob.oid for path, blob in sorted(files.items())}])
        sha = hashlib.sha1(described.encode()).hexdigest()
        self.commits[sha], self.refs[branch] = files, sha
        self.messages.append(message)
        return sha

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.content for path, blob in self.commits[self.refs.get(revision, revision)].items()}


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD /path" matches the pattern."""

    pattern: re.Pattern
    times: int
    status: int = 0
    cut_after: int | None = None  # bytes of the body, of the request for PUT and POST, else of the answer


class HubServer:
    """with HubServer() as hub: ... hub.url, hub.repo("models", "org/name"), hub.calls."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.lies: dict[str, bytes] = {}  # oid -> what is sent in place of the content
        self.extra_tree: list[dict] = []  # entries that a hostile Hub adds to every listing
        self.lock = threading.RLock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.storage = f"http://localhost:{self.http.server_address[1]}"  # another host, as clients see it

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def repo(self, kind: str, name: str) -> Repo:
        return self.repos[kind, name]

    def add(self, kind: str, name: str, files: dict[str, bytes]) -> str:
        """A repository as if it had been pushed; returns the commit."""
        repo = self.repos.setdefault((kind, name), Repo())
        return repo.commit({path: self.blob(path, content) for path, content in files.items()}, "Added")

    def blob(self, path: str, content: bytes) -> Blob:
        blob = Blob(content, path.endswith(LFS_SUFFIXES))
        if blob.lfs:
            self.lfs[blob.oid] = content
        return blob

    def cut(self, pattern: str, after: int, times: int = 1) -> None:
        """Reset the connection of the next `times` fitting requests after so many bytes of their body."""
        self.faults.append(Fault(re.compile(pattern), times, cut_after=after))

    def answer(self, pattern: str, status: int, times: int = 1) -> None:
        self.faults.append(Fault(re.compile(pattern), times, status=status))

    def fault_for(self, call: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.pattern.search(call):
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        call = f"{self.command} {path}"
        with self.hub.lock:
            self.hub.calls.append(call)
        self.fault = self.hub.fault_for(call)
        try:
            self.body = self.read_body()
            if self.fault and self.fault.status:
                return self.error(self.fault.status, "Injected", "the Hub is not well")
            for pattern, method in ROUTES:
                if found := re.fullmatch(pattern, call):
                    return method(self, **found.groupdict())
            self.hub.unknown.append(call)
            self.error(404, "", f"no such address: {call}")
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    # --- what every answer is made of

    def read_body(self) -> bytes:
        limit = self.fault.cut_after if self.fault and self.command in ("PUT", "POST") else None
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if limit is not None and len(body) > limit:
                    self.reset()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length") or 0)
        if limit is not None and length > limit:
            self.rfile.read(limit)
            self.reset()
        return self.rfile.read(length)

    def reset(self) -> None:
        """Close so that the client sees a connection reset, not an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise ConnectionResetError

    def send(self, content: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.cut_after is not None and len(content) > self.fault.cut_after:
            self.wfile.write(content[: self.fault.cut_after])
            self.wfile.flush()
            self.close_connection = True  # an orderly end in the middle: fewer bytes than promised
            return
        self.wfile.write(content)

    def json(self, value: object, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, **headers)

    def error(self, status: int, code: str, message: str, **headers: str) -> None:
        self.json({"error": message}, status, X_Error_Code=code, X_Error_Message=message, **headers)

    def bytes_of(self, content: bytes, **headers: str) -> None:
        """The content, or the range of it that was asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.send(content, kind="application/octet-stream", Accept_Ranges="bytes", **headers)
        start, stop = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
        if start >= len(content):
            return self.send(b"", 416, Content_Range=f"bytes */{len(content)}")
        shown = f"bytes {start}-{min(stop, len(content)) - 1}/{len(content)}"
        self.send(content[start:stop], 206, "application/octet-stream", Content_Range=shown, **headers)

    @property
    def authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def writable(self, kind: str, name: str) -> Repo | None:
        if not self.authorised:
            return self.error(401, "", "Invalid credentials in Authorization header")
        return self.readable(kind, name)

    def readable(self, kind: str, name: str) -> Repo | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self.authorised):
            return self.error(404 if repo is None else 401, "RepoNotFound", "Repository not found")
        return repo

    def resolved(self, repo: Repo, revision: str) -> str | None:
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # --- accounts and repositories

    def whoami(self) -> None:
        if not self.authorised:
            return self.error(401, "", "Invalid credentials in Authorization header")
        self.json({"type": "user", "name": "someone", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        if not self.authorised:
            return self.error(401, "", "Invalid username or password.")
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        kind = asked.get("type", "model") + "s"
        answer = {"url": f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}", "name": name, "id": name}
        if (kind, name) in self.hub.repos:
            return self.json(answer | {"error": "You already created this repo"}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[kind, name] = repo = Repo(private)
        repo.commit({".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, "initial commit")
        self.json(answer)

    def validate_yaml(self) -> None:
        """What the real Hub objects to in a card's metadata."""
        asked = json.loads(self.body)
        block = re.match(r"---\n(.*?)\n---\n", asked["content"], re.DOTALL)
        try:
            data = yaml.safe_load(block[1]) if block else {}
            for model in data.get("model-index", []):
                assert model["name"]
                for result in model["results"]:
                    assert {"type", "name"} <= set(result["dataset"])
                    assert result["task"]["type"]
                    assert all("type" in metric and "value" in metric for metric in result["metrics"])
        except (yaml.YAMLError, AssertionError, KeyError, TypeError, AttributeError) as wrong:
            return self.json({"errors": [{"message": f"invalid card: {wrong!r}"}], "warnings": []}, 400)
        self.json({"errors": [], "warnings": []})

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        if (repo := self.readable(kind, name)) and (sha := self.resolved(repo, revision)):
            siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
            tags = card_tags(repo.commits[sha])
            self.json(
                {"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": tags,
                 "sdk": "gradio", "downloads": 0, "likes": 0}
            )  # fmt: skip

    def no_registry(self) -> None:
        """The client asks for a list of coding tools to name in its user agent, and does without."""
        self.error(404, "", "no such list here")

    def refs(self, kind: str, name: str) -> None:
        if repo := self.readable(kind, name):
            branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": sha} for b, sha in repo.refs.items()]
            self.json({"branches": branches, "tags": [], "converts": []})

    def branch(self, kind: str, name: str, branch: str) -> None:
        if repo := self.writable(kind, name):
            if branch in repo.refs:
                return self.error(409, "", "Reference already exists")
            repo.refs[branch] = repo.refs["main"]
            self.json({})

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        if (repo := self.readable(kind, name)) and (sha := self.resolved(repo, revision)):
            query = parse_qs(urlsplit(self.path).query)
            deep = query.get("recursive", ["false"])[0].lower() == "true"
            entries = tree_entries(repo.commits[sha], (folder or "").strip("/"), deep)
            if folder and not entries:
                return self.error(404, "EntryNotFound", f"{folder} does not exist")
            self.json(entries + self.hub.extra_tree)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        if (repo := self.readable(kind, name)) and (sha := self.resolved(repo, revision)):
            if "json" in (self.headers.get("Content-Type") or ""):
                wanted = json.loads(self.body)["paths"]
            else:
                wanted = parse_qs(self.body.decode())["paths"]
            entries = tree_entries(repo.commits[sha], "", True, folders=True)
            self.json([entry for entry in entries if entry["path"] in wanted])

    # --- uploads

    def preupload(self, kind: str, name: str, revision: str) -> None:
        if (repo := self.writable(kind, name)) and (sha := self.resolved(repo, revision)):
            known = repo.commits[sha]
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                    "oid": known[file["path"]].oid if file["path"] in known else None,
                }
                for file in json.loads(self.body)["files"]
            ]
            self.json({"files": files})

    def lfs_batch(self, name: str, kind: str | None = None) -> None:
        if self.writable(kind or "models", name):
            objects = []
            for wanted in json.loads(self.body)["objects"]:
                entry = {"oid": wanted["oid"], "size": wanted["size"]}
                if wanted["oid"] not in self.hub.lfs:
                    address = f"{self.hub.storage}/lfs/{wanted['oid']}"
                    entry["actions"] = {"upload": {"href": address}, "verify": {"href": address + "/verify"}}
                objects.append(entry)
            self.json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.error(400, "", "the content does not have the checksum that was announced")
        self.hub.lfs[oid] = self.body
        self.send(b"", ETag=f'"{oid}"')

    def lfs_verify(self, oid: str) -> None:
        asked = json.loads(self.body)
        if len(self.hub.lfs.get(oid, b"")) != asked["size"]:
            return self.error(404, "EntryNotFound", "the object did not arrive")
        self.json({})

    def commit(self, kind: str, name: str, revision: str) -> None:
        if (repo := self.writable(kind, name)) and self.resolved(repo, revision):
            with self.hub.lock:
                files, message = dict(repo.commits[repo.refs[revision]]), ""
                for line in self.body.decode().splitlines():
                    operation = json.loads(line)
                    value = operation["value"]
                    if operation["key"] == "header":
                        message = value["summary"]
                    elif operation["key"] == "file":
                        files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                    elif operation["key"] == "lfsFile":
                        if value["oid"] not in self.hub.lfs:
                            return self.error(400, "", f"{value['path']} was not uploaded")
                        files[value["path"]] = Blob(self.hub.lfs[value["oid"]], True)
                    elif operation["key"] == "deletedFile":
                        del files[value["path"]]
                    elif operation["key"] == "deletedFolder":
                        files = {p: b for p, b in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
                sha = repo.commit(files, message, revision)
            self.json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})

    # --- downloads

    def resolve(self, name: str, revision: str, path: str, kind: str | None = None) -> None:
        if (repo := self.readable(kind or "models", name)) and (sha := self.resolved(repo, revision)):
            blob = repo.commits[sha].get(path)
            if blob is None:
                return self.error(404, "EntryNotFound", "Entry not found", X_Repo_Commit=sha)
            facts = {"X_Repo_Commit": sha, "ETag": f'"{blob.oid}"'}
            if not blob.lfs:
                return self.bytes_of(self.hub.lies.get(blob.oid, blob.content), **facts)
            facts |= {"X_Linked_Etag": f'"{blob.oid}"', "X_Linked_Size": str(len(blob.content))}
            self.send(b"", 302, Location=f"{self.hub.storage}/lfs/{blob.oid}", **facts)

    def lfs_get(self, oid: str) -> None:
        self.bytes_of(self.hub.lies.get(oid, self.hub.lfs[oid]), ETag=f'"{oid}"')


def card_tags(files: dict[str, Blob]) -> list[str]:
    readme = files["README.md"].content.decode() if "README.md" in files else ""
    block = re.match(r"---\n(.*?)\n---\n", readme, re.DOTALL)
    return (yaml.safe_load(block[1]) or {}).get("tags") or [] if block else []


def tree_entries(files: dict[str, Blob], folder: str, deep: bool, folders: bool = False) -> list[dict]:
    """Files below a folder, and the folders too where the listing is not recursive."""
    inside = folder + "/" if folder else ""
    entries: dict[str, dict] = {}
    for path, blob in sorted(files.items()):
        if not path.startswith(inside):
            continue
        head, slash, _ = path[len(inside) :].partition("/")
        if slash and (folders or not deep):
            entries[inside + head] = {"type": "directory", "path": inside + head, "oid": "0" * 40, "size": 0}
        if not slash or deep:
            entries[path] = {"type": "file", "path": path, "oid": blob.oid[:40], "size": len(blob.content)}
            if blob.lfs:
                entries[path]["lfs"] = {"oid": blob.oid, "size": len(blob.content), "pointerSize": 130}
    return list(entries.values())


KIND, NAME, REST = rf"(?P<kind>{'|'.join(KINDS)})", r"(?P<name>[^/]+/[^/]+?)", r"(?P<revision>[^/]+|refs/[^/]+/[^/]+)"
READ = "(?:GET|HEAD)"
ROUTES = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"GET /api/agent-harnesses", Handler.no_registry),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate_yaml),
    (rf"GET /api/{KIND}/{NAME}/refs", Handler.refs),
    (rf"POST /api/{KIND}/{NAME}/branch/(?P<branch>.+)", Handler.branch),
    (rf"GET /api/{KIND}/{NAME}/revision/{REST}", Handler.info),
    (rf"GET /api/{KIND}/{NAME}/tree/{REST}(?P<folder>/.*)?", Handler.tree),
    (rf"POST /api/{KIND}/{NAME}/paths-info/{REST}", Handler.paths_info),
    (rf"POST /api/{KIND}/{NAME}/preupload/{REST}", Handler.preupload),
    (rf"POST /api/{KIND}/{NAME}/commit/{REST}", Handler.commit),
    (rf"GET /api/{KIND}/{NAME}", Handler.info),
    (rf"POST /(?:(?P<kind>datasets|spaces)/)?{NAME}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>\w+)", Handler.lfs_put),
    (r"POST /lfs/(?P<oid>\w+)/verify", Handler.lfs_verify),
    (rf"{READ} /lfs/(?P<oid>\w+)", Handler.lfs_get),
    (rf"{READ} /(?:(?P<kind>datasets|spaces)/)?{NAME}/resolve/{REST}/(?P<path>.+)", Handler.resolve),
]
