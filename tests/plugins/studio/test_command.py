"""`ltx studio` as a user starts it."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from ltxcore.cli.main import main
from ltxplugins.studio.serve import is_loopback


def test_the_studio_prints_the_address_that_admits_a_browser_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ltxcore", "studio", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[-1])
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        connection.request("GET", f"{address.path}?{address.query}")
        answer = connection.getresponse()
        answer.read()
        connection.request("GET", "/data", headers={"cookie": answer.headers["set-cookie"].split(";")[0]})
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
        assert "Runs that it started go on." in process.stdout.read()
    assert list(tmp_path.iterdir()) == []  # looking at a folder writes nothing to it


def test_another_address_also_admits_by_the_name_of_the_machine_that_it_prints(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ltxcore", "studio", str(tmp_path), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[-1])
        assert address.hostname == socket.gethostname().lower()
        status = []
        for host in (address.netloc, "elsewhere.example"):
            connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
            connection.request("GET", f"{address.path}?{address.query}", headers={"host": host})
            status.append(connection.getresponse().status)
            connection.close()
        process.send_signal(signal.SIGINT)
    assert status == [303, 421]


def test_a_port_that_is_taken_is_refused_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(main, ["studio", str(tmp_path), "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "cannot listen on 127.0.0.1" in result.output
    assert "Give another --port" in result.output


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["studio", str(tmp_path)], env={"LTX_STUDIO_TOKEN": "secret"})
    assert result.exit_code == 2
    assert "fewer than 16 characters" in result.output


@pytest.mark.parametrize("package", ["jinja2", "starlette", "uvicorn"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("ltxplugins.studio.") or name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(main, ["studio", str(tmp_path)])
    assert result.exit_code == 2
    assert f"the package {package}" in result.output
    assert 'pip install "ltx[studio]"' in result.output


def test_only_addresses_of_this_machine_are_its_own() -> None:
    asked = ["127.0.0.1", "127.0.0.2", "::1", "localhost", "0.0.0.0", "::", "192.168.1.7", "render.local"]
    assert [is_loopback(host) for host in asked] == [True] * 4 + [False] * 4
