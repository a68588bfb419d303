"""Open a gallery by its root: a bucket on S3 or a local folder."""

from coda.errors import UserError
from coda.gallery.base import Gallery
from coda.gallery.local import LocalGallery
from coda.gallery.s3 import S3Gallery


def open_gallery(
    root: str,
    endpoint: str | None = None,
    region: str = "us-east-1",
    workers: int = 32,
    attempts: int = 6,
    timeout: float = 30.0,
) -> Gallery:
    """Open the gallery at `root`.

    Parameters
    ----------
    root
        ``s3://bucket/prefix`` or a folder with the same layout below it.
    endpoint
        URL of an S3 server other than Amazon's.
    region
        Amazon region of the bucket; used without `endpoint` only.
    workers
        Number of connections kept.
    attempts
        How often one request is made before it counts as failed.
    timeout
        Seconds without progress after which a request is given up and made again.

    Raises
    ------
    UserError
        If `root` is neither.
    """
    if root.startswith("s3://"):
        return S3Gallery(root, endpoint, region, workers, attempts, timeout)
    if "://" in root:
        raise UserError(f"gallery.root is {root}; it must be s3://bucket/prefix or a local folder.")
    return LocalGallery(root)
