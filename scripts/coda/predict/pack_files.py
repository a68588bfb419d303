"""The files of a pack: what a trained pipeline needs to travel, checked before anything is read from it.

A pack is a folder, or a zip of it, with safetensors, Parquet and JSON. pack.json describes it: which images it is for,
the settings that its networks were trained with, and the size and checksum of every other file.
"""

import hashlib
import json
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from coda.errors import UserError
from coda.logs import tell
from coda.provenance import file_checksum

VERSION = 1  # of the layout of a pack
DESCRIPTION = "pack.json"
FILES = {
    "foundation": "foundation.safetensors",
    "networks": "networks.safetensors",
    "task_model": "task_model.safetensors",
    "tokens": "tokens.safetensors",
    "spectra": "spectra.parquet",
    "calibration": "calibration.parquet",
    "compounds": "compounds.parquet",
    "thumbnails": "thumbnails.parquet",
    "card": "README.md",
}
# What pack.json says, besides the version.
KEYS = ("source", "seed", "classes", "channels", "um_per_pixel", "settings", "files")
# Sections of the config that the networks were trained with: nothing else fits them.
DECIDED = ("crops", "model", "head", "views", "classify")
# Sections that a config may change.
PROPOSED = ("adapt", "consensus", "data", "harmonise")
LARGEST = 8 << 30  # bytes of all files together
LARGEST_DESCRIPTION = 1 << 24  # bytes
LONGEST_FETCH = 2 * 3600.0  # seconds
MOST_SMALLER = 20  # times that a zip is smaller than its files: weights do not compress


def open_pack(address: str, folder: Path) -> Path:
    """Give the folder of a pack, unpacked or fetched into `folder` where it is no folder yet.

    Parameters
    ----------
    address
        A folder, a ``.zip`` of one, or the address of such a zip (``https://``, ``s3://``), which may end in
        ``#sha256=...``, the checksum of the zip.
    folder
        Where to put what is unpacked; what lies there already and is the same pack is kept.

    Raises
    ------
    UserError
        If there is no pack, or its files are not those that it describes.
    """
    if "://" in address:
        return _fetch(address, folder)
    path = Path(address).expanduser()
    if path.is_dir():
        return path
    if not _is_plain(path):
        raise UserError(f"pack is {address}, but there is no such folder or file.")
    _unpack(path, folder, str(path))
    return folder


def describe(folder: Path) -> dict[str, Any]:
    """Read what a pack says of itself.

    Raises
    ------
    UserError
        If the folder holds no pack, or one of another version.
    """
    path = folder / DESCRIPTION
    try:
        if not _is_plain(path):
            raise FileNotFoundError
        if path.stat().st_size > LARGEST_DESCRIPTION:
            raise ValueError(f"it has more than {LARGEST_DESCRIPTION:,} bytes")
        description = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is no pack: it has no {DESCRIPTION}; `snakemake pack` makes packs."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch the pack again.") from error
    version = description.get("version") if isinstance(description, dict) else None
    if version != VERSION:
        made_by = description.get("code") if isinstance(description, dict) else None
        raise UserError(
            f"{path} is a pack of version {version}, and this release reads version {VERSION}; make the pack again "
            f"with `snakemake pack`, or use the release that made it, {made_by or 'which it does not name'}."
        )
    missing = [key for key in KEYS if key not in description]
    files = description.get("files")
    for name in FILES.values():
        said = files.get(name) if isinstance(files, dict) else None
        if not isinstance(said, dict) or not {"bytes", "sha256"} <= said.keys():
            missing.append(name)
    if missing:
        raise UserError(f"{path} says nothing of {missing[0]}; fetch the pack again.")
    if (wrong := _wrong(description)) is not None:
        raise UserError(f"{path} says what cannot be of {wrong}; fetch the pack again.")
    return description


def _is_plain(path: Path) -> bool:
    """Whether a file is there, not a folder; what is neither is refused, since reading it may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(
            f"{path} is a pipe, a socket or a device, but packs have plain files; fetch the pack again."
        )
    return path.is_file()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has the value {name}")


def _wrong(description: Mapping[str, Any]) -> str | None:
    """Name what a description says that no pack can be, None if nothing."""

    def names(value: object) -> bool:
        return (
            isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
        )

    um, settings = description["um_per_pixel"], description["settings"]
    sections = isinstance(settings, dict) and all(
        isinstance(settings.get(section, {}), dict) for section in (*DECIDED, *PROPOSED)
    )
    right = {
        "classes": names(description["classes"]),
        "channels": names(description["channels"]),
        "um_per_pixel": isinstance(um, int | float) and 0 < um < 1000,
        "settings": sections
        and set(DECIDED) <= settings.keys()
        and settings.get("channels") == description["channels"],
    }
    return next((name for name, fits in right.items() if not fits), None)


def verify(folder: Path) -> dict[str, Any]:
    """Check that all files of a pack are what it says; give its description.

    Raises
    ------
    UserError
        Naming the first file that is missing, cut or altered.
    """
    description = describe(folder)
    for name in FILES.values():
        said, path = description["files"][name], folder / name
        if not _is_plain(path):
            raise UserError(f"The pack {folder} lacks {name}; fetch it again.")
        if path.stat().st_size != said["bytes"] or file_checksum(path, 64) != said["sha256"]:
            raise UserError(f"{path} is not what its pack describes; fetch the pack again.")
    return description


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Describe a pack whose other files are all there."""
    files = {
        name: {
            "bytes": (folder / name).stat().st_size,
            "sha256": file_checksum(folder / name, 64),
        }
        for name in FILES.values()
    }
    whole = {"version": VERSION, **description, "files": files}
    (folder / DESCRIPTION).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")


def zip_pack(folder: Path, path: Path) -> None:
    """Write a pack as one file, the same bytes for the same pack; weights do not compress, so nothing is."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in (DESCRIPTION, *FILES.values()):
            entry = zipfile.ZipInfo(name)  # dated 1980
            with (
                open(folder / name, "rb") as file,
                archive.open(entry, "w", force_zip64=True) as out,
            ):
                shutil.copyfileobj(file, out, 1 << 20)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the settings of a run that belong into its packs."""
    keys = {"crops": ("kind", "size"), "model": ("architecture", "options"), "classify": ("depth",)}
    sections = {name: config[name] for name in (*DECIDED, *PROPOSED)}
    for name, wanted in keys.items():
        sections[name] = {key: config[name][key] for key in wanted}
    return {"channels": config["channels"], **sections}


def lay_over(
    config: dict[str, Any],
    description: Mapping[str, Any],
    schema: Mapping[str, Any],
    usual: list[str] | None = None,
) -> None:
    """Complete a config, in place, by what its pack decides; its one training source is called ``pack``.

    Of settings of another release that the `schema` of the config does not know, those that a config may change are
    left out, and told. Channels `usual` are those of the paper's config, which nobody has asked for.

    Raises
    ------
    UserError
        If the config says otherwise, or names a target that it says nothing of; if the networks were trained with a
        setting that this release does not have.
    """
    settings = _known_settings(description, schema)
    for section in DECIDED:
        given = config.setdefault(section, {})
        for key, value in settings[section].items():
            if given.get(key, value) != value:
                raise UserError(
                    f"{section}.{key} is {given[key]}, but the networks of the pack were trained with {value}; take it "
                    "out of the config."
                )
        given.update(settings[section])
    for section in PROPOSED:
        config[section] = {**settings[section], **config.get(section, {})}
    if config["data"].get("wells") == "labelled":  # nothing is labelled here
        config["data"]["wells"] = "treated"
    channels = config.get("channels")
    if channels not in (None, usual, settings["channels"]):
        raise UserError(
            f"channels are {', '.join(map(str, channels))}, but the pack reads {', '.join(settings['channels'])}, in "
            "this order; take channels out of the config, or use a pack for yours."
        )
    config["channels"] = settings["channels"]
    config["model"]["weights"] = "random"  # of no use: they are the pack's
    config["train_sources"], config["seeds"] = ["pack"], [1]
    sources = config["sources"] = dict(config.get("sources") or {})
    sources["pack"] = {"um_per_pixel": description["um_per_pixel"]}
    common = config["crops"].get("um_per_pixel")
    for target in config.get("target_sources", []):
        # Nothing is scored, so no plate is held out.
        sources[target] = {**(sources.get(target) or {}), "validation_plate": None}
        check_pixel_size(common or sources[target].get("um_per_pixel"), description, target)


def _known_settings(description: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of a pack that this release knows."""
    told = description["settings"]
    known = {"channels": told["channels"]}
    for section in (*DECIDED, *PROPOSED):
        part = schema["properties"][section]
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
        names = part["properties"]
        given = told.get(section, {})
        unknown = sorted(given.keys() - names)
        if unknown and section in DECIDED:
            raise UserError(
                f"The networks of the pack were trained with {section}.{unknown[0]}, which this release does not have; "
                f"use the release that made it, {description.get('code', 'of another version')}."
            )
        for name in unknown:
            tell(
                f"The pack has a setting {section}.{name} that this release does not know; it is left out."
            )
        known[section] = {name: given[name] for name in given if name in names}
    return known


def check_pixel_size(um_per_pixel: float | None, description: Mapping[str, Any], what: str) -> None:
    """Refuse images whose cells would look like those of another magnification.

    Raises
    ------
    UserError
        If the size of a pixel is unknown, no number, or less than half or more than twice that of the pack.
    """
    wanted = description["um_per_pixel"]
    if um_per_pixel is None:
        raise UserError(
            f"The pixel size of {what} is unknown; set sources.<source>.um_per_pixel, with the source spelt "
            "as in target_sources."
        )
    if isinstance(um_per_pixel, bool) or not isinstance(um_per_pixel, int | float):
        raise UserError(
            f"The pixel size of {what} is {um_per_pixel!r}, but must be a number such as 0.65, with a point."
        )
    if not 0.5 <= um_per_pixel / wanted <= 2:
        raise UserError(
            f"A pixel of {what} is {um_per_pixel:.4g} um, too far from the {wanted:.4g} um of the pack; "
            f"set crops.um_per_pixel to {wanted:.4g}, which rescales the images."
        )


def _unpack(path: Path, folder: Path, named: str) -> None:
    """Unpack the files that a pack has, and no others, whole or not at all; messages call the zip as `named`."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            most = min(LARGEST, MOST_SMALLER * (path.stat().st_size + LARGEST_DESCRIPTION))
            if size > most or archive.getinfo(DESCRIPTION).file_size > LARGEST_DESCRIPTION:
                raise UserError(f"{named} would unpack to {size:,} bytes; it is no pack.")
            text = archive.read(DESCRIPTION)
            if (folder / DESCRIPTION).is_file() and (folder / DESCRIPTION).read_bytes() == text:
                return
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pack") as scratch:
                made = Path(scratch) / "pack"
                made.mkdir()
                for name in (DESCRIPTION, *FILES.values()):
                    with archive.open(name) as file, open(made / name, "wb") as out:
                        shutil.copyfileobj(file, out, 1 << 20)
                try:
                    verify(made)
                except UserError as error:
                    raise UserError(str(error).replace(str(made), named)) from None
                if folder.is_symlink() or folder.is_file():
                    folder.unlink()
                elif folder.exists():
                    shutil.rmtree(folder)
                made.rename(folder)
    except (
        KeyError,
        OSError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UserError(f"{named} is no pack, or is broken ({error}); fetch it again.") from error


def _fetch(address: str, folder: Path) -> Path:
    """Fetch a zip, once: what was unpacked from the same address is kept."""
    note = folder.with_suffix(".address")
    known = hashlib.sha256(address.encode()).hexdigest()
    if folder.is_dir() and note.exists() and note.read_text() == known:
        return folder
    # Not needed by those whose pack is a folder, whenever Snakemake starts.
    from coda.gallery.base import FetchError
    from coda.gallery.large_files import save_location
    from coda.gallery.public_tables import reason_of
    from coda.gallery.web import TemporaryError, by_way_of, shown

    named = shown(address)
    tell(f"Fetching the pack {named}.")
    made = [place for place in (folder.parent, *folder.parent.parents) if not place.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pack") as scratch:
            path = Path(scratch) / "pack.zip"
            save_location(address, path, LARGEST, LONGEST_FETCH)
            _unpack(path, folder, named)
    except UserError:
        _remove_empty(made)
        raise
    except (OSError, ValueError, FetchError, TemporaryError) as error:
        _remove_empty(made)
        raise UserError(
            f"The pack {named} could not be fetched{by_way_of(address)}: {reason_of(error)}; check the address under "
            "pack, or fetch it by hand and name the file there."
        ) from error
    note.write_text(known)
    return folder


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made for nothing, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
