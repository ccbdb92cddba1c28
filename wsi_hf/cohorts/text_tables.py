"""Tables as people's programs write them: what is unambiguous is read, the rest is said by file and line."""

import csv
import io
import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

SEPARATORS = (",", ";", "\t", "|")
LARGEST_BYTES = 2**26
NOTHING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
"""How programs write an empty cell."""
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def read_table(path: Path, needed: Collection[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table with a header; columns in any order, in capitals or not, separated by , ; | or tabs.

    Args:
        path: the file, in UTF-8, UTF-16 or (with a warning) Windows-1252.
        needed: columns that must be there.

    Returns:
        (line number, {column in small letters: cell}) of every row that is not empty.

    Raises:
        ValueError: names file, line, what was found and what was expected.
    """
    text = read_text(path)
    separator = _separator(path, text, needed)
    lines = _lines(path, text, separator)
    _, header = next(lines)
    columns = [_plain(cell) for cell in header]
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise ValueError(f"{path.name} has two columns {', '.join(sorted(twice))} ({path})")
    rows = []
    for number, cells in lines:
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise ValueError(
                f"{path.name}, line {number}: {len(cells)} cells, but the first line names {len(columns)} columns; "
                f"put quotes round what holds a {separator!r} ({path})"
            )
        rows.append((number, {column: cell for column, cell in zip(columns, cells, strict=False) if column}))
    return rows


def read_text(path: Path) -> str:
    """The text of a small file: by its byte-order mark, else UTF-8, else Windows-1252 with a warning."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{path.name} is too large for a table ({path})")
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path.name} is a workbook or an archive, not text; save it as CSV ({path})")
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        if b"\0" in data[:2]:
            return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is text in no encoding that is known ({error}); save it as UTF-8") from None
    logger.warning("%s is not UTF-8; it is read as Windows-1252", path.name)
    return text


def number_of(text: str) -> float | None:
    """A number with a decimal point or a decimal comma; None where the text is no such number."""
    return float(text.replace(",", ".")) if NUMBER.fullmatch(text) else None


def _separator(path: Path, text: str, needed: Collection[str]) -> str:
    found: list[str] = []
    for separator in SEPARATORS:
        _, header = next(_lines(path, text, separator), (0, []))
        columns = [_plain(cell) for cell in header]
        if set(needed) <= set(columns):
            return separator
        found = max(found, columns, key=len)
    missing = ", ".join(sorted(set(needed) - set(found)))
    shown = ", ".join(repr(column[:40]) for column in found[:12]) or "nothing"
    raise ValueError(
        f"{path.name} has no column {missing}; its first line names the columns, and reads {shown} ({path})"
    )


def _lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the lines that hold something; Excel's `sep=;` is no such line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not (reader.line_num == 1 and re.fullmatch(r"sep=.?", "".join(stripped))):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {reader.line_num}: not a table ({error}) ({path})") from None


def _plain(cell: str) -> str:
    return cell.strip().strip("\ufeff").strip().lower()
