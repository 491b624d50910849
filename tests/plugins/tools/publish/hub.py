"""A Hub on this machine: what huggingface_hub asks of the real one to make a repository and commit files to it, small ones in the commit and weights apart."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

TOKEN = "hf_of_the_test"


@attrs.define
class Hub:
    """What the server has.

    Attributes:
        address: of it.
        repositories: made, with what was asked of each.
        files: of the commits, by "name/model/path".
        stored: contents of large files, by their SHA-256.
        cards: that it was asked to check.
        refuses: the status it answers commits with; 0: it takes them.
    """

    address: str = ""
    repositories: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    files: dict[str, bytes] = attrs.field(factory=dict)
    stored: dict[str, bytes] = attrs.field(factory=dict)
    cards: list[str] = attrs.field(factory=list)
    refuses: int = 0


@contextmanager
def hub() -> Iterator[Hub]:
    """A Hub that answers until the end of the block."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid credentials in Authorization header"})
            elif self.path == "/api/repos/create":
                self.create(json.loads(body))
            elif self.path == "/api/validate-yaml":
                found.cards.append(json.loads(body)["content"])
                self.answer(200, {"errors": [], "warnings": []})
            elif self.path.endswith("/preupload/main"):
                asked = json.loads(body)["files"]
                modes = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"} for f in asked]
                self.answer(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                put = [{**o, "actions": {"upload": {"href": f"{found.address}/put/{o['oid']}", "header": {}}}} for o in objects]
                self.answer(200, {"transfer": "basic", "objects": put})
            elif self.path.endswith("/commit/main"):
                self.commit(self.path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
            else:
                self.answer(404, {"error": f"there is no {self.path}"})

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.stored[hashlib.sha256(body).hexdigest()] = body
            self.answer(200, {})

        def create(self, asked: dict[str, Any]) -> None:
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            there = name in found.repositories
            found.repositories.setdefault(name, asked)
            self.answer(409 if there else 200, {"url": f"{found.address}/{name}", "id": name, "name": name})

        def commit(self, repository: str, body: bytes) -> None:
            if found.refuses:
                self.answer(found.refuses, {"error": "the Hub is on holiday"})
                return
            for line in body.decode().splitlines():
                told = json.loads(line)
                value = told["value"]
                if told["key"] == "file":
                    found.files[f"{repository}/{value['path']}"] = base64.b64decode(value["content"])
                elif told["key"] == "lfsFile":
                    found.files[f"{repository}/{value['path']}"] = found.stored[value["oid"]]
            self.answer(200, {"commitUrl": f"{found.address}/{repository}/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests look at what arrived."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
