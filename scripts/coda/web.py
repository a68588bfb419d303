"""One unsigned HTTP request at a time: what came back, whole and verified, or in words why not.

This is the client of the standard library and not a larger one: a body read straight into a buffer
that is used again takes less of the processor, and beside the checksums that is what limits the
speed on a fast link.
"""

import base64
import hashlib
import http.client
import queue
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from coda.errors import UserError
from coda.gallery import MissingObject

Result = TypeVar("Result")

PIECE = 1 << 20  # bytes; large, since workers wait for each other around each piece
SLOWEST = 4096  # bytes/s: 32 workers share even a 1 Mbit/s line above it
LONGEST_CONNECT = 10.0  # seconds
LONGEST_IDLE = 5.0  # seconds; by then the other end may have closed the connection
OWN = threading.local()  # each worker's buffer
MD5 = re.compile(r"[0-9a-f]{32}")


class PassingFault(Exception):
    """A fault that may be gone at the next attempt; the message says what was seen."""


class Connections:
    """Connections to one server, kept open and used again.

    Parameters
    ----------
    url
        Any URL of the server.
    workers
        How many of them are kept.
    timeout
        Seconds without progress after which a request is given up.
    """

    def __init__(self, url: str, workers: int, timeout: float):
        self.server, self.timeout = urlsplit(url), timeout
        self.proxy = proxy_of(self.server)
        self.context = ssl.create_default_context() if self.server.scheme == "https" else None
        self.idle: queue.LifoQueue[tuple[float, http.client.HTTPConnection]]
        self.idle = queue.LifoQueue(workers)

    def get(
        self, url: str, receive: Callable[[http.client.HTTPResponse], Result], timeout: float = 0.0
    ) -> Result:
        """Make one GET request; give what `receive` makes of an answer of status 200.

        Raises
        ------
        PassingFault
            If the server, or the way to it, is overloaded or in trouble.
        MissingObject
            If there is nothing at `url`.
        UserError
            If the server redirects, or there is no such bucket.
        """
        # A proxy for plain HTTP wants the whole URL.
        whole = self.proxy and not self.context
        target = url if whole else url[len(f"{self.server.scheme}://{self.server.netloc}") :]
        with network_faults():
            connection = self.connection(timeout or self.timeout)
        try:
            with network_faults():
                connection.request("GET", target, headers=credentials(self.proxy) if whole else {})
                response = connection.getresponse()
                body = response.read(4096) if response.status != 200 else b""
            if response.status != 200:
                raise refusal(response, body, url)
            result = receive(response)
            if response.length == 0:
                response.close()
            if response.isclosed() and connection.sock:
                with suppress(queue.Full):
                    self.idle.put_nowait((time.monotonic(), connection))
                    connection = None
            return result
        finally:
            if connection:  # something is left in it, or nobody knows
                connection.close()

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Take an open connection that is idle, or open one."""
        while not self.idle.empty():
            try:
                since, connection = self.idle.get_nowait()
            except queue.Empty:
                break
            if connection.sock and time.monotonic() - since < LONGEST_IDLE:
                connection.sock.settimeout(timeout)
                return connection
            connection.close()
        first = self.proxy or self.server
        patience = min(timeout, LONGEST_CONNECT)
        if self.context:
            connection = http.client.HTTPSConnection(
                first.hostname, first.port, timeout=patience, context=self.context
            )
        else:
            connection = http.client.HTTPConnection(first.hostname, first.port, timeout=patience)
        if self.proxy and self.context:
            connection.set_tunnel(self.server.hostname, self.server.port, credentials(self.proxy))
        connection.connect()
        connection.sock.settimeout(timeout)
        return connection

    def receive(
        self, response: http.client.HTTPResponse, write: Callable[[memoryview], object]
    ) -> tuple[int, str, str]:
        """Pass a body on piece by piece; give its size, ETag and MD5, checked against the headers.

        Raises
        ------
        PassingFault
            If the body stops, is too slow, is not as long as announced, or differs from an ETag
            that is an MD5.
        """
        etag = response.headers.get("ETag", "").strip('"')
        announced = response.length  # None if it comes in chunks that tell their own lengths
        digest, size = hashlib.md5(usedforsecurity=False), 0
        since, seen = time.monotonic(), 0
        for piece in pieces(response):
            digest.update(piece)
            write(piece)
            size += len(piece)
            # Each piece may arrive in time and the whole still take for ever.
            if (now := time.monotonic()) - since > self.timeout:
                if size - seen < SLOWEST * (now - since):
                    raise PassingFault(f"slower than {SLOWEST} bytes/s")
                since, seen = now, size
        if announced is not None and size != announced:
            raise PassingFault(f"{size} of {announced} bytes arrived")
        if MD5.fullmatch(etag) and etag != digest.hexdigest():
            raise PassingFault(f"its {size} bytes do not match their MD5")
        return size, etag, digest.hexdigest()

    def receive_object(
        self, response: http.client.HTTPResponse, write: Callable[[memoryview], object]
    ) -> tuple[int, str, str]:
        """Receive an object; a page put in by something on the way has no ETag."""
        if "ETag" not in response.headers:
            raise PassingFault("the answer is not that of an S3 server: it has no ETag")
        return self.receive(response, write)


def pieces(response: http.client.HTTPResponse) -> Iterator[memoryview]:
    """Give a body as it arrives, a piece being valid until the next; if it breaks off, it ends."""
    if not hasattr(OWN, "buffer"):
        OWN.buffer = memoryview(bytearray(PIECE))
    buffer = OWN.buffer
    while response.length != 0:
        with network_faults():
            if response.length is None:
                piece = memoryview(response.read1(PIECE))
            else:
                # One read of the network at most: waiting for a full buffer could take for ever.
                piece = buffer[: response.fp.readinto1(buffer[: response.length])]
                response.length -= len(piece)
        if not piece:
            return
        yield piece


@contextmanager
def network_faults() -> Iterator[None]:
    """Turn what a connection raises into `PassingFault`, in words."""
    try:
        yield
    except socket.gaierror:
        raise PassingFault("its name is unknown") from None
    except TimeoutError:
        raise PassingFault("timed out") from None
    except ConnectionRefusedError:
        raise PassingFault("connection refused") from None
    except ssl.SSLError as error:
        raise PassingFault(f"no secure connection: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingFault("connection broken") from error


def refusal(response: http.client.HTTPResponse, body: bytes, url: str) -> Exception:
    """Give the error that an answer other than 200 means."""
    code = re.search(rb"<Code>(\w+)</Code>", body)
    words = f"{response.status} {code[1].decode() if code else response.reason}".strip()
    if 300 <= response.status < 400:
        target = urlsplit(response.headers.get("Location", "")).netloc or "another address"
        return UserError(
            f"The gallery sends its readers to {target} ({words}), which is not followed; "
            "correct gallery.endpoint or gallery.region."
        )
    if response.status >= 500 or response.status in (408, 429):
        return PassingFault(words)
    if code is None:  # a proxy's refusal says nothing about the object
        return PassingFault(f"{words}, not an answer of an S3 server")
    if words.endswith("NoSuchBucket"):
        return UserError(
            f"There is no bucket at {url.partition('?')[0]}; "
            "correct gallery.root or gallery.endpoint."
        )
    # A bucket that may be read but not listed answers 403 for what it does not have.
    return MissingObject(words)


def proxy_of(server: SplitResult) -> SplitResult | None:
    """Give the proxy that the surroundings want between us and a server, if any."""
    proxy = urllib.request.getproxies().get(server.scheme)
    if not proxy or urllib.request.proxy_bypass(server.hostname):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def credentials(proxy: SplitResult) -> dict[str, str]:
    """Give the header with the name and password that a proxy's own URL holds, if any."""
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
