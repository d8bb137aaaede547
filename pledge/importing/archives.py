"""Zip archives to import: unpacked into a folder of their own for the time of an import."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pledge.importing.errors import SourceError

LEAST = 1_000_000_000
TIMES = 100
"""An archive unpacks to a gigabyte, or to a hundred times its own size, and to no more."""
PIECE = 1_000_000


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The source itself or, of a zip archive, its only file or a folder with its files.

    Folders within the archive are left out of their names.

    Raises:
        SourceError: when the archive is damaged, encrypted, empty or too large, or has two files
            of one name.
    """
    if source.suffix.lower() != ".zip" or not source.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="pledge-import-") as folder:
        try:
            names = _unpack(source, Path(folder))
        except NotImplementedError as error:  # zipfile's word for a method that it does not know
            raise SourceError(f"{source}: {error}; unpack it, and import the folder") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceError(f"{source} is no archive that can be read: {error}") from error
        except OSError as error:
            raise SourceError(f"{source} cannot be unpacked in {folder}: {error}") from error
        yield Path(folder) / names[0] if len(names) == 1 else Path(folder)


def _unpack(source: Path, folder: Path) -> list[str]:
    left = most = max(LEAST, TIMES * source.stat().st_size)
    names: list[str] = []
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/")).name
            if member.is_dir() or not name or name.startswith("."):
                continue
            if member.flag_bits & 1:
                raise SourceError(f"{source} is encrypted: unpack it, and import the folder")
            if name in names:
                raise SourceError(f"{source} has two files {name}: unpack it, and rename one")
            names.append(name)
            with archive.open(member) as packed, (folder / name).open("xb") as file:
                while piece := packed.read(PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise SourceError(
                            f"{source} unpacks to more than {most:,} bytes: if that is meant, "
                            "unpack it, and import the folder"
                        )
                    file.write(piece)
    if not names:
        raise SourceError(f"{source} has no file in it")
    return names
