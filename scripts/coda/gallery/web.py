"""Connections to servers: answers limited in time and size, certificates and proxies as the environment has them."""

import io
import math
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSRequest,
    AWSResponse,
)
from botocore.exceptions import BotoCoreError, SSLError
from botocore.exceptions import ReadTimeoutError as BotoReadTimeoutError
from botocore.httpsession import URLLib3Session, mask_proxy_url
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError, ReadTimeoutError

from coda.errors import UserError

# Seconds an address: a name may have eight, and all of them are tried in turn.
LONGEST_CONNECT = 3.0
PIECE = 1 << 20  # bytes; large, since workers wait for each other around each piece
SLOWEST = 4096  # bytes/s: 32 workers share even a 1 Mbit/s line above it
ERROR_PAGE = 1 << 16  # bytes of an error that are read
TURN = 0.5  # seconds after which a silent connection looks whether its download is to stop
# What names certificates, for all that is fetched; the first that is set counts.
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")

# What says that the server is overloaded, or that the request came too late, under whatever status.
BUSY = {
    "BandwidthLimitExceeded",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}


class TemporaryError(Exception):
    """An error that may not occur again at the next attempt; the message says what happened."""


class BusyError(TemporaryError):
    """A server that says that it is overloaded or in trouble."""


class _Limits(threading.local):
    """What this thread may still receive."""

    deadline: float = math.inf
    room: float = math.inf
    stop: threading.Event | None = None


_limits = _Limits()


@contextmanager
def limited(
    seconds: float, size: float = math.inf, stop: threading.Event | None = None
) -> Iterator[None]:
    """Limit what this thread receives in the block, headers and all.

    A timeout bounds the time between two bytes; an answer that drips would hold its worker for ever.

    Parameters
    ----------
    seconds
        How long the block may wait for bytes in all.
    size
        How many bytes may arrive.
    stop
        Ends the waiting when it is set.
    """
    before = _limits.deadline, _limits.room, _limits.stop
    _limits.deadline, _limits.room, _limits.stop = time.monotonic() + seconds, size, stop
    try:
        yield
    finally:
        _limits.deadline, _limits.room, _limits.stop = before


class _LimitedStream(io.RawIOBase):
    """The bytes that arrive at a socket, within the limits of the thread that reads them."""

    def __init__(self, sock: Any):
        self.sock = sock
        self.open_file = sock.makefile("rb", buffering=0)  # until it is closed, the socket is not

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            left = _limits.deadline - time.monotonic()
            if _limits.stop is not None and _limits.stop.is_set():
                raise ConnectionAbortedError("stopped")
            if left <= 0:
                raise TimeoutError("timed out")
            self.sock.settimeout(min(left, TURN))
            try:
                size = self.sock.recv_into(buffer)
            except TimeoutError:
                continue
            _limits.room -= size
            if _limits.room < 0:
                raise ConnectionAbortedError("the answer has no end")
            return size

    def close(self) -> None:
        super().close()
        self.open_file.close()


class _LimitedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any):
        super().__init__(sock, *args, **options)
        unlimited, self.fp = self.fp, io.BufferedReader(_LimitedStream(sock))
        unlimited.close()


class _Connection(AWSHTTPConnection):
    response_class = _LimitedResponse


class _TlsConnection(AWSHTTPSConnection):
    response_class = _LimitedResponse


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def with_limits(session: URLLib3Session) -> URLLib3Session:
    """Make the connections of a session heed `limited`."""
    session._pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)
    return session


def certificates() -> str | bool:
    """Name the file of certificates that servers are verified with; True for those that come with Python.

    Raises
    ------
    UserError
        If the environment names a file that holds none.
    """
    for name in CERTIFICATES:
        if path := os.environ.get(name, "").strip():
            try:
                ssl.create_default_context(cafile=path)
            except OSError as error:
                raise UserError(
                    f"{name} is {path}, which is no file of certificates ({error}); correct it or unset it."
                ) from error
            return path
    return ssl.get_default_verify_paths().cafile or True


def proxy_of(address: str) -> str | None:
    """Name the proxy by whose way an address is reached, without a password; None if by none."""
    proxy = get_environ_proxies(address).get(urlsplit(address).scheme)
    return mask_proxy_url(proxy) if proxy else None


def shown(address: str) -> str:
    """Give an address for messages, without what follows a question mark: it may be a signature."""
    parts = urlsplit(address)
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if parts.query or parts.username
        else address
    )


def by_way_of(address: str) -> str:
    """Say by which proxy an address is reached, for messages; nothing if by none."""
    proxy = proxy_of(address)
    return (
        f" by way of the proxy {proxy} (of {urlsplit(address).scheme}_proxy in the environment)"
        if proxy
        else ""
    )


@contextmanager
def network_faults() -> Iterator[None]:
    """Turn what botocore and its connections raise into `TemporaryError`.

    Raises
    ------
    UserError
        If the certificate of a server, or of what reads its traffic, is not trusted.
    """
    try:
        yield
    except (ReadTimeoutError, BotoReadTimeoutError):
        raise TemporaryError("timed out") from None
    except SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            raise TemporaryError(cause_of(error)) from error
        host = urlsplit(error.kwargs["endpoint_url"]).netloc
        raise UserError(
            f"The certificate of {host} is not trusted ({cause_of(error)}); where a company reads its "
            f"traffic, set {CERTIFICATES[0]} to the file of its certificates."
        ) from error
    # The last for headers beyond reading.
    except (BotoCoreError, HTTPError, ValueError) as error:
        raise TemporaryError(cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """Give the words of the first of a chain of errors, without the addresses that the later ones add."""
    while following := error.__cause__ or error.__context__:
        if isinstance(error, IncompleteRead):
            return "the answer was cut off"
        error = following
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def error_page(answer: AWSResponse) -> bytes:
    """Read the start of the page of an error, within the limits of `limited`."""
    body = b""
    with network_faults():
        while len(body) < ERROR_PAGE and (piece := answer.raw.read1(ERROR_PAGE)):
            body += piece
    return body


def error_code(body: bytes) -> str | None:
    """Give the code that S3's page of an error holds."""
    code = re.search(rb"<Code>(\w+)</Code>", body)
    return code[1].decode() if code else None


def get_address(address: str, timeout: float) -> AWSResponse:
    """Request a web address, within the limits of `limited`; give the answer, whose body has not been read yet."""
    with network_faults():
        session = URLLib3Session(
            verify=certificates(),
            proxies=get_environ_proxies(address),
            timeout=(min(timeout, LONGEST_CONNECT), timeout),
            max_pool_connections=1,
        )
        # Compressed on its way, a table would have another length than is announced.
        headers = {"Accept-Encoding": "identity", "User-Agent": "coda-workflow"}
        request = AWSRequest("GET", address, headers, stream_output=True).prepare()
        return with_limits(session).send(request)


def pieces(
    body: Any, timeout: float, most: float, stop: threading.Event | None = None
) -> Iterator[bytes]:
    """Give the body of an answer piece by piece, as much as each read of the network brings.

    Parameters
    ----------
    body
        A response of urllib3.
    timeout
        Seconds in which a piece must arrive, and over which the speed is measured.
    most
        Bytes that it may have.
    stop
        Ends it when it is set.

    Raises
    ------
    TemporaryError
        If it stops, is too slow, or is longer.
    """
    since, seen, size = time.monotonic(), 0, 0
    while True:
        # Waiting for a full piece could take for ever.
        with network_faults(), limited(timeout, stop=stop):
            piece = body.read1(PIECE)
        if not piece:
            return
        size += len(piece)
        if size > most:
            raise TemporaryError(f"more than {most:,} bytes arrived")
        # Each piece may arrive in time and the whole still take for ever.
        if (now := time.monotonic()) - since > timeout:
            if size - seen < SLOWEST * (now - since):
                raise TemporaryError(f"slower than {SLOWEST} bytes/s")
            since, seen = now, size
        yield piece
