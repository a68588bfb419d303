"""The gallery on S3: requests are repeated until they succeed, or until the gallery counts as down.

`coda.gallery.s3_requests` makes each request; when to try again and when to give up is decided here,
so that every attempt is counted.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

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
    TemporaryError,
    address_of,
    get_object,
    network_faults,
    public_client,
    receive,
)

Result = TypeVar("Result")

LONGEST_WAIT = 8.0  # seconds between attempts
LONGER = 4  # factor of the waits after `wait_longer`
LONGEST_PROBE = 5.0  # seconds
LONGEST_PROBE_CONNECT = 1.5  # seconds an address


class S3Gallery(Gallery):
    """A public bucket, read without credentials.

    Parameters
    ----------
    root, endpoint, region, workers, attempts, timeout
        See `coda.gallery.open.open_gallery`.
    backoff
        Upper bound in seconds of the first wait between attempts; it doubles with each.
    patience
        Seconds without a good answer after which a probe checks whether the gallery is down.
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
        self.backoff, self.longest_wait, self.patience = backoff, LONGEST_WAIT, patience
        self.lock = threading.Lock()
        self.failing_since: float | None = None  # no good answer since then
        self.down, self.why_down = threading.Event(), ""

    def read(self, key: str) -> bytes:
        """See `Gallery.read`."""
        name, content = self.prefix + checked_key(key), bytearray()

        def load() -> None:
            content.clear()
            receive(get_object(self.client, self.address, name), content.extend, self.timeout)

        self.retry(load)
        return bytes(content)

    def fetch(self, key: str, path: Path) -> Fetched:
        """See `Gallery.fetch`."""
        name, start = self.prefix + checked_key(key), time.monotonic()

        def save() -> tuple[int, str, str]:
            answer = get_object(self.client, self.address, name)
            with open(path, "wb") as sink:
                return receive(answer, sink.write, self.timeout)

        (size, etag, md5), attempts = self.retry(save)
        return Fetched(size, etag, md5, attempts, time.monotonic() - start)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Gallery.entries`."""
        for page in self.listing(prefix):
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # consoles mark folders with empty objects
                    key = item["Key"].removeprefix(self.prefix)
                    yield Entry(key, item["Size"], item.get("ETag", "").strip('"'))

    def folders(self, prefix: str) -> list[str]:
        """See `Gallery.folders`."""
        return [
            item["Prefix"].removeprefix(self.prefix).removesuffix("/")
            for page in self.listing(prefix, Delimiter="/")
            for item in page.get("CommonPrefixes", [])
        ]

    def listing(self, prefix: str, **options: str) -> Iterator[dict]:
        """Give the pages of a listing."""
        options["Prefix"] = self.prefix + checked_prefix(prefix)

        def turn() -> dict:
            with network_faults():
                page = self.client.list_objects_v2(Bucket=self.bucket, **options)
            if "IsTruncated" not in page:
                raise TemporaryError("the answer is not the listing of an S3 server")
            return page

        while True:
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

    def wait_longer(self) -> None:
        """See `Gallery.wait_longer`."""
        self.backoff, self.longest_wait = LONGER * self.backoff, LONGER * LONGEST_WAIT

    def retry(self, once: Callable[[], Result]) -> tuple[Result, int]:
        """Call `once` until it succeeds, waiting longer each time; give its result and the number of attempts.

        The waits are drawn evenly between nothing and a bound that doubles ("full jitter"), so that
        workers that were throttled together do not return together.
        """
        start = began = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            if self.down.is_set():
                raise GalleryDown(self.why_down)
            try:
                result = once()
            except MissingObject as error:
                self.failing_since = None
                raise MissingObject(error.reason, attempt, time.monotonic() - start) from None
            except TemporaryError as error:
                reason, last = str(error), attempt == self.attempts
                with self.lock:
                    failing_since = self.failing_since = self.failing_since or began
                if time.monotonic() - failing_since > self.patience or (
                    last and failing_since <= start
                ):
                    self.check_answers(reason)
                if not last:
                    bound = min(self.backoff * 2 ** (attempt - 1), self.longest_wait)
                    self.down.wait(random.uniform(0, bound))  # noqa: S311 - no secret
                began = time.monotonic()
            else:
                self.failing_since = None
                return result, attempt
        reason += f", after {self.attempts} attempts"
        raise BrokenObject(reason, self.attempts, time.monotonic() - start)

    def check_answers(self, reason: str) -> None:
        """Distinguish a gallery that is down from one bad object by requesting another, absent one.

        Raises
        ------
        GalleryDown
            Here and, from now on, in every worker, if the gallery does not answer.
        """
        for _ in range(2):
            try:
                get_object(self.prober, self.address, f"{self.prefix}no-such")
            except TemporaryError:
                continue
            except (MissingObject, UserError):
                pass  # the gallery answers
            self.failing_since = None
            return
        host = urlsplit(self.client.meta.endpoint_url).netloc
        self.why_down = (
            f"The gallery {self.root} is down: {host} does not answer ({reason}); check the "
            "network, gallery.root and gallery.endpoint, then start again: "
            "what has arrived is kept."
        )
        self.down.set()
        raise GalleryDown(self.why_down)
