"""One rule for what slides are called: names that are a file's name, and nothing else's, on every system."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

LONGEST = 150
"""Bytes of a name; files add their own endings to it, and systems allow 255."""
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
)
"""Of Windows, whatever their ending."""
OURS = frozenset({"run.json", "slides.csv", "metrics.json", "report.html", "index.html"})
"""What lies beside the results of slides."""


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def safe_name(name: str) -> str:
    """The nearest name that obeys the rule; itself where it does.

    No separators, colons, wildcards or control characters; no dot at the start, no dot or space at an end; no device of
    Windows, no file of ours; at most `LONGEST` bytes.
    """
    safe = FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).strip()
    safe = "_" + safe[1:] if safe[:1] in ("", ".") else safe
    safe = safe[:-1] + "_" if safe.endswith(".") else safe
    safe = "_" + safe if safe.lower().split(".")[0] in DEVICES else safe
    safe = safe + "_" if safe.lower() in OURS else safe
    if len(safe.encode()) > LONGEST:
        digest = hashlib.sha256(safe.encode()).hexdigest()[:12]
        safe = safe.encode()[: LONGEST - 13].decode(errors="ignore").rstrip(". ") + "~" + digest
    return safe


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse a cohort's slide_ids that break the rule, or of which two would be one file somewhere.

    Args:
        names: of all slides.
        where: they were read, for the error message.

    Raises:
        ValueError: names some of them, and what to call them.
    """
    names = list(names)
    wrong = [name for name in names if not isinstance(name, str) or safe_name(name) != name]
    if wrong:
        shown = "; ".join(f"{_short(name)} (say {_short(safe_name(str(name)))})" for name in wrong[:3])
        raise ValueError(
            f"{where}: {len(wrong)} slide_ids cannot be names of files on every system: {shown}. Results are written "
            f"under them: no / \\ : or other special characters, no dot at either end, at most {LONGEST} bytes"
        )
    count = Counter(name.casefold() for name in names)
    if twice := sorted({name for name in names if count[name.casefold()] > 1}):
        alone = "" if len(twice) < len([n for n in names if n in twice]) else " (capitals do not tell files apart)"
        shown = ", ".join(twice[:5]) + (f" and {len(twice) - 5} more" if len(twice) > 5 else "")
        raise ValueError(f"{where} lists slides twice: {shown}{alone}; give each a slide_id of its own")


def no_formula(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not run: ' stands before text that begins as a formula does."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _short(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 60 else f"{text[:57]}...'"
