"""The crop store: one Arrow file per plate, 8-bit pixels beside their metadata, memory-mapped.

A store file is an uncompressed Arrow IPC file. Every row is a crop: its ``Metadata_*``,
``Quality_*`` and ``Crop_*`` columns and, last, ``pixels``, the channel-first bytes of the crop.
The schema's metadata carry the format's version, the channels, the size, the crop settings and a checksum of the file.
Any Arrow library reads it; nothing is unpacked or decoded, so a reader gets views of the file.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from coda.crops.seal import OPEN, check_seal, note_seal, seal
from coda.errors import UserError
from coda.files import replacing

SCHEMA_VERSION = 2
# Sites are gathered into record batches of about this size. One batch per site would make opening a
# plate of 3,456 sites 15 times slower, and readers take single crops out of a batch anyway.
BATCH_BYTES = 16 * 2**20


class CropWriter:
    """Write the crops of one plate, whole or not at all.

    Parameters
    ----------
    path
        The store file to make. It appears when the ``with`` block ends without an error.
    channels
        Names of the channels, in the order of the pixels' channel axis.
    height, width
        Size of a crop, in pixels.
    settings
        How the crops were made (JSON values), ``um_per_pixel`` among them.

    Examples
    --------
    >>> with CropWriter("plate.arrow", ["DNA", "ER"], 448, 448, {"um_per_pixel": 0.598}) as writer:
    ...     writer.write({"Metadata_Well": "A01", "Metadata_Site": 1}, pixels)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        channels: Sequence[str],
        height: int,
        width: int,
        settings: dict,
    ):
        self.path, self.shape = Path(path), (len(channels), height, width)
        self.description = {
            "schema_version": SCHEMA_VERSION,
            "channels": list(channels),
            "height": height,
            "width": width,
            "settings": settings,
            "checksum": OPEN,
        }
        self.rows = 0
        self._schema = None
        self._columns: dict[str, list] = {}
        self._pixels: list[np.ndarray] = []

    def __enter__(self) -> "CropWriter":
        """Open a temporary file beside the path."""
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(replacing(self.path))
        # Once the file is closed, and before it takes its name.
        self._stack.push(lambda kind, error, trace: None if kind else seal(self._temporary))
        return self

    def __exit__(self, kind, error, trace) -> bool | None:
        """Put the file in place, or remove it after an error."""
        if kind is not None:
            return self._stack.__exit__(kind, error, trace)
        with self._stack:
            if self._schema is None:
                raise UserError(f"No crop is left for {self.path}; the log has the reasons.")
            self._flush()
        note_seal(self.path, _describe(self.path)[1]["checksum"])
        return None

    def write(self, metadata: dict, pixels: np.ndarray) -> None:
        """Add the crops of one site.

        Parameters
        ----------
        metadata
            Column name to value. A list or array holds one value per crop; anything else is the same
            for all crops of the site. Every call gives the same columns.
        pixels
            uint8 array of shape (n, C, H, W), n may be 0.

        Raises
        ------
        ValueError
            If the shape, the type or the columns do not fit.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self.shape:
            raise ValueError(
                f"crops are {pixels.dtype} {pixels.shape}, expected uint8 (n, {self.shape})"
            )
        if self._schema is None:
            self._start(metadata)
        if set(metadata) != set(self._columns):
            raise ValueError(
                f"columns {sorted(metadata)} differ from the first site's {sorted(self._columns)}"
            )
        for name, value in metadata.items():
            values = (
                list(value)
                if isinstance(value, list | tuple | np.ndarray)
                else [value] * len(pixels)
            )
            if len(values) != len(pixels):
                raise ValueError(f"{name} has {len(values)} values for {len(pixels)} crops")
            self._columns[name].extend(values)
        self._pixels.append(pixels)
        self.rows += len(pixels)
        if sum(block.nbytes for block in self._pixels) >= BATCH_BYTES:
            self._flush()

    def _start(self, metadata: dict) -> None:
        fields = [pa.field(name, _column_type(name, value)) for name, value in metadata.items()]
        fields.append(pa.field("pixels", pa.binary(int(np.prod(self.shape)))))
        self._schema = pa.schema(fields, metadata={"coda": json.dumps(self.description)})
        self._columns = {name: [] for name in metadata}
        file = self._stack.enter_context(pa.OSFile(str(self._temporary), "wb"))
        self._writer = self._stack.enter_context(pa.ipc.new_file(file, self._schema))

    def _flush(self) -> None:
        pixels = np.concatenate(self._pixels) if self._pixels else ()
        if len(pixels):
            *fields, kind = self._schema
            arrays = [
                pa.array(self._columns[field.name], field.type, from_pandas=True)
                for field in fields
            ]
            buffers = [None, pa.py_buffer(pixels)]
            arrays.append(pa.Array.from_buffers(kind.type, len(pixels), buffers))
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._columns = {name: [] for name in self._columns}
        self._pixels = []


def _column_type(name: str, value: object) -> pa.DataType:
    """Arrow type of a column: ids are text even where they look like numbers or are missing."""
    if isinstance(value, list | tuple | np.ndarray):
        value = value[0] if len(value) else 0.0
    if name.startswith("Metadata_") and name != "Metadata_Site":
        return pa.string()
    if isinstance(value, bool | np.bool_):
        return pa.bool_()
    if isinstance(value, int | np.integer):
        return pa.int64()
    return pa.string() if isinstance(value, str) else pa.float64()


class CropStore:
    """The crops of one or more plates as one, read through the memory map.

    Opening reads the metadata only. Pixels are views of the files until `gather` copies them.

    Parameters
    ----------
    paths
        Store files, in the order their crops shall have.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per crop, in order.
    channels : list of str
        Names of the channels.
    height, width : int
        Size of a crop, in pixels.
    settings : dict
        The crop settings; ``um_per_pixel`` and ``nuclei`` may differ between plates and are the
        first's.

    Raises
    ------
    UserError
        If a file is no crop store, or differs from the first in channels, size, columns or
        settings.

    Examples
    --------
    >>> store = CropStore(["results/crops/source_3/JCPQC016.arrow"])
    >>> store.gather([5, 3, 5]).shape
    (3, 5, 448, 448)
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise UserError("A crop store needs at least one plate.")
        opened = [_open(path) for path in self.paths]
        first = opened[0][0]
        for path, (description, _, _) in zip(self.paths, opened, strict=True):
            for key in ("channels", "height", "width", "columns"):
                if description[key] != first[key]:
                    raise UserError(
                        f"The crops {path} have {key} {description[key]}, but {self.paths[0]} "
                        f"has {first[key]}; make both with the same settings."
                    )
            how = [_shared(each["settings"]) for each in (description, first)]
            if how[0] != how[1]:
                raise UserError(
                    f"The crops {path} were made with {how[0]}, but {self.paths[0]} with {how[1]}; "
                    "make both with the same settings."
                )
        self.channels, self.settings = first["channels"], first["settings"]
        self.height, self.width = first["height"], first["width"]
        self._um = {}  # by source
        for description, table, _ in opened:
            if table.num_rows and "Metadata_Source" in table.column_names:
                source = table["Metadata_Source"][0].as_py()
                self._um.setdefault(source, description["settings"].get("um_per_pixel"))
        self.table = pa.concat_tables([table for _, table, _ in opened]).to_pandas()
        self._blocks = [block for _, _, blocks in opened for block in blocks]
        self._starts = np.cumsum([0] + [len(block) for block in self._blocks])

    def um_per_pixel(self, source: str) -> float | None:
        """Pixel size of the crops of a source, by its first plate; None where it is unknown."""
        return self._um.get(source)

    def __len__(self) -> int:
        """Count the crops."""
        return int(self._starts[-1])

    def __reduce__(self):
        """Pickle as paths: the process that unpickles maps the files itself."""
        return CropStore, (self.paths,)

    def view(self, index: int) -> np.ndarray:
        """Pixels of one crop, a read-only uint8 view (C, H, W) of the file, nothing copied."""
        if not 0 <= index < len(self):
            raise IndexError(f"crop {index} of {len(self)}")
        block = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._blocks[block][index - self._starts[block]]

    def on_device(self, crops, rows: np.ndarray):
        """Give gathered crops (a tensor) of some rows as networks are to see them: here as they are."""
        return crops

    def enough(self, side: int) -> tuple[int, int]:
        """Height and width of what must be gathered of each crop for the sake of its centre of `side` pixels."""
        return min(side, self.height), min(side, self.width)

    def checksums(self) -> dict[str, str]:
        """Checksum of each of the files."""
        return {str(path): crops_checksum(path) for path in self.paths}

    def gather(
        self, indices: Sequence[int] | np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Copy crops out of the files, each straight to its place.

        Parameters
        ----------
        indices
            Row numbers, in any order, also repeated.
        out
            uint8 array (B, C, height, width) to fill, for example the numpy view of a pinned tensor. Where it is
            smaller than the crops, it gets their centres. A new array of whole crops by default.

        Returns
        -------
        numpy.ndarray
            `out`.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"crops {indices.min()} to {indices.max()} of {len(self)}")
        shape = (len(indices), len(self.channels), self.height, self.width)
        if out is None:
            out = np.empty(shape, np.uint8)
        fits = out.ndim == 4 and out.shape[:2] == shape[:2] and all(np.less_equal(out.shape, shape))
        if not fits or out.dtype != np.uint8:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, expected uint8 {shape}, or less of each crop"
            )
        height, width = out.shape[2:]
        top, left = (self.height - height) // 2, (self.width - width) // 2
        part = np.s_[:, top : top + height, left : left + width]
        blocks = np.searchsorted(self._starts, indices, side="right") - 1
        rows = indices - self._starts[blocks]
        for place, block, row in zip(out, blocks.tolist(), rows.tolist(), strict=True):
            np.copyto(place, self._blocks[block][row][part])
        return out


def _shared(settings: dict) -> dict:
    """Leave out the settings in which plates may differ: microscope, and nuclei in the gallery."""
    own = ("um_per_pixel", "nuclei")
    return {name: value for name, value in settings.items() if name not in own}


def _describe(path: Path) -> tuple[pa.ipc.RecordBatchFileReader, dict]:
    """Open a store and read its description, unchecked."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return reader, json.loads(reader.schema.metadata[b"coda"])


def _open(path: Path) -> tuple[dict, pa.Table, list[np.ndarray]]:
    """Read description and metadata, and lay an array (n, C, H, W) over each batch of pixels."""
    try:
        reader, description = _describe(path)
        if description["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"The crops {path} have format {description['schema_version']}, this program reads "
                f"{SCHEMA_VERSION}; delete the file and make it again."
            )
        check_seal(path, description["checksum"])
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        description["columns"] = [f"{field.name}: {field.type}" for field in reader.schema]
        shape = (len(description["channels"]), description["height"], description["width"])
        if reader.schema.field("pixels").type != pa.binary(int(np.prod(shape))) or 0 in shape:
            raise ValueError(f"its pixels are no crops of {shape}")
        _shared(description["settings"])
        table = pa.Table.from_batches(batches, reader.schema).drop_columns("pixels")
        table = table.replace_schema_metadata(None)
        table.validate(full=True)
        blocks = []
        for batch in batches:
            batch.validate()
            pixels = batch.column("pixels")
            if pixels.null_count:
                raise ValueError("some of its pixels are absent")
            start = pixels.offset * pixels.type.byte_width
            flat = np.frombuffer(
                pixels.buffers()[1],
                np.uint8,
                count=len(pixels) * pixels.type.byte_width,
                offset=start,
            )
            blocks.append(flat.reshape(-1, *shape))
    except FileNotFoundError:
        raise UserError(f"The crops {path} do not exist.") from None
    except (
        pa.ArrowException,
        OSError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} is not a whole crop store ({error}); delete it and make it again."
        ) from error
    return description, table, blocks


def crops_checksum(path: str | os.PathLike, samples: int = 64) -> str:
    """Checksum of a plate's crops: all metadata, the settings, and pixels of evenly spaced crops.

    A whole plate has gigabytes of pixels; a sample of crops still distinguishes two versions,
    since statistics of the whole plate go into every pixel.
    """
    store = CropStore([path])
    digest = hashlib.sha256(store.table.to_csv(index=False).encode())
    digest.update(repr((store.channels, store.settings, len(store))).encode())
    for index in np.unique(np.linspace(0, len(store) - 1, samples).astype(int)):
        digest.update(store.view(int(index)).tobytes())
    return digest.hexdigest()[:16]
