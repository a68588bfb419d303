"""A large file from the web or a bucket, straight to the disk: within limits of size and time, with its checksum."""

import threading
import time
from pathlib import Path

from coda.gallery.base import GalleryDown
from coda.gallery.public_tables import CHECKSUM, receive_once, repeated
from coda.gallery.s3 import S3Gallery
from coda.provenance import file_checksum

ATTEMPTS = 5
TIMEOUT = 60.0  # seconds without progress


def save_location(
    location: str,
    path: Path,
    largest: int,
    seconds: float,
    endpoint: str | None = None,
    attempts: int = ATTEMPTS,
) -> None:
    """Fetch a file whole; what is at `path` after an error is worth nothing.

    Parameters
    ----------
    location
        ``https://...`` or ``s3://bucket/key`` (read without credentials); it may end in ``#sha256=...``, a checksum
        that the file must have. With one, redirects to other hosts are followed, as sites for releases have them.
    path
        Where to put it.
    largest
        Bytes that it may have.
    seconds
        How long all attempts may take together.
    endpoint
        URL of an S3 server other than Amazon's.
    attempts
        How often it is tried.

    Raises
    ------
    ValueError
        If the address is of another kind, the server refuses, the file is too large or has another checksum, or the
        time is over.
    coda.gallery.web.TemporaryError, coda.gallery.base.FetchError
        If no attempt succeeds.
    """
    checksum = CHECKSUM.search(location)
    location = CHECKSUM.sub("", location)
    if location.startswith("s3://"):
        _save_object(location, path, largest, seconds, endpoint, attempts)
    elif location.startswith(("https://", "http://")):
        _save_address(location, path, largest, seconds, attempts, elsewhere=bool(checksum))
    else:
        raise ValueError("only https:// and s3:// can be read")
    if checksum and (found := file_checksum(path, 64)) != checksum[1]:
        raise ValueError(f"its content has another checksum (sha256 {found}) than the address says")


def _save_address(
    address: str, path: Path, largest: int, seconds: float, attempts: int, elsewhere: bool
) -> None:
    deadline = time.monotonic() + seconds

    def once() -> None:
        with open(path, "wb") as sink:

            def write(piece: bytes) -> None:
                if time.monotonic() > deadline:
                    raise ValueError(_too_long(seconds))
                sink.write(piece)

            receive_once(address, TIMEOUT, write, largest, elsewhere)

    repeated(once, address, attempts)


def _save_object(
    location: str, path: Path, largest: int, seconds: float, endpoint: str | None, attempts: int
) -> None:
    folder, _, key = location.rpartition("/")
    bucket = S3Gallery(
        folder, endpoint, workers=1, attempts=attempts, timeout=TIMEOUT, largest=largest
    )
    over = threading.Timer(seconds, bucket.stop)
    over.daemon = True
    over.start()
    start = time.monotonic()
    try:
        bucket.fetch(key, path)
    except GalleryDown:
        if time.monotonic() - start >= seconds:
            raise ValueError(_too_long(seconds)) from None
        raise
    finally:
        over.cancel()


def _too_long(seconds: float) -> str:
    return f"it took longer than {seconds / 60:.0f} minutes"
