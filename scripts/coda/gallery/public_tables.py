"""Public tables: fetched whole from the web, a bucket or a folder, and checked."""

import hashlib
import random
import re
import time
import urllib.parse
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from coda.errors import UserError
from coda.files import parse_table, write_table
from coda.gallery.base import FetchError
from coda.gallery.open import open_gallery
from coda.gallery.plates import PLATE_COLUMNS, WELL_COLUMNS
from coda.gallery.web import (
    BUSY,
    ERROR_PAGE,
    TemporaryError,
    by_way_of,
    error_code,
    error_page,
    get_address,
    limited,
    pieces,
    shown,
)
from coda.logs import tell

# The columns that the workflow needs, by the table's name under `tables` in the config.
COLUMNS = {
    "plate": PLATE_COLUMNS,
    "well": WELL_COLUMNS,
    "compound": ["Metadata_JCP2022", "Metadata_InChIKey"],
    "platemap": ["well_position", "broad_sample"],
    "target_compounds": ["broad_sample", "InChIKey", "pert_iname", "pert_type", "control_type"],
    "drugs": ["pert_iname", "moa"],
}

LONGEST_PAUSE = 30.0  # seconds
LARGEST = 1 << 28  # bytes of a table
MOST_REDIRECTS = 5
REFUSALS = {400, 401, 403, 404, 407, 410}  # what says that trying again is of no use
CHECKSUM = re.compile(r"#sha256=([0-9a-f]{64})$")


def fetch_table(
    name: str,
    location: str,
    path: Path,
    attempts: int = 10,
    timeout: float = 60.0,
    endpoint: str | None = None,
    region: str = "us-east-1",
) -> None:
    """Fetch the table `tables.<name>` of the config to `path`, whole or not at all.

    Parameters
    ----------
    name
        A key of `COLUMNS`: only the columns listed there are kept.
    location
        ``https://...``, ``s3://bucket/key`` (read without credentials) or a local file; CSV, TSV or
        Parquet by its suffix, the first two also gzipped. It may end in ``#sha256=...``, a checksum that
        the content must have.
    path
        A ``.parquet`` or ``.csv`` file; text columns stay text.
    attempts
        Number of attempts before giving up; with the waits between them ten take over a minute.
    timeout
        Seconds without progress after which one attempt has failed.
    endpoint
        URL of an S3 server other than Amazon's, for ``s3://``.
    region
        Amazon region of a bucket; used without `endpoint` only.

    Raises
    ------
    UserError
        If the table cannot be fetched or read, or lacks a column.
    """
    checksum = CHECKSUM.search(location)
    location = CHECKSUM.sub("", location)
    web = "://" in location
    named = shown(location) if web else location
    try:
        data = read_location(location, attempts, timeout, endpoint, region)
        if checksum and other_content(data, checksum[1]):  # perhaps on its way alone
            data = read_location(location, attempts, timeout, endpoint, region)
            if why := other_content(data, checksum[1]):
                raise ValueError(why)
        table = parse_table(data, urllib.parse.urlsplit(location).path if web else location)
    except (OSError, ValueError, EOFError, zlib.error, FetchError, TemporaryError) as error:
        way = by_way_of(location) if web else ""
        raise UserError(
            f"tables.{name} ({named}) could not be read{way}: {reason_of(error)}; "
            "check the address or name a local copy there."
        ) from error
    missing = [column for column in COLUMNS[name] if column not in table.columns]
    if missing:
        raise UserError(
            f"tables.{name} ({named}) lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns[:12]))}."
        )
    write_table(table[COLUMNS[name]], path)


def read_location(
    location: str,
    attempts: int,
    timeout: float,
    endpoint: str | None = None,
    region: str = "us-east-1",
) -> bytes:
    """Give the bytes at a web address, in a bucket or in a local file."""
    if location.startswith("s3://"):
        folder, _, key = location.rpartition("/")
        return open_gallery(folder, endpoint, region, attempts=attempts, timeout=timeout).read(key)
    if location.startswith(("https://", "http://")):
        return read_address(location, attempts, timeout)
    if "://" in location:
        raise ValueError("only https://, s3:// and local files can be read")
    return Path(location).expanduser().read_bytes()


def other_content(data: bytes, checksum: str) -> str | None:
    """Say that the content of a table is not the one that its location promises, if so."""
    if (found := hashlib.sha256(data).hexdigest()) != checksum:
        return (
            f"its content is not the one that was chosen (sha256 {found}, not {checksum}); where the new one "
            "is right, correct or remove #sha256=... behind its location"
        )
    return None


def read_address(address: str, attempts: int, timeout: float) -> bytes:
    """Read a web address, again after a pause that doubles if the server or the connection fails.

    Raises
    ------
    ValueError
        If the server refuses, or redirects to another host.
    TemporaryError
        If no attempt succeeds.
    """
    content = bytearray()

    def once() -> None:
        content.clear()
        receive_once(address, timeout, content.extend, LARGEST)

    repeated(once, address, attempts)
    return bytes(content)


def repeated(once: Callable[[], None], address: str, attempts: int) -> None:
    """Call `once`, again after a pause that doubles if the server or the connection of an address fails."""
    for attempt in range(1, attempts + 1):
        try:
            return once()
        except TemporaryError as error:
            if attempt == attempts:
                raise
            pause = min(LONGEST_PAUSE, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            tell(f"{shown(address)}: {error}; again in {pause:.1f} s ({attempt} of {attempts})")
            time.sleep(pause)
    raise ValueError(f"attempts is {attempts}; it must be at least 1")


def receive_once(
    address: str,
    timeout: float,
    write: Callable[[bytes], object],
    largest: int,
    elsewhere: bool = False,
) -> None:
    """Make one attempt to read a web address, following redirects.

    Parameters
    ----------
    address, timeout
        As in `fetch_table`.
    write
        Takes each piece.
    largest
        Bytes that it may have.
    elsewhere
        Whether redirects to other hosts are followed too.
    """
    for _ in range(MOST_REDIRECTS):
        with limited(timeout):
            answer = get_address(address, timeout)
            code = error_code(error_page(answer)) if answer.status_code in REFUSALS else None
        with closing(answer.raw) as body:
            status = answer.status_code
            if status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
                address = redirected(address, answer.headers["Location"], elsewhere)
                continue
            if status >= 500 or status in (408, 429) or code in BUSY:
                raise TemporaryError(f"the server is in trouble or overloaded (HTTP {status})")
            if status in REFUSALS:
                raise ValueError(f"the server refuses it (HTTP {status})")
            if status != 200 or "Content-Range" in answer.headers:
                raise TemporaryError(f"the server did not send the whole of it (HTTP {status})")
            announced = body.length_remaining
            if announced is None and not body.chunked:
                raise TemporaryError("the server does not say how long it is, so it may be cut off")
            if announced is not None and announced > largest:
                raise ValueError(f"it has {announced:,} bytes, more than the {largest:,} allowed")
            start, size = b"", 0
            for piece in pieces(body, timeout, largest if announced is None else announced):
                start = start or piece[:ERROR_PAGE]
                write(piece)
                size += len(piece)
        if announced is not None and size != announced:
            raise TemporaryError(f"{size} of {announced} bytes arrived")
        if start.startswith(b"<?xml") and (code := error_code(start)) in BUSY:
            raise TemporaryError(f"the server is in trouble or overloaded ({code} under HTTP 200)")
        return
    raise ValueError(f"it redirects more than {MOST_REDIRECTS - 1} times")


def redirected(address: str, location: str, elsewhere: bool = False) -> str:
    """Give the address that a redirect leads to, if it is on the same host: the config says where a file comes from.

    Only `elsewhere`, for files whose checksum is known, may it be on another.

    Redirects from https to http are not followed: the table could be changed on its way.

    Raises
    ------
    ValueError
        If it is on another host, or not encrypted any more.
    """
    target = urllib.parse.urljoin(address, location)
    old, new = map(urllib.parse.urlsplit, (address, target))
    if new.netloc != old.netloc and not elsewhere:
        raise ValueError(f"it redirects to another host, {shown(target)}")
    if (old.scheme, new.scheme) not in {("http", "http"), ("http", "https"), ("https", "https")}:
        raise ValueError(f"it redirects to an unencrypted address, {shown(target)}")
    return target


def reason_of(error: Exception) -> str:
    """Give the reason why a table cannot be read, in words."""
    if isinstance(error, FileNotFoundError) and not isinstance(error, FetchError):
        return "there is no such file"
    return str(error) or type(error).__name__
