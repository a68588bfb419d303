"""A proxy before an S3 server that injects every fault of networks and stores, by a fixed seed."""

import hashlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

KINDS = (
    "timeout",  # no answer
    "reset",  # the connection is reset instead of an answer
    "reset_body",  # ... in the middle of the body
    "stall",  # the body stops in its middle
    "trickle",  # the body comes byte by byte
    "slow_down",  # 503 SlowDown
    "internal",  # 500 InternalError
    "short",  # the body ends before its announced length
    "cut",  # half a body, announced as such
    "long",  # more body than announced
    "flip",  # one wrong bit
    "empty",  # nothing, announced as such
    "portal",  # status 200 and a page of HTML from something in between
    "blocked",  # status 403 likewise
    "nothing",  # status 204
    "part",  # status 206 and half the object, though all of it was asked for
    "early_hints",  # status 103 before the answer
    "cut_header",  # the answer ends within its headers
    "another",  # the whole answer to the request for another object of the same size
    "drip_header",  # a header that comes byte by byte and never ends
    "drip_error",  # the page of an error likewise
    "endless",  # a body without announced length or end
    "cut_chunk",  # a body in chunks that ends before its last
    "no_length",  # half a body, without announced length
    "too_slow",  # status 400, for a request that came too slowly
    "skewed",  # status 403, for one that came too late
    "error_page",  # the error of an overloaded server under status 200
)
GONE = "gone"  # status 404
# One that harms what is asked next: the answer comes twice, so that each later one on its connection is the one before.
TWICE = "twice"
STRAY = "stray"  # likewise, but what comes next is status 404


CODES = {
    "slow_down": "SlowDown",
    "internal": "InternalError",
    "too_slow": "RequestTimeout",
    "skewed": "RequestTimeTooSkewed",
    "error_page": "SlowDown",
    GONE: "NoSuchKey",
}


@dataclass
class Request:
    """What was asked, with which headers, and what was done to it (None: answered faithfully)."""

    key: str
    headers: dict[str, str]
    fault: str | None = None


@dataclass
class Faults:
    """Which requests for objects meet which fault.

    Parameters
    ----------
    rate
        Share of the requests that meet one.
    seed
        Draws them; the n-th request for a key meets the same fault in every run.
    most
        Only the first so many requests for a key can meet one; later ones are answered.
    kinds
        Faults to draw from.
    always
        By part of a key: the fault that each request for it meets; ``""`` means all, listings too.
    """

    rate: float = 0.0
    seed: int = 0
    most: int = 3
    kinds: tuple[str, ...] = KINDS
    always: dict[str, str] = field(default_factory=dict)

    def draw(self, key: str, count: int) -> str | None:
        """Give the fault of the `count`-th request for `key` (from 0), if any."""
        for part, fault in self.always.items():
            if part in key:
                return fault
        chance = random.Random(f"{self.seed} {key} {count}")
        drawn = chance.random() < self.rate and chance.choice(self.kinds)
        return drawn if drawn and count < self.most and "?" not in key else None


class FaultyServer(ThreadingHTTPServer):
    """The proxy; `requests` lists what was asked, in the order of the answers' beginnings."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, upstream: str, faults: Faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.faults = urlsplit(upstream).netloc, faults
        self.requests: list[Request] = []
        self.counts: Counter[str] = Counter()
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def note(self, key: str, headers: dict[str, str], late: bool = False) -> str | None:
        """Write a request down and give the fault that it meets; on a connection out of step, ``late``."""
        with self.lock:
            fault = "late" if late else self.faults.draw(key, self.counts[key])
            self.counts[key] += 1
            self.requests.append(Request(key, headers, fault))
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that are killed leave broken connections."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: FaultyServer
    late: tuple[int, dict[str, str], bytes] | None = None  # the answer that comes next

    def do_GET(self) -> None:
        """Pass a request on and the answer back, with its fault."""
        key = unquote(self.path.removeprefix("/"))
        fault = self.server.note(key, dict(self.headers), self.late is not None)
        page = f"<?xml version='1.0'?><Error><Code>{CODES.get(fault)}</Code></Error>".encode()
        if fault == "timeout":
            self.hang_up()
        elif fault == "reset":
            self.reset()
        elif fault in CODES:
            statuses = {"slow_down": 503, "internal": 500, "too_slow": 400, "skewed": 403}
            self.answer(statuses.get(fault, 404 if fault == GONE else 200), {}, page)
        elif fault == "nothing":
            self.answer(204, {}, b"")
        elif fault == "drip_header":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Long: ")
        elif fault == "drip_error":
            self.drip(b"HTTP/1.1 500 Sorry\r\nContent-Length: 100000\r\n\r\n")
        elif fault == "redirect":
            self.answer(
                307,
                {"Location": "http://elsewhere.example/x"},
                b"<Error><Code>TemporaryRedirect</Code></Error>",
            )
        elif fault == "blocked":
            self.answer(403, {"Content-Type": "text/html"}, b"<html>Not from here</html>")
        elif fault == "portal":
            self.answer(200, {"Content-Type": "text/html"}, b"<html>Please sign in</html>")
        else:
            self.relay(fault)

    def relay(self, fault: str | None) -> None:
        """Answer with what the real server says, damaged as `fault` has it."""
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=20)
        upstream.request("GET", self.path)
        response = upstream.getresponse()
        body, status = response.read(), response.status
        upstream.close()
        headers = {"ETag": response.headers["ETag"]} if "ETag" in response.headers else {}
        half = len(body) // 2
        if fault == "late":
            self.late, (status, headers, body) = (status, headers, body), self.late
            self.answer(status, headers, body)
        elif fault in (None, TWICE, STRAY) or status != 200:
            stray = (404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            self.late = {TWICE: (status, headers, body), STRAY: stray}.get(fault)
            self.answer(status, headers, body)
        elif fault == "part":
            place = {"Content-Range": f"bytes 0-{half - 1}/{len(body)}"}
            self.answer(206, headers | place, body[:half])
        elif fault == "early_hints":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            self.answer(200, headers, body)
        elif fault == "cut_header":
            self.wfile.write(f"HTTP/1.1 200 OK\r\nETag: {headers['ETag']}\r\nContent-Len".encode())
            self.close_connection = True
        elif fault == "another":
            other = body[::-1]
            self.answer(200, {"ETag": f'"{hashlib.md5(other).hexdigest()}"'}, other)
        elif fault in ("endless", "cut_chunk"):
            self.chunks(headers, body, endless=fault == "endless")
        elif fault == "no_length":
            self.wfile.write(f"HTTP/1.1 200 OK\r\nETag: {headers['ETag']}\r\n\r\n".encode())
            self.wfile.write(body[:half])
            self.close_connection = True
        elif fault in ("cut", "empty"):
            self.answer(200, headers, body[: half if fault == "cut" else 0])
        elif fault == "flip":
            self.answer(200, headers, body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :])
        elif fault == "long":
            self.answer(200, headers, body, announced=half)
        else:
            self.answer(200, headers, body[:half], announced=len(body))
            if fault == "reset_body":
                self.reset()
            elif fault == "stall":
                self.hang_up()
            elif fault == "trickle":
                for byte in body[half:]:
                    if self.server.stopped.wait(0.02):
                        break
                    self.wfile.write(bytes([byte]))
            self.close_connection = True

    def answer(
        self, status: int, headers: dict[str, str], body: bytes, announced: int | None = None
    ) -> None:
        """Send a whole answer, or one whose length is not what it announces."""
        self.send_response_only(status)
        for name, text in (
            headers | {"Content-Length": str(len(body) if announced is None else announced)}
        ).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, start: bytes) -> None:
        """Send the start of an answer, then a byte now and then until the client has gone."""
        with suppress(OSError):
            self.wfile.write(start)
            while not self.server.stopped.wait(0.05):
                self.wfile.write(b"x")
        self.close_connection = True

    def chunks(self, headers: dict[str, str], body: bytes, endless: bool) -> None:
        """Send a body in chunks without the last one; over and over if it is `endless`."""
        self.send_response_only(200)
        for name, text in (headers | {"Transfer-Encoding": "chunked"}).items():
            self.send_header(name, text)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            while endless and not self.server.stopped.is_set():
                self.wfile.write(b"10000\r\n%s\r\n" % bytes(1 << 16))
        self.close_connection = True

    def hang_up(self) -> None:
        """Say nothing until the client has gone."""
        self.connection.settimeout(0.1)
        while not self.server.stopped.is_set():
            with suppress(TimeoutError):
                if not self.connection.recv(1):
                    break
        self.close_connection = True

    def reset(self) -> None:
        """Close the connection with a reset instead of an end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty_server(upstream: str, faults: Faults | None = None) -> Iterator[FaultyServer]:
    """Run the proxy while the block runs; without `faults` it only records."""
    server = FaultyServer(upstream, faults or Faults())
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
