"""A set on a server that speaks S3, moto's, on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from helpers.encoded_sets import INPAINTING, inpainting_set
from ltxcore.addresses import Address
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch, verify
from ltxcore.encoded.mirror import opened
from ltxcore.encoded.remote import Store
from ltxcore.encoded.upload import upload
from ltxcore.errors import DataError

NAMES = ["a", "b", "clips/c", "clips/d", "e"]
FOLDERS = ["audio_latents", "audio_masks", "conditions"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-somebody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(f"films-{tmp_path.name}".replace("_", "-")[:60])
    return f"films-{tmp_path.name}".replace("_", "-")[:60]


def test_a_set_in_a_bucket_is_the_same_set(bucket: str, tmp_path: Path) -> None:
    root, at = tmp_path / "set", Address(f"s3://{bucket}/encoded/set")
    inpainting_set(root, NAMES)
    upload(root, FOLDERS, Store.at(at), 3000, lambda folder, samples: None)
    there = opened(at)
    manifest = read_manifest(there, INPAINTING)
    assert manifest == read_manifest(root, INPAINTING)
    found, own = (load_batch(where, INPAINTING, NAMES[2:4], list(INPAINTING), manifest) for where in (there, root))
    assert found.latents["audio"].latents.equal(own.latents["audio"].latents)
    assert verify(there, INPAINTING, NAMES, manifest) == 15
    with pytest.raises(DataError, match=f"^s3://{bucket}/encoded/set: there is an encoded set already"):
        upload(root, FOLDERS, Store.at(at), 3000, lambda folder, samples: None)


def test_a_bucket_that_does_not_exist_holds_no_set(bucket: str) -> None:
    with pytest.raises(DataError, match=r"^s3://no-such-bucket/set: there is no encoded set"):
        opened(Address("s3://no-such-bucket/set"))
