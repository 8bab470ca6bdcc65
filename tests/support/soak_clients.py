"""Many clients of one server at once: patient ones, slow ones, and ones that leave or only look on."""

import asyncio
import json
import random
from collections import Counter
from io import BytesIO

from PIL import Image

ADDRESSES = 50
"""The clients share so many addresses of the loopback network, since nginx limits each."""
KINDS = {"slow": 70, "patient": 15, "leaver": 10, "follower": 5}
"""What the clients are, in hundredths."""
SLOW_BYTES = 10  # of a body, a second, which takes a minute: most clients are in the middle of one
THINKS_SECONDS = 60.0  # at most, between two uploads
ANSWER_SECONDS = 360.0  # which is more than the system lets anybody wait
BOUNDARY = "a-boundary-of-the-soak"


class Clients:
    """So many clients. What became of their uploads is in `outcomes`."""

    def __init__(
        self, port: int, count: int, thinks: float = THINKS_SECONDS, slow_bytes: int = SLOW_BYTES
    ) -> None:
        self.port, self.count, self.thinks, self.slow_bytes = port, count, thinks, slow_bytes
        self.outcomes: Counter[str] = Counter()
        self._draw, self._last_request = random.Random(1), ""

    @property
    def lost(self) -> int:
        """How many waited for an answer, and got none."""
        return self.outcomes["no answer"]

    async def run(self, until: asyncio.Event) -> None:
        """Lets all clients loose until the event is set, and then waits for the answers that are due."""
        names = self._draw.choices(list(KINDS), weights=list(KINDS.values()), k=self.count)
        tasks = [asyncio.create_task(self._live(n, name, until)) for n, name in enumerate(names)]
        await asyncio.gather(*tasks)

    async def _live(self, number: int, name: str, until: asyncio.Event) -> None:
        source = f"127.0.1.{1 + number % ADDRESSES}"
        while not until.is_set():
            pause = self._draw.uniform(0, self.thinks)
            try:
                await asyncio.wait_for(until.wait(), pause)
            except TimeoutError:
                await self._visit(name, source)

    async def _visit(self, name: str, source: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self.outcomes[await getattr(self, f"_{name}")(source)] += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            self.outcomes["no answer" if name in ("patient", "slow") else "cut"] += 1

    async def _patient(self, source: str) -> str:
        return await self._upload(source, 1 << 20)

    async def _slow(self, source: str) -> str:
        return await self._upload(source, self.slow_bytes)

    async def _upload(self, source: str, bytes_a_second: int) -> str:
        reader, writer = await self._connect(source)
        try:
            start, body = upload_of(self._draw)
            writer.write(start)
            for at in range(0, len(body), bytes_a_second):
                writer.write(body[at : at + bytes_a_second])
                await writer.drain()
                await asyncio.sleep(1 if at + bytes_a_second < len(body) else 0)
            status, body = await read_reply(reader)
        finally:
            writer.close()
        if status == 200:
            answer = json.loads(body)
            self._last_request = answer["request_id"]
            return "answered" if answer["complete"] else "no answer"
        return "to be answered later" if status == 202 else f"refused with {status}"

    async def _leaver(self, source: str) -> str:
        """Leaves in the middle of the upload, or while it waits for the answer."""
        _, writer = await self._connect(source)
        message = b"".join(upload_of(self._draw))
        writer.write(message[: self._draw.choice([len(message) // 2, len(message)])])
        await writer.drain()
        await asyncio.sleep(self._draw.uniform(0, 2))
        writer.close()
        return "left"

    async def _follower(self, source: str) -> str:
        """Opens the stream of a request, and leaves after some seconds."""
        _, writer = await self._connect(source)
        writer.write(head(f"GET /requests/{self._last_request}/events", "Accept: text/event-stream"))
        await writer.drain()
        await asyncio.sleep(self._draw.uniform(1, 10))
        writer.close()
        return "followed"

    async def _connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))


def head(request: str, *headers: str) -> bytes:
    lines = [f"{request} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def upload_of(draw: random.Random) -> tuple[bytes, bytes]:
    """Returns the head and the body of a POST of one small picture that no other client sends."""
    stream = BytesIO()
    Image.frombytes("RGB", (8, 8), draw.randbytes(192)).save(stream, "JPEG")
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image_file"; filename="a.jpg"\r\n\r\n'
    body = part.encode() + stream.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    return head("POST /", kind, f"Content-Length: {len(body)}", "Accept: application/json"), body


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Returns the status and the whole body. Raises ValueError or IncompleteReadError when it is cut."""
    start = await reader.readuntil(b"\r\n\r\n")
    status, *lines = start.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    body = await reader.read()
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    elif len(body) < int(headers.get("content-length", 0)):
        raise ValueError("the body is cut")
    return int(status.split()[1]), body


def unchunked(body: bytes) -> bytes:
    """Raises ValueError when the last chunk is missing."""
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return found
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
