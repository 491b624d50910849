"""Files that the browser sends. How large a request may be is decided in `safety`."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool


@contextlib.asynccontextmanager
async def arriving(body: AsyncIterator[bytes], folder: Path, ending: str = "") -> AsyncIterator[Path]:
    """Return a context that writes the body of a request to a hidden file, and provides the file once it has arrived whole. The caller gives
    it its name; a file that the caller leaves where it is, or that did not arrive whole, is removed.

    Args:
        body: the body, in pieces.
        folder: the folder of the file.
        ending: the end of the name of the hidden file, such as ".mp4".

    Raises:
        OSError: the file cannot be written.
        ClientDisconnect: the browser went away.
    """
    path = folder / f".upload-{secrets.token_hex(8)}{ending}"
    try:
        with path.open("xb") as file:
            async for piece in body:
                await run_in_threadpool(file.write, piece)
            await run_in_threadpool(file.flush)
            await run_in_threadpool(os.fsync, file.fileno())
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
