"""The HTTP server of the local AWS: cheroot, with what moto and a long poll need to know of a request.

A long poll keeps a thread for up to 20 seconds, so the server has as many threads as calls at the same time.
"""

import logging
import select
import socket
from typing import Any

from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest
from cheroot.workers.threadpool import ThreadPool, WorkerThread
from cheroot.wsgi import Gateway_10
from cheroot.wsgi import Server as CherootServer
from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)

IDLE_CONNECTIONS_LAST = 3600  # seconds; the clients of SDKs keep theirs
CLIENT = "local.client"
"""The key of the client's socket in the WSGI environment."""


class _Threads(ThreadPool):
    """Adds a thread whenever none is idle. cheroot's own pool has a fixed number of them."""

    _threads: list[WorkerThread]

    def put(self, obj: Any) -> None:
        if self.idle <= self.qsize:
            self._threads.append(self._spawn_worker())
        super().put(obj)

    def _spawn_worker(self) -> WorkerThread:
        worker = WorkerThread(self.server)
        worker.daemon = True
        worker.start()
        return worker


class _Headers(HeaderReader):
    """Refuses a name with an underscore, which WSGI would take for a dash, except that of S3's metadata."""

    def _allow_header(self, key_name: bytes) -> bool:
        return b"_" not in key_name or should_preserve_original_header_name(key_name.decode("latin-1"))


class _Request(HTTPRequest):
    header_reader = _Headers()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class _Gateway(Gateway_10):
    def get_environ(self) -> Any:
        environ: Any = super().get_environ()
        names = [name.decode("latin-1") for name in self.req.inheaders if b"_" in name]
        environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {environ_key_for_header(name): name for name in names}
        environ["RAW_URI"] = environ["REQUEST_URI"]
        environ[CLIENT] = self.req.conn.socket
        return environ


class Server(CherootServer):
    """Serves a WSGI application on 127.0.0.1. The port is taken at once; `serve` then answers until `stop`.

    If `port` is 0, it uses a free port. Raises OSError if the port is taken.
    """

    keep_alive_conn_limit = None  # type: ignore[assignment]
    expiration_interval = 0.1  # what `stop` may wait for
    ConnectionClass = _Connection

    def __init__(self, port: int, app: Any) -> None:
        super().__init__(
            ("127.0.0.1", port),
            app,
            server_name="127.0.0.1",
            request_queue_size=1024,
            timeout=IDLE_CONNECTIONS_LAST,
            shutdown_timeout=1,
        )
        self.gateway = _Gateway
        self.requests = _Threads(self)
        self.prepare()
        self.port: int = self.bind_addr[1]

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int]) -> socket.socket:
        try:
            return CherootServer.bind_socket(socket_, bind_addr)
        except OSError:
            socket_.close()
            raise

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Prints errors, but not that a client has gone."""
        if level >= logging.ERROR:
            super().error_log(msg, level, traceback)


def has_gone(client: socket.socket) -> bool:
    """Returns whether the client has closed the connection on which it waits for an answer."""
    readable = select.poll()
    try:
        readable.register(client, select.POLLIN)
        return bool(readable.poll(0)) and client.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # the connection is broken or already closed
        return True
