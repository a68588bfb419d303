"""One request to a public bucket, without credentials: what it sends, and how the answer is verified."""

import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from urllib3.exceptions import HTTPError, ReadTimeoutError

from coda.errors import UserError
from coda.gallery.base import MissingObject

PIECE = 1 << 20  # bytes; large, since workers wait for each other around each piece
SLOWEST = 4096  # bytes/s: 32 workers share even a 1 Mbit/s line above it
# Seconds an address: a name may have eight, and all of them are tried in turn.
LONGEST_CONNECT = 3.0
MD5 = re.compile(r"[0-9a-f]{32}")


class TemporaryError(Exception):
    """An error that may not occur again at the next attempt; the message says what happened."""


@functools.cache
def private_session() -> boto3.Session:
    """Make a session that ignores what the user has set up for an account of their own.

    Credentials, profile, region and endpoint are taken neither from environment variables nor from
    files or a metadata service. Only ``AWS_CA_BUNDLE`` is kept.
    """
    known = Session.SESSION_VARIABLES  # by name: key of the file, environment variable, default ...
    settings = {name: (None, None, *rest) for name, (_, _, *rest) in known.items()}
    settings |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    settings["ca_bundle"] = known["ca_bundle"]
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
        client = private_session().client("s3", region, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"The gallery cannot be opened with gallery.region = {region} and gallery.endpoint = "
            f"{endpoint}; correct them ({error})."
        ) from error
    client.meta.events.register("before-parse.s3", refuse)
    return client


def refuse(response_dict: dict, **_: object) -> None:
    """Raise the error that an answer stands for, before botocore follows a redirect or raises its own.

    Raises
    ------
    TemporaryError
        If the server, or the way to it, is overloaded or in trouble.
    MissingObject
        If there is no such object.
    UserError
        If the server redirects, or there is no such bucket.
    """
    status, body = response_dict["status_code"], response_dict["body"]
    if status < 300:
        return
    code = re.search(rb"<Code>(\w+)</Code>", body)
    words = f"{status} {code[1].decode()}" if code else f"status {status}"
    if status < 400:
        target = urlsplit(response_dict["headers"].get("Location", "")).netloc or "another address"
        raise UserError(
            f"The gallery sends its readers to {target} ({words}), which is not followed; "
            "correct gallery.endpoint or gallery.region."
        )
    if status >= 500 or status in (408, 429):
        raise TemporaryError(words)
    if code is None:  # a proxy's refusal says nothing about the object
        raise TemporaryError(f"{words}, not an answer of an S3 server")
    if code[1] == b"NoSuchBucket":
        raise UserError(
            "The gallery's bucket does not exist; correct gallery.root or gallery.endpoint."
        )
    # A bucket that may be read but not listed answers 403 for what it does not have.
    raise MissingObject(words)


def address_of(client: Any, bucket: str) -> str:
    """Give the address of a bucket as boto3 would write it, with its closing slash."""
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"})
    return url.removesuffix("key")


def get_object(client: Any, address: str, key: str) -> AWSResponse:
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

    Raises
    ------
    TemporaryError, MissingObject, UserError
        See `refuse`.
    """
    with network_faults():
        request = AWSRequest("GET", address + quote(key), stream_output=True).prepare()
        answer = client._endpoint.http_session.send(request)
        if answer.status_code != 200:
            refuse(
                {
                    "status_code": answer.status_code,
                    "headers": answer.headers,
                    "body": answer.content,
                }
            )
    return answer


def receive(
    answer: AWSResponse, write: Callable[[bytes], object], timeout: float
) -> tuple[int, str, str]:
    """Receive an object piece by piece; give its size, ETag and MD5, checked against the headers.

    Raises
    ------
    TemporaryError
        If the body stops, is too slow, is not as long as announced, differs from an ETag that is an
        MD5, or has none.
    """
    etag, announced = answer.headers.get("ETag", "").strip('"'), answer.raw.length_remaining
    digest, size = hashlib.md5(usedforsecurity=False), 0
    since, seen = time.monotonic(), 0
    with answer.raw as body:  # the response of urllib3, which can read what there is
        if not etag:  # a page put in by something on the way
            raise TemporaryError("the answer is not that of an S3 server: it has no ETag")
        while piece := arriving(body):
            digest.update(piece)
            write(piece)
            size += len(piece)
            # Each piece may arrive in time and the whole still take forever.
            if (now := time.monotonic()) - since > timeout:
                if size - seen < SLOWEST * (now - since):
                    raise TemporaryError(f"slower than {SLOWEST} bytes/s")
                since, seen = now, size
    if announced is not None and size != announced:
        raise TemporaryError(f"{size} of {announced} bytes arrived")
    if MD5.fullmatch(etag) and etag != digest.hexdigest():
        raise TemporaryError(f"its {size} bytes do not match their MD5")
    return size, etag, digest.hexdigest()


def arriving(body: Any) -> bytes:
    """Give what one read of the network brings: waiting for a full piece could take forever."""
    with network_faults():
        return body.read1(PIECE)


@contextmanager
def network_faults() -> Iterator[None]:
    """Turn what botocore and its connections raise into `TemporaryError`."""
    try:
        yield
    except ReadTimeoutError:
        raise TemporaryError("timed out") from None
    except (BotoCoreError, HTTPError, ValueError) as error:  # the last for headers beyond reading
        raise TemporaryError(str(error)) from error
