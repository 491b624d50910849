"""Who is answered, and what may be asked."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from helpers.studio_browser import TOKEN, Served, served
from ltxcore.api import DataError
from ltxplugins.studio.safety import LARGEST, Admission
from ltxplugins.studio.workspace import Workspace


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("opened")) as found:
        yield found


@attrs.frozen
class Answer:
    status: int
    text: str
    headers: dict[str, str]


def ask(studio: Served, path: str, method: str = "GET", *, body: bytes | None = None, **headers: str) -> Answer:
    """Send a request as it stands; headers named with underscores replace those that a client sends."""
    host = studio.address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"host": host, **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None and "content_length" not in headers:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()})
    finally:
        connection.close()


def cookie(studio: Served) -> str:
    return "; ".join(f"{name}={value}" for name, value in studio.cookies.items())


def test_nobody_is_answered_without_the_token(studio: Served) -> None:
    for path in ("/", "/data", "/static/studio.js", "/nothing", "/?token=wrong", "/?token="):
        assert ask(studio, path).status == 403, path
    assert ask(studio, "/data", cookie=f"ltx_studio_1={TOKEN}").status == 403


def test_the_first_address_sets_a_cookie_that_other_sites_do_not_get_and_leaves_no_token_in_the_address(studio: Served) -> None:
    answer = ask(studio, f"/data?token={TOKEN}&sort=name")
    assert (answer.status, answer.headers["location"]) == (303, "/data?sort=name")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert ask(studio, "/data", cookie=answer.headers["set-cookie"].split(";")[0]).status == 200


def test_the_first_address_leads_to_no_other_site(studio: Served) -> None:
    assert ask(studio, f"//elsewhere.example/?token={TOKEN}").headers["location"] == "/elsewhere.example/"


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:8420", "127.0.0.1.elsewhere.example", "192.168.1.7", "", "[::1"])
def test_a_name_that_another_site_points_at_this_machine_is_refused(studio: Served, host: str) -> None:
    assert ask(studio, "/data", host=host, cookie=cookie(studio)).status == 421


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8420"])
def test_a_tunnel_may_have_a_port_of_its_own(studio: Served, host: str) -> None:
    assert ask(studio, "/data", host=host, cookie=cookie(studio)).status == 200


def test_other_machines_ask_by_an_address_or_a_name_that_was_given() -> None:
    admission = Admission(TOKEN, 8420, frozenset({"Render.Local"}), beyond=True)
    assert [admission.may_be_called(host) for host in ("192.168.1.7:8420", "render.local", "elsewhere.example")] == [True, True, False]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://OWN", "sec_fetch_site": "cross-site"},
        {"origin": "http://OWN", "sec_fetch_site": "same-site"},
    ],
)
def test_only_the_pages_of_the_studio_change_anything(studio: Served, headers: dict[str, str]) -> None:
    told = {name: value.replace("OWN", studio.address.removeprefix("http://")) for name, value in headers.items()}
    for method in ("POST", "PUT", "DELETE"):
        assert ask(studio, "/data", method, body=b"", cookie=cookie(studio), **told).status == 403
    assert ask(studio, "/data", "POST", body=b"", cookie=cookie(studio), origin=studio.address).status == 405  # admitted, but not an action


@pytest.mark.parametrize("length", [str(LARGEST + 1), "-1", "many"])
def test_a_body_of_more_than_the_limit_is_refused_before_it_is_read(studio: Served, length: str) -> None:
    asked = {"cookie": cookie(studio), "origin": studio.address, "content_length": length}
    assert ask(studio, "/data", "POST", **asked).status in (400, 413)


def test_every_answer_forbids_content_of_other_sites(studio: Served) -> None:
    for path in ("/data", "/static/studio.js", "/nothing"):
        headers = ask(studio, path, cookie=cookie(studio)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "inside/../../secret.txt", "link/secret.txt", "nul\0"])
def test_no_path_leads_out_of_the_opened_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("not for the page")
    (opened := tmp_path / "opened").mkdir()
    (opened / "link").symlink_to(tmp_path)
    with pytest.raises(DataError):
        Workspace(opened).path(name)


def test_paths_inside_are_found_relative_and_absolute(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.path("clips/a.mp4") == workspace.path(str(tmp_path / "clips" / "a.mp4"))
    assert workspace.name(workspace.path("clips/a.mp4")) == "clips/a.mp4"
