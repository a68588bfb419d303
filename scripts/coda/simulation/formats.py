"""How each source names plates, folders and files, and numbers its sites and channels.

Batches and plates are invented in the style of their source; the digits that distinguish them are
their number in the simulation, so a plate keeps its name whatever else is simulated. Folders, file
names, channel numbers and sizes are those of the public gallery.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The style of one source.

    Names are templates over the numbers ``batch`` and ``plate``, counted from 1, and over
    ``month``, ``day`` and ``second``, an invented time that follows from them.

    Attributes
    ----------
    batch
        Names of batches; two templates alternate.
    plate
        Names of plates; two templates alternate.
    folder
        Folder of a plate's images under ``images/<batch>/images/``, also over ``name``, the
        plate's name; of two templates the second is for even batches.
    file
        Software whose file names these are: ``"harmony"`` (rows and columns as numbers),
        ``"yokogawa"`` or ``"metaxpress"``.
    channels
        Channel numbers of DNA, ER, RNA, AGP and Mito.
    size
        Height and width of the real images.
    sites
        Sites per well in reality.
    load_data
        ``"url"``, ``"path/"``, ``"path"`` (without trailing slash) or ``"parquet"``, with ``.gz``
        where the table is gzipped.
    first_site
        Number of the first site in load_data.
    actions
        Yokogawa action numbers of the five channels.
    prefix
        Stands before the plate in Yokogawa file names.
    grid
        Rows and columns of the plate.
    compression
        TIFF compression, None or a name that tifffile knows.
    nuclei
        What one Nuclei.csv holds: ``"plate"``, ``"well"`` or ``"site"``.
    """

    batch: tuple[str, ...]
    plate: tuple[str, ...]
    file: str
    channels: tuple[int, int, int, int, int]
    size: tuple[int, int]
    sites: int
    load_data: str
    folder: tuple[str, ...] = ("{name}",)
    first_site: int = 1
    actions: tuple[int, int, int, int, int] = (1, 2, 3, 4, 5)
    prefix: str = ""
    grid: tuple[int, int] = (16, 24)
    compression: str | None = None
    nuclei: str = "plate"

    def names(self, batch: int, plate: int) -> tuple[str, str, str]:
        """Name of a batch, of a plate in it, and of the plate's folder."""
        numbers = {"batch": batch, "plate": plate, "month": (batch - 1) % 12 + 1}
        numbers |= {"day": (batch + plate) % 28 + 1, "second": (7 * batch + 13 * plate) % 60}
        # A batch has one date, that of its first plate.
        start = numbers | {"day": (batch + 1) % 28 + 1, "second": (7 * batch + 13) % 60}
        batch_name = self.batch[(batch - 1) % len(self.batch)].format(**start)
        name = self.plate[(plate - 1) % len(self.plate)].format(**numbers)
        folder = self.folder[(batch - 1) % len(self.folder)].format(name=name, **numbers)
        return batch_name, name, folder


MEASURED = "{name}__2031-{month:02d}-{day:02d}T06_57_{second:02d}-Measurement1/Images"
HARMONY = {"file": "harmony", "size": (1080, 1080), "compression": "lzw", "folder": (MEASURED,)}
CV8000 = {"file": "yokogawa", "channels": (1, 2, 3, 4, 5)}
CV7000 = {
    "file": "yokogawa",
    "channels": (1, 4, 3, 5, 2),
    "actions": (1, 3, 2, 4, 1),
    "size": (1080, 1280),
    "sites": 9,
    "first_site": 0,
}

SOURCES = {
    "source_2": Source(
        batch=("2031{month:02d}{day:02d}_Batch_{batch}",),
        plate=("10539{batch:02d}{plate:03d}",),
        size=(996, 996),
        sites=6,
        load_data="path.gz",
        **CV8000,
    ),
    "source_3": Source(
        batch=("CP_{batch}_all_Phenix9", "CP9{batch:02d}"),
        plate=("JCPQC9{batch:02d}{plate:02d}",),
        channels=(5, 4, 3, 2, 1),
        sites=9,
        load_data="url",
        nuclei="well",
        **HARMONY | {"folder": (MEASURED, MEASURED.replace("Measurement1", "Measurement 1"))},
    ),
    "source_4": Source(
        batch=("2031_{month:02d}_{day:02d}_Batch{batch}",),
        plate=("BR009{batch:02d}{plate:03d}",),
        channels=(5, 4, 3, 2, 1),
        sites=9,
        load_data="url",
        nuclei="site",
        **HARMONY,
    ),
    "source_5": Source(
        batch=(
            "JUMPCPE-2031{month:02d}{day:02d}-Run{batch:02d}_2031{month:02d}{day:02d}_0031{second:02d}",
        ),
        plate=("ACPJUM9{batch:02d}{plate:02d}",),
        folder=("P{plate:02d}_{name}",),
        prefix="P{plate:02d}_",
        size=(998, 998),
        sites=9,
        load_data="path/.gz",
        **CV8000,
    ),
    "source_6": Source(
        batch=("p31{month:02d}{day:02d}CPU2OS48hw384exp9{batch:02d}JUMP",),
        plate=("11000099{batch:02d}{plate:02d}",),
        actions=(1, 2, 3, 1, 2),
        size=(970, 970),
        sites=9,
        load_data="url.gz",
        nuclei="site",
        **CV8000,
    ),
    "source_7": Source(
        batch=("2031{month:02d}{day:02d}_Run{batch}",),
        plate=("CP{batch}-SC9-{plate:02d}",),
        load_data="path/.gz",
        **CV7000,
    ),
    "source_8": Source(
        batch=("J9{batch:02d}",),
        plate=("A119{batch:02d}{plate:02d}",),
        folder=("{name}/Images",),
        file="metaxpress",
        channels=(5, 4, 3, 2, 1),
        size=(1024, 1024),
        sites=9,
        load_data="parquet",
    ),
    "source_9": Source(
        batch=("2031{month:02d}{day:02d}-Run{batch}", "2031{month:02d}{day:02d}_Run{batch}"),
        plate=("GR0009{batch:02d}{plate:02d}",),
        channels=(4, 1, 5, 3, 2),
        sites=4,
        load_data="parquet",
        grid=(32, 48),
        **HARMONY | {"folder": ("{name}/Images",)},
    ),
    "source_10": Source(
        batch=("2031_{month:02d}_{day:02d}_U2OS_48_hr_run{batch}",),
        plate=("Dest31{month:02d}{day:02d}-9{batch:02d}{plate:03d}",),
        actions=(1, 2, 3, 1, 2),
        size=(1000, 1000),
        sites=6,
        load_data="url",
        nuclei="well",
        **CV8000,
    ),
    "source_11": Source(
        batch=("Batch9{batch:02d}",),
        plate=("EC9{batch:02d}-9{plate:02d}LM1", "LM9{batch:02d}-9{plate:02d}_1"),
        channels=(1, 2, 4, 3, 5),
        sites=9,
        load_data="path",
        nuclei="site",
        **HARMONY | {"compression": "zlib"},
    ),
    "source_13": Source(
        batch=("2032{month:02d}{day:02d}_Run{batch}",),
        plate=("CP-CC9-R9{batch:02d}-{plate:02d}",),
        load_data="url.gz",
        **CV7000,
    ),
}
