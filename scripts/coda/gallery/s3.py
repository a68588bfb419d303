"""The gallery on S3: requests are repeated until they succeed, or until the gallery counts as down.

`coda.gallery.s3_requests` makes each request; when to try again and when to give up is decided here,
so that every attempt is counted.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.parsers import ResponseParserError

from coda.errors import UserError
from coda.gallery.base import (
    BrokenObject,
    Entry,
    Fetched,
    Gallery,
    GalleryDown,
    MissingObject,
    checked_key,
    checked_prefix,
)
from coda.gallery.s3_requests import (
    LARGEST_UNLISTED,
    MD5,
    PARTS,
    address_of,
    etag_of,
    get_object,
    has_parts,
    public_client,
    receive,
)
from coda.gallery.web import BusyError, TemporaryError, by_way_of, limited, network_faults

Result = TypeVar("Result")

LONGEST_WAIT = 8.0  # seconds between attempts
LONGER = 4  # factor of the waits after `wait_longer`
LONGEST_PROBE = 5.0  # seconds
LONGEST_PROBE_CONNECT = 1.5  # seconds an address
LISTING = 4  # times the timeout: some servers hash what they list
LARGEST_PAGE = 1 << 24  # bytes of a page of a listing; a thousand of the longest keys fit
MOST_PAGES = 5000  # of a listing, of a thousand objects each


class S3Gallery(Gallery):
    """A public bucket, read without credentials.

    Parameters
    ----------
    root, endpoint, region, workers, attempts, timeout
        See `coda.gallery.open.open_gallery`.
    backoff
        Upper bound in seconds of the first wait between attempts; it doubles with each.
    patience
        Seconds without any answer after which a probe checks whether the gallery is down.
    storm
        Seconds for which a gallery is waited for that answers, but with errors of its own alone.
    largest
        Bytes that an object may have whose size no listing has told.
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
        patience: float = 20.0,
        storm: float = 300.0,
        largest: int = LARGEST_UNLISTED,
    ):
        self.bucket, _, prefix = root.removeprefix("s3://").strip("/").partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", self.bucket):
            raise UserError(
                f"gallery.root is {root}; it must be s3://bucket/prefix or a local folder."
            )
        self.root = f"s3://{self.bucket}/{prefix}".rstrip("/")
        self.prefix = checked_prefix(prefix)
        self.client = public_client(endpoint, region, workers, timeout)
        self.address = address_of(self.client, self.bucket)
        self.prober = public_client(
            endpoint, region, 1, min(timeout, LONGEST_PROBE), LONGEST_PROBE_CONNECT
        )
        self.attempts, self.timeout = attempts, timeout
        self.backoff, self.longest_wait = backoff, LONGEST_WAIT
        self.patience, self.storm, self.largest = patience, storm, largest
        self.lock, self.probing = threading.Lock(), threading.Lock()
        self.failing_since: float | None = None  # no good answer since then
        self.storms = 0  # that have passed
        self.down, self.why_down = threading.Event(), ""

    def read(self, key: str, listed: Entry | None = None) -> bytes:
        """See `Gallery.read`."""
        content = bytearray()

        def load(fresh: bool) -> None:
            content.clear()
            answer = self.ask(key, fresh)
            receive(answer, content.extend, self.timeout, listed, self.down, self.largest)

        self.retry(load)
        return bytes(content)

    def fetch(self, key: str, path: Path, listed: Entry | None = None) -> Fetched:
        """See `Gallery.fetch`."""
        start = time.monotonic()

        def save(fresh: bool) -> tuple[int, str, str]:
            answer = self.ask(key, fresh)
            with open(path, "wb") as sink:
                return receive(answer, sink.write, self.timeout, listed, self.down, self.largest)

        (size, etag, md5), attempts = self.retry(save)
        in_parts = PARTS.fullmatch(etag) and has_parts(path, size, etag)
        checked = "md5" if MD5.fullmatch(etag) else "parts" if in_parts else "size"
        return Fetched(size, etag, md5, attempts, time.monotonic() - start, checked)

    def ask(self, key: str, fresh: bool) -> AWSResponse:
        """Request an object once, perhaps on a fresh connection; its headers must arrive within the timeout."""
        name, timeout = self.prefix + checked_key(key), self.timeout if fresh else None
        with limited(self.timeout, stop=self.down):
            return get_object(self.client, self.address, name, timeout)

    def listed(self, keys: Iterable[str]) -> dict[str, Entry]:
        """See `Gallery.listed`; only the folders that the keys lie in are listed."""
        keys = {checked_key(key) for key in keys}
        folders = sorted({key.rpartition("/")[0] for key in keys})
        return {
            entry.key: entry
            for folder in folders
            for entry in self.entries(folder, Delimiter="/")
            if entry.key in keys
        }

    def entries(self, prefix: str, **options: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        for page in self.listing(prefix, **options):
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # consoles mark folders with empty objects
                    key = item["Key"].removeprefix(self.prefix)
                    yield Entry(key, item["Size"], etag_of(item.get("ETag", "")) or None)

    def folders(self, prefix: str) -> list[str]:
        """See `Gallery.folders`."""
        return [
            item["Prefix"].removeprefix(self.prefix).removesuffix("/")
            for page in self.listing(prefix, Delimiter="/")
            for item in page.get("CommonPrefixes", [])
        ]

    def listing(self, prefix: str, **options: str) -> Iterator[dict]:
        """Give the pages of a listing.

        Raises
        ------
        BrokenObject
            If a page is not what follows on those before it, at every attempt.
        UserError
            If there is no such bucket, or the listing has no end.
        """
        options["Prefix"] = self.prefix + checked_prefix(prefix)
        last = ""

        def turn(fresh: bool) -> dict:
            if fresh:
                self.client._endpoint.http_session.close()
            try:
                with network_faults(), limited(LISTING * self.timeout, LARGEST_PAGE, self.down):
                    page = self.client.list_objects_v2(Bucket=self.bucket, **options)
                check_page(page, options, last)
            except ResponseParserError as error:
                self.client._endpoint.http_session.close()
                raise TemporaryError("the answer is not the listing of an S3 server") from error
            except TemporaryError:
                # Connections may be out of step: what is asked next could get the answer to something else.
                self.client._endpoint.http_session.close()
                raise
            return page

        for _ in range(MOST_PAGES):
            try:
                page, _ = self.retry(turn)
            except MissingObject as error:
                raise UserError(
                    f"The gallery {self.root} cannot be listed ({error}); "
                    "correct gallery.root or gallery.endpoint."
                ) from None
            yield page
            if not page["IsTruncated"]:
                return
            options["ContinuationToken"] = page["NextContinuationToken"]
            last = max([last, *names_of(page)])
        raise UserError(
            f"The listing of {self.root}/{prefix} has no end: more than {MOST_PAGES:,} pages; "
            "correct gallery.root or gallery.endpoint, or list fewer objects in one folder."
        )

    def stop(self) -> None:
        """See `Gallery.stop`."""
        self.why_down = self.why_down or "The download was stopped."
        self.down.set()

    def wait_longer(self) -> None:
        """See `Gallery.wait_longer`."""
        self.backoff, self.longest_wait = LONGER * self.backoff, LONGER * LONGEST_WAIT

    def retry(self, once: Callable[[bool], Result]) -> tuple[Result, int]:
        """Call `once` until it succeeds, waiting longer each time; give its result and the number of attempts.

        The waits are drawn evenly between nothing and a bound that doubles ("full jitter"), so that
        workers that were throttled together do not return together. A refusal is believed when it comes
        again on a fresh connection, for which `once` is asked from then on: the first could be the answer
        to another request, out of step. Attempts in a storm, in which the gallery refused everyone, do not
        count.
        """
        start = began = time.monotonic()
        attempts = failed = 0
        storms, refused = self.storms, False
        while failed < self.attempts:
            if self.down.is_set():
                raise GalleryDown(self.why_down)
            attempts += 1
            try:
                result = once(refused)
            except (MissingObject, UserError) as refusal:
                self.failing_since = None
                if not refused:
                    refused = True
                elif isinstance(refusal, MissingObject):
                    seconds = time.monotonic() - start
                    raise MissingObject(refusal.reason, attempts, seconds) from None
                else:
                    raise
            except TemporaryError as error:
                failed += 1
                with self.lock:
                    failing_since = self.failing_since = self.failing_since or began
                silent = time.monotonic() - failing_since > self.patience
                if silent or (failed == self.attempts and failing_since <= start):
                    self.wait_for_answers(error)
                reason = str(error)
                if self.storms > storms:
                    failed, storms = 0, self.storms
                elif failed < self.attempts:
                    self.pause(failed)
                began = time.monotonic()
            else:
                self.failing_since = None
                return result, attempts
        reason += f", after {attempts} attempts"
        raise BrokenObject(reason, attempts, time.monotonic() - start)

    def pause(self, failed: int) -> None:
        """Wait before the next attempt, longer the more have failed."""
        bound = min(self.backoff * 2 ** (failed - 1), self.longest_wait)
        self.down.wait(random.uniform(0, bound))  # noqa: S311 - no secret

    def wait_for_answers(self, error: TemporaryError) -> None:
        """Distinguish a gallery that is down from one bad object by requesting another, absent one.

        A gallery that answers, but with errors alone, is waited for; one that does not answer is too, but not
        as long.

        Raises
        ------
        GalleryDown
            Here and, from now on, in every worker, if that takes too long.
        """
        with self.probing:
            turns = 0
            while (failing_since := self.failing_since) is not None and not self.down.is_set():
                try:
                    with limited(min(self.timeout, LONGEST_PROBE), stop=self.down):
                        get_object(self.prober, self.address, f"{self.prefix}no-such").raw.close()
                except TemporaryError as fault:
                    error = fault
                except (MissingObject, UserError):
                    self.failing_since = None  # the gallery answers
                else:
                    self.failing_since = None
                if self.failing_since is None:
                    break
                patience = self.storm if isinstance(error, BusyError) else self.patience
                turns += 1
                if turns > 1 and time.monotonic() - failing_since > patience:
                    host = urlsplit(self.client.meta.endpoint_url).netloc
                    way = by_way_of(self.client.meta.endpoint_url)
                    self.why_down = (
                        f"The gallery {self.root} is down: {host} does not answer{way} ({error}); check the "
                        "network, gallery.root and gallery.endpoint, then start again: "
                        "what has arrived is kept."
                    )
                    self.down.set()
                    raise GalleryDown(self.why_down)
                self.pause(turns)
            self.storms += turns > 0


def names_of(page: dict) -> list[str]:
    """Give the keys and folders on a page of a listing."""
    return [
        *(item["Key"] for item in page.get("Contents", [])),
        *(item["Prefix"] for item in page.get("CommonPrefixes", [])),
    ]


def check_page(page: dict, asked: dict[str, str], last: str) -> None:
    """Check that a page of a listing is one, and the one that was asked for.

    Parameters
    ----------
    page
        As boto3 gives it.
    asked
        The parameters of the request.
    last
        The last name on the pages before; those of this page come after it.

    Raises
    ------
    TemporaryError
        If it is not.
    """
    if "IsTruncated" not in page:
        raise TemporaryError("the answer is not the listing of an S3 server")
    items = [*page.get("Contents", []), *page.get("CommonPrefixes", [])]
    if any(
        ("Key" not in item or item.get("Size", -1) < 0) and "Prefix" not in item for item in items
    ):
        raise TemporaryError("the listing has objects without a key or a size")
    told = {name: page[name] for name in ("Prefix", "ContinuationToken") if page.get(name)}
    names = names_of(page)
    if any(told[name] != asked.get(name) for name in told) or any(
        not name.startswith(asked["Prefix"]) for name in names
    ):
        raise TemporaryError("the listing is the answer to another request")
    if names and min(names) <= last:
        raise TemporaryError("the listing repeats itself")
    if page["IsTruncated"]:
        following = page.get("NextContinuationToken")
        if not following:
            raise TemporaryError("the listing is cut off and does not name its next page")
        if following == asked.get("ContinuationToken"):
            raise TemporaryError("the listing names the same page as its next one again")
        if not names:
            raise TemporaryError("the listing is cut off, though nothing is on its page")
