"""A set on a web server of this machine, which lists folders and sends parts of files."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec.implementations.http
import pytest

from helpers.encoded_sets import INPAINTING, inpainting_set
from ltxcore.addresses import Address
from ltxcore.encoded import remote
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import verify
from ltxcore.encoded.mirror import opened
from ltxcore.encoded.remote import Store
from ltxcore.errors import DataError

NAMES = ["a", "b", "clips/c"]


class Ranges(SimpleHTTPRequestHandler):
    """A handler that sends the part of a file that is asked for; that of Python sends whole files."""

    asked: list[str]
    has_ranges = True

    def do_GET(self) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part is None or not self.has_ranges:
            super().do_GET()
            return
        self.asked.append(self.path)
        first, last = map(int, part.groups())
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *told: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Ranges]]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = type("Handler", (Ranges,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/set", handler
        server.shutdown()
        thread.join()
    fsspec.implementations.http.HTTPFileSystem.clear_instance_cache()


def test_a_set_on_a_web_server_is_the_same_set(served: tuple[str, type[Ranges]], tmp_path: Path) -> None:
    address, handler = served
    inpainting_set(tmp_path / "set", NAMES)
    there = opened(Address(address))
    manifest = read_manifest(there, INPAINTING)
    assert manifest == read_manifest(tmp_path / "set", INPAINTING)
    assert verify(there, INPAINTING, NAMES, manifest) == 9
    assert len(handler.asked) == len(set(handler.asked)) == 12  # three manifests, nine samples


def test_a_server_that_sends_only_whole_files_is_refused(
    served: tuple[str, type[Ranges]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, handler = served
    inpainting_set(tmp_path / "set", NAMES)
    handler.has_ranges = False
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    with pytest.raises(DataError, match=r"after 2 tries: OSError: .* bytes were received instead of 10"):
        Store.at(Address(address)).read("conditions/a.safetensors", 0, 10)
    with pytest.raises(DataError, match="cannot be written: NotImplementedError"):
        Store.at(Address(address)).write("conditions/b.safetensors", lambda out: out.write(b""))
