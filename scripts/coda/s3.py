"""The gallery on S3: listings and objects, asked for again until they are whole.

Reading a public bucket is nothing but plain GET requests. Making them without an SDK leaves no code
that could sign, look for credentials, read a profile or ask a metadata service, and makes every
attempt visible and counted.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote_plus, urlencode, urlsplit
from xml.etree import ElementTree

from coda.errors import UserError
from coda.gallery import (
    BrokenObject,
    Entry,
    Fetched,
    Gallery,
    GalleryDown,
    MissingObject,
    checked_key,
    checked_prefix,
)
from coda.web import Connections, PassingFault

Result = TypeVar("Result")

LONGEST_WAIT = 8.0  # seconds between attempts


class S3Gallery(Gallery):
    """A public bucket, read without credentials.

    Parameters
    ----------
    root, endpoint, region, workers, attempts, timeout
        See `coda.gallery.open_gallery`.
    backoff
        Upper bound in seconds of the first wait between attempts; it doubles with each.
    patience
        Seconds without a good answer after which the gallery is asked whether it is there at all.
    """

    def __init__(
        self,
        root: str,
        endpoint: str | None = None,
        region: str = "us-east-1",
        workers: int = 32,
        attempts: int = 6,
        timeout: float = 30.0,
        backoff: float = 0.5,
        patience: float = 25.0,
    ):
        bucket, _, prefix = root.removeprefix("s3://").strip("/").partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket):
            raise UserError(
                f"gallery.root is {root}; it must be s3://bucket/prefix or a local folder."
            )
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self.prefix = checked_prefix(prefix)
        self.url = bucket_url(bucket, endpoint, region)
        self.attempts, self.backoff, self.patience = attempts, backoff, patience
        self.web = Connections(self.url, workers, timeout)
        self.lock = threading.Lock()
        self.trouble: float | None = None  # since when there has been no good answer
        self.down, self.obituary = threading.Event(), ""

    def read(self, key: str) -> bytes:
        """See `Gallery.read`."""
        url = self.object_url(key)
        return self.persist(lambda: self.content(url, self.web.receive_object))[0]

    def fetch(self, key: str, path: Path) -> Fetched:
        """See `Gallery.fetch`."""
        url, start = self.object_url(key), time.monotonic()

        def save(response: HTTPResponse) -> tuple[int, str, str]:
            with open(path, "wb") as sink:
                return self.web.receive_object(response, sink.write)

        (size, etag, md5), attempts = self.persist(lambda: self.web.get(url, save))
        return Fetched(size, etag, md5, attempts, time.monotonic() - start)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        for page in self.listing(prefix):
            for item in page.iterfind("Contents"):
                key = item.findtext("Key")[len(self.prefix) :]
                etag = item.findtext("ETag", "").strip('"')
                if not key.endswith("/"):  # consoles mark folders with empty objects
                    yield Entry(key, int(item.findtext("Size")), etag)

    def folders(self, prefix: str) -> list[str]:
        """See `Gallery.folders`."""
        pages = self.listing(prefix, delimiter="/")
        found = [item.findtext("Prefix") for page in pages for item in page.iter("CommonPrefixes")]
        return [key[len(self.prefix) :].removesuffix("/") for key in found]

    def content(self, url: str, receive: Callable) -> bytes:
        """GET an object or a page once, into memory."""
        content = bytearray()
        self.web.get(url, lambda body: receive(body, content.extend))
        return bytes(content)

    def object_url(self, key: str) -> str:
        """Give the URL of an object; spaces and other special characters are escaped."""
        return f"{self.url}/{quote(self.prefix + checked_key(key))}"

    def listing(self, prefix: str, delimiter: str = "") -> Iterator[ElementTree.Element]:
        """Give the pages of a listing as XML without name spaces, keys unescaped."""
        query = {"list-type": "2", "encoding-type": "url", "delimiter": delimiter}
        query["prefix"] = self.prefix + checked_prefix(prefix)
        while True:
            url = f"{self.url}/?{urlencode({k: v for k, v in query.items() if v}, quote_via=quote)}"
            try:
                page, _ = self.persist(lambda url=url: parsed(self.content(url, self.web.receive)))
            except MissingObject as error:
                raise UserError(
                    f"The gallery {self.root} cannot be listed ({error}); "
                    "correct gallery.root or gallery.endpoint."
                ) from None
            yield page
            if page.findtext("IsTruncated") != "true":
                return
            query["continuation-token"] = page.findtext("NextContinuationToken")

    def persist(self, once: Callable[[], Result]) -> tuple[Result, int]:
        """Call `once` until it succeeds, waiting longer each time; give its result and attempts.

        The waits are drawn evenly between nothing and a bound that doubles ("full jitter"), so that
        workers throttled together do not come back together.
        """
        start = began = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            if self.down.is_set():
                raise GalleryDown(self.obituary)
            try:
                result = once()
            except MissingObject as error:
                self.trouble = None
                raise MissingObject(error.reason, attempt, time.monotonic() - start) from None
            except PassingFault as error:
                reason, last = str(error), attempt == self.attempts
                with self.lock:
                    trouble = self.trouble = self.trouble or began
                if time.monotonic() - trouble > self.patience or (last and trouble <= start):
                    self.give_up_unless_it_answers(reason)
                if not last:
                    bound = min(self.backoff * 2 ** (attempt - 1), LONGEST_WAIT)
                    self.down.wait(random.uniform(0, bound))
                began = time.monotonic()
            else:
                self.trouble = None
                return result, attempt
        reason += f", after {self.attempts} attempts"
        raise BrokenObject(reason, self.attempts, time.monotonic() - start)

    def give_up_unless_it_answers(self, reason: str) -> None:
        """Tell a gallery that is down from one bad object, by asking for one line of its listing.

        Raises
        ------
        GalleryDown
            Here and, from now on, in every worker, if the gallery does not answer.
        """
        for _ in range(2):
            try:
                url = f"{self.url}/?list-type=2&max-keys=1&prefix={quote(self.prefix)}"
                self.web.get(url, lambda body: None, timeout=min(self.web.timeout, 5.0))
            except PassingFault:
                continue
            except (MissingObject, UserError):
                pass  # an answer, if not the one asked for
            self.trouble = None
            return
        self.obituary = (
            f"The gallery {self.root} is down: {urlsplit(self.url).netloc} does not answer "
            f"({reason}); check the network, gallery.root and gallery.endpoint, then start again: "
            "what has arrived is kept."
        )
        self.down.set()
        raise GalleryDown(self.obituary)


def bucket_url(bucket: str, endpoint: str | None, region: str) -> str:
    """Give the URL of a bucket, from these arguments alone: no environment variable, no profile."""
    if endpoint is None:
        # Names with dots do not match Amazon's certificates, so they stand in the path.
        host = f"s3.{region}.amazonaws.com"
        return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UserError(
            f"gallery.endpoint is {endpoint}; "
            "it must look like https://s3.example.org or http://127.0.0.1:9000."
        )
    return f"{endpoint.rstrip('/')}/{bucket}"


def parsed(body: bytes) -> ElementTree.Element:
    """Parse a page of a listing, drop its name space and unescape its keys."""
    try:
        page = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise PassingFault(f"unreadable listing: {error}") from None
    escaped = page.findtext("{*}EncodingType") == "url"
    for element in page.iter():
        element.tag = element.tag.rpartition("}")[2]
        if escaped and element.tag in ("Key", "Prefix") and element.text:
            element.text = unquote_plus(element.text)
    return page
