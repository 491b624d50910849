"""A server on this machine that speaks the chat protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, Any]]


def said(text: str | None, finish: str = "stop", **message: Any) -> Reply:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


class Server:
    """Answers as `reply` says, which is given the number of the request; keeps what it was sent. Lists `models`, or knows of no list."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models: list[str] | None = None
        self.refuses: dict[str, str] = {}
        self.reply: Callable[[int], Reply] = lambda number: said(f"caption {number}")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.keys.append(self.headers["Authorization"])
                refused = [name for name in outer.refuses if name in outer.sent[-1]]
                if refused:
                    said = {"message": outer.refuses[refused[0]], "type": "invalid_request_error", "param": refused[0]}
                    status, body = 400, {"error": said}
                else:
                    status, body = outer.reply(len(outer.sent)) if self.path == "/v1/chat/completions" else (404, {})
                self.answer(status, body)

            def do_GET(self) -> None:
                if self.path != "/v1/models" or outer.models is None:
                    self.answer(404, {"error": {"message": "no such page"}})
                    return
                data = [{"id": name, "object": "model", "created": 0, "owned_by": "us"} for name in outer.models]
                self.answer(200, {"object": "list", "data": data})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("retry-after-ms", "10")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def parts(self, number: int = 0) -> list[dict[str, Any]]:
        return list(self.sent[number]["messages"][0]["content"])
