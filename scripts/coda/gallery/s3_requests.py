"""One request to a public bucket, without credentials: what it sends, and how the answer is verified."""

import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from coda.errors import UserError
from coda.gallery.base import Entry, MissingObject
from coda.gallery.web import (
    BUSY,
    ERROR_PAGE,
    LONGEST_CONNECT,
    BusyError,
    TemporaryError,
    certificates,
    error_code,
    error_page,
    get_address,
    network_faults,
    pieces,
    with_limits,
)

MD5 = re.compile(r"[0-9a-f]{32}")
PARTS = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")
# Bytes of the parts that programs upload large files in, the usual one first.
PART_LENGTHS = [
    mebibytes << 20 for mebibytes in (8, 5, 6, 7, *range(9, 17), 25, 32, 50, 64, 100, 128, 256, 512)
]
# Bytes of an object whose size no listing has told.
LARGEST_UNLISTED = 1 << 28
# What says that an object is not there, or not for everyone; a bucket that may be read but not listed answers 403 for
# what it does not have.
MISSING = {
    "AccessDenied",
    "AllAccessDisabled",
    "Forbidden",
    "InvalidObjectState",
    "KeyTooLongError",
    "MethodNotAllowed",
    "NoSuchKey",
    "NoSuchVersion",
    "NotFound",
}


@functools.cache
def private_session() -> boto3.Session:
    """Make a session that ignores what the user has set up for an account of their own.

    Credentials, profile, region and endpoint are taken neither from environment variables nor from
    files or a metadata service.
    """
    known = Session.SESSION_VARIABLES  # by name: key of the file, environment variable, default ...
    settings = {name: (None, None, *rest) for name, (_, _, *rest) in known.items()}
    settings |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return boto3.Session(botocore_session=Session(settings))


def public_client(
    endpoint: str | None,
    region: str,
    workers: int,
    timeout: float,
    connect_timeout: float = LONGEST_CONNECT,
) -> Any:
    """Make a client for public buckets that makes one attempt only.

    Raises
    ------
    UserError
        If `endpoint` or `region` cannot be one.
    """
    parts = urlsplit(endpoint or "https://s3.amazonaws.com")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UserError(
            f"gallery.endpoint is {endpoint}; "
            "it must look like https://s3.example.org or http://127.0.0.1:9000."
        )
    config = Config(
        signature_version=UNSIGNED,
        ignore_configured_endpoint_urls=True,
        retries={"total_max_attempts": 1},
        connect_timeout=min(timeout, connect_timeout),
        read_timeout=timeout,
        max_pool_connections=workers,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",  # every byte meets the MD5 already
        s3={
            "addressing_style": "path" if endpoint else "auto",
            "us_east_1_regional_endpoint": "regional",
        },
    )
    try:
        client = private_session().client(
            "s3", region, endpoint_url=endpoint, config=config, verify=certificates()
        )
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"The gallery cannot be opened with gallery.region = {region} and gallery.endpoint = "
            f"{endpoint}; correct them ({error})."
        ) from error
    client.meta.events.register("before-parse.s3", refuse)
    with_limits(client._endpoint.http_session)
    return client


def refuse(response_dict: dict, **_: object) -> None:
    """Raise the error that an answer stands for, before botocore follows a redirect or raises its own.

    Raises
    ------
    TemporaryError
        If the server, or the way to it, is overloaded or in trouble, or the answer is none to what was asked.
    MissingObject
        If there is no such object.
    UserError
        If the server redirects, there is no such bucket, or the proxy asks for a password.
    """
    status, body = response_dict["status_code"], response_dict["body"]
    if status == 200:
        return
    code = error_code(body)
    words = f"{status} {code}" if code else f"status {status}"
    target = urlsplit(response_dict["headers"].get("Location", "")).netloc
    if 300 <= status < 400 and (target or code):
        raise UserError(
            f"The gallery sends its readers to {target or 'another address'} ({words}), which is not followed; "
            "correct gallery.endpoint or gallery.region."
        )
    if status == 407:
        raise UserError(
            "The proxy asks for a name and password (status 407); give them in https_proxy and http_proxy."
        )
    if status >= 500 or status in (408, 429) or code in BUSY:
        raise BusyError(words)
    if code is None:  # a proxy's refusal says nothing about the object
        raise TemporaryError(f"{words}, not an answer of an S3 server")
    if code == "NoSuchBucket":
        raise UserError(
            "The gallery's bucket does not exist; correct gallery.root or gallery.endpoint."
        )
    if code in MISSING or status == 404:
        raise MissingObject(words)
    raise TemporaryError(words)


def address_of(client: Any, bucket: str) -> str:
    """Give the address of a bucket as boto3 would write it, with its closing slash."""
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"})
    return url.removesuffix("key")


def get_object(client: Any, address: str, key: str, fresh: float | None = None) -> AWSResponse:
    """Request one object; give the answer, whose body has not been read yet.

    The request uses boto3's connections but not what boto3 does around every call, which took a
    fifth of all processor time per image and blocks other workers. Of that, only `refuse` concerns
    an unsigned request.

    Parameters
    ----------
    client
        As from `public_client`.
    address
        Of the bucket, as from `address_of`.
    key
        The whole key of the object.
    fresh
        Takes a fresh connection, with this timeout in seconds; None takes one of the client's.

    Raises
    ------
    TemporaryError, MissingObject, UserError
        See `refuse`.
    """
    with network_faults():
        if fresh is None:
            request = AWSRequest("GET", address + quote(key), stream_output=True).prepare()
            answer = client._endpoint.http_session.send(request)
        else:
            answer = get_address(address + quote(key), fresh)
        if answer.status_code != 200:
            connection = detach(answer)
            try:
                body = error_page(answer)
            finally:
                # It may be out of step: what is asked next could get the answer to something else.
                connection.close()
                answer.raw.close()
            refuse({"status_code": answer.status_code, "headers": answer.headers, "body": body})
    return answer


def detach(answer: AWSResponse) -> Any:
    """Take its connection from an answer, whose end would hand it to others before the answer is verified."""
    connection, answer.raw._connection = answer.raw._connection, None
    return connection


def receive(
    answer: AWSResponse,
    write: Callable[[bytes], object],
    timeout: float,
    listed: Entry | None = None,
    stop: threading.Event | None = None,
    largest: int = LARGEST_UNLISTED,
) -> tuple[int, str, str]:
    """Receive an object piece by piece; give its size, ETag and MD5.

    Only after an answer that was right throughout, others get its connection.

    Parameters
    ----------
    answer
        As from `get_object`.
    write
        Takes each piece.
    timeout
        See `coda.gallery.web.pieces`.
    listed
        What the listing says of the object, which an answer to another request does not match.
    stop
        See `coda.gallery.web.pieces`.
    largest
        Bytes that an object may have whose size no listing has told.

    Raises
    ------
    TemporaryError
        If the body stops, is too slow, is not as long as announced and listed, differs from an ETag that is an
        MD5, or has another ETag than is listed, or none.
    """
    connection = detach(answer)
    try:
        with answer.raw as body:  # the response of urllib3, which can read what there is
            etag = check_headers(answer, listed, largest)
            announced, start = body.length_remaining, b""
            most = listed.bytes if listed else largest
            digest, size = hashlib.md5(usedforsecurity=False), 0
            for piece in pieces(body, timeout, most, stop):
                start = start or piece[:ERROR_PAGE]
                digest.update(piece)
                write(piece)
                size += len(piece)
        expected = announced if listed is None else listed.bytes
        if expected is not None and size != expected:
            raise TemporaryError(f"{size} of {expected} bytes arrived")
        if MD5.fullmatch(etag):
            if etag != digest.hexdigest():
                raise TemporaryError(f"its {size} bytes do not match their MD5")
        elif start.lstrip().startswith(b"<?xml") and b"<Error>" in start:
            raise BusyError(f"an error under status 200: {error_code(start)}")
    except BaseException:
        connection.close()
        raise
    answer.raw._pool._put_conn(connection)
    return size, etag, digest.hexdigest()


def check_headers(answer: AWSResponse, listed: Entry | None, largest: int) -> str:
    """Give the ETag of an answer if its headers are those of the object asked for, as `receive` has it."""
    etag = etag_of(answer.headers.get("ETag", ""))
    if not etag:  # a page put in by something on the way
        raise TemporaryError("the answer is not that of an S3 server: it has no ETag")
    if "Content-Range" in answer.headers:
        raise TemporaryError("a part of the object was sent, though the whole was asked for")
    announced = answer.raw.length_remaining
    if announced is None and not answer.raw.chunked and not MD5.fullmatch(etag):
        raise TemporaryError("the answer does not say how long it is")
    limit = listed.bytes if listed else largest
    if announced is not None and (announced > limit or (listed and announced != limit)):
        raise TemporaryError(f"{announced:,} bytes are announced, not {limit:,}")
    if listed and listed.etag and etag != listed.etag:
        raise TemporaryError(
            "the answer is that of another object: it has not the ETag that is listed"
        )
    return etag


def etag_of(text: str) -> str:
    """Give an ETag without its quotes and the mark of a weak one."""
    return text.removeprefix("W/").strip('"')


def has_parts(path: Path, size: int, etag: str) -> bool:
    """Tell whether a file has the ETag of an upload in parts: the MD5 of the MD5s of its parts.

    How long the parts were is not told; the lengths that programs take are tried.
    """
    count = int(PARTS.fullmatch(etag)[1])
    lengths = [max(size, 1)] if count == 1 else PART_LENGTHS
    return any(
        etag_in_parts(path, length) == etag for length in lengths if -(-size // length) == count
    )


def etag_in_parts(path: Path, length: int) -> str:
    """Give the ETag that a file gets when it is uploaded in parts of `length` bytes."""
    parts = []
    with open(path, "rb") as file:
        while part := file.read(length):
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
