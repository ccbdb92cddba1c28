"""One run in a folder at a time."""

import logging
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


class FolderLock:
    """Keeps a second run out of a mapping folder; freed when the process ends, however it ends.

    Raises:
        RuntimeError: another run has it.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise RuntimeError(
                f"another run is using {folder.parent}; give this one an --output_dir of its own"
            ) from None
        except (OSError, NotImplementedError) as error:
            logger.warning("files cannot be locked in %s (%s): see to it that no second run uses it", folder, error)

    def release(self) -> None:
        self._lock.release()
