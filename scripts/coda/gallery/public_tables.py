"""Public tables: fetched whole from the web, a bucket or a folder, and checked."""

import http.client
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

from coda.errors import UserError
from coda.files import parse_table, write_table
from coda.gallery.base import FetchError
from coda.gallery.open import open_gallery
from coda.gallery.plates import PLATE_COLUMNS, WELL_COLUMNS

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


def fetch_table(
    name: str,
    location: str,
    path: Path,
    attempts: int = 5,
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
        Parquet by its suffix, the first two also gzipped.
    path
        A ``.parquet`` or ``.csv`` file; text columns stay text.
    attempts
        Number of attempts before giving up.
    timeout
        Seconds without an answer after which one attempt has failed.
    endpoint
        URL of an S3 server other than Amazon's, for ``s3://``.
    region
        Amazon region of a bucket; used without `endpoint` only.

    Raises
    ------
    UserError
        If the table cannot be fetched or read, or lacks a column.
    """
    try:
        data = read_location(location, attempts, timeout, endpoint, region)
        web = "://" in location
        table = parse_table(data, urllib.parse.urlsplit(location).path if web else location)
    except (
        OSError,
        ValueError,
        EOFError,
        zlib.error,
        FetchError,
        http.client.HTTPException,
    ) as error:
        raise UserError(
            f"tables.{name} ({location}) could not be read: {reason_of(error)}; "
            "check the address or name a local copy there."
        ) from error
    missing = [column for column in COLUMNS[name] if column not in table.columns]
    if missing:
        raise UserError(
            f"tables.{name} ({location}) lacks the column(s) {', '.join(missing)}; "
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


def read_address(address: str, attempts: int, timeout: float) -> bytes:
    """Read a web address, again after a pause that doubles if the server or the connection fails."""
    opener = urllib.request.build_opener(SameHostRedirects)
    for attempt in range(1, attempts + 1):
        try:
            with opener.open(address, timeout=timeout) as answer:
                return answer.read()
        except (OSError, http.client.HTTPException) as error:
            final = (
                isinstance(error, urllib.error.HTTPError)
                and error.code < 500
                and error.code not in (408, 429)
            )
            if final or attempt == attempts:
                raise
            pause = min(LONGEST_PAUSE, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            print(
                f"{address}: {reason_of(error)}; again in {pause:.1f} s ({attempt} of {attempts})",
                file=sys.stderr,
            )
            time.sleep(pause)
    raise ValueError(f"attempts is {attempts}; it must be at least 1")


class SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects on the same host only: the config says where a table comes from.

    Redirects from https to http are not followed: the table could be changed on its way.
    """

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # noqa: D102 (as in the base class)
        old, new = map(urllib.parse.urlsplit, (req.full_url, newurl))
        place = "another host" if new.netloc != old.netloc else "an unencrypted address"
        if new.netloc != old.netloc or (old.scheme, new.scheme) == ("https", "http"):
            raise urllib.error.HTTPError(
                req.full_url, 400, f"it redirects to {place}, {newurl}", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def reason_of(error: Exception) -> str:
    """Give the reason why an attempt failed, in words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.msg} (HTTP {error.code})"
    if isinstance(error, FileNotFoundError):
        return str(error) if isinstance(error, FetchError) else "there is no such file"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
