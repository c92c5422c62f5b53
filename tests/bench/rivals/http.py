"""A hand-written HTTP/1.1 client over kept connections, the cheapest in Python, so as not to burden the rivals."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

_FORM = b"pspsearch-form"


class Poster:
    """Connections to one address, as many as calls are under way."""

    def __init__(self, port: int, path: str, form_field: str = "") -> None:
        """The body is the image itself, or, with `form_field`, a form with the image under that name."""
        self._port = port
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
        self._before, self._after = b"", b""
        self._type = b"image/jpeg"
        if form_field:
            self._type = b"multipart/form-data; boundary=" + _FORM
            part = f'Content-Disposition: form-data; name="{form_field}"; filename="a.jpg"'.encode()
            self._before = b"--" + _FORM + b"\r\n" + part + b"\r\nContent-Type: image/jpeg\r\n\r\n"
            self._after = b"\r\n--" + _FORM + b"--\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, writer in self._free:
            writer.close()

    async def post(self, image: bytes) -> Any:
        """The server's JSON answer. Raises RuntimeError if its status is not 200."""
        reader, writer = await self._connection()
        body = self._before + image + self._after
        writer.write(self._head + b"Content-Type: " + self._type + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            content = b""
            while size := int(await reader.readline(), 16):
                content += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            content = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        self._free.append((reader, writer))
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head!r} {content!r}")
        return json.loads(content)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection that was used last, unless the server has closed it; otherwise a new one."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)
