"""Control access: only browsers that know the token get answers, and only pages of the studio itself may change anything.

Any program on this machine can reach a port on 127.0.0.1, so knowing the address is not enough. Any page in the user's browser can send
requests there too. Therefore, the cookie is hidden from other sites, the `Origin` of each change is checked, and the `Host` must be a name
that another site cannot point at this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # the first address holds the token; without any, a browser would send no origin with a form
    "x-content-type-options": "nosniff",
}
LARGEST = 4 * 2**30
"""The maximum number of bytes in a request, such as a clip that is dropped on the page."""


@attrs.frozen
class Admission:
    """The rules for which requests get an answer.

    Attributes:
        token: the token, which is in the first address and then in the cookie.
        port: the port that the server listens on, for the cookie's name: cookies are shared between the ports of a host.
        names: names by which browsers may reach this machine, in addition to "localhost" and its addresses.
        beyond: whether other machines, which reach this machine by an address or by one of the names, may send requests.
    """

    token: str
    port: int
    names: frozenset[str] = frozenset()
    beyond: bool = False

    @property
    def cookie(self) -> str:
        return f"ltx_studio_{self.port}"

    def may_be_called(self, host: str) -> bool:
        """Return whether the `Host` of a request is a name of this machine. The port may be another one, since a tunnel has its own."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name == "localhost" or name in {each.lower() for each in self.names}:
                return True
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.beyond or address.is_loopback

    def knows(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def admits(self, headers: Headers) -> bool:
        """Return whether the request has the cookie that the first address set."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self.knows(cookie.value)


class Guard:
    """Middleware that refuses requests that are not from the user's own browser, and sets the headers that prevent a page's content from
    doing harm.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        if answer is not None:
            await answer(scope, receive, guarded)
        else:
            await self.app(scope, _bounded(receive), guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.admission.may_be_called(host):
            return PlainTextResponse("The studio does not know this address. If it is yours, pass it to `ltx studio` as --name.", 421)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if "token" in query and scope["method"] == "GET" and self.admission.knows(query.pop("token")):
            path = "/" + scope["path"].lstrip("/")  # two slashes would be the address of another site
            answer = RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303)
            answer.set_cookie(self.admission.cookie, self.admission.token, httponly=True, samesite="strict")
            return answer
        if not self.admission.admits(headers):
            return PlainTextResponse(
                "Open the address that `ltx studio` printed: it contains the token that gives your browser access.", 403
            )
        if scope["method"] not in ("GET", "HEAD") and (
            headers.get("origin", "").partition("://")[2] != host or headers.get("sec-fetch-site", "same-origin") != "same-origin"
        ):
            return PlainTextResponse("Only the studio's own pages may change anything.", 403)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST:
            return PlainTextResponse(f"The studio accepts at most {LARGEST:,} bytes at once.", 413)
        return None


def _bounded(receive: Receive) -> Receive:
    """Return the body of a request without a length up to the limit, and end the request there."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= LARGEST else {"type": "http.disconnect"}

    return bounded
