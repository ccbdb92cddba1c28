"""Which checkpoint a training goes on from, and that it is its own."""

import json
import logging
import shutil
import uuid
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from wsi_hf.slides.replacing import write_text
from wsi_hf.training.checkpoints.manifest import MANIFEST, RunFacts, damages, read_manifest

logger = logging.getLogger(__name__)

RUN = "run.json"


def begin_anew(output_dir: Path, overwrite: bool) -> str:
    """The id of a new run in this folder. Nothing of an earlier one is lost unless asked for.

    A run that died while it saved its first checkpoint has nothing to lose.

    Raises:
        ValueError: there is an earlier one.
    """
    earlier = _checkpoints(output_dir)
    kept = [path for path in earlier if not _half_written(path)]
    if not overwrite and (kept or (output_dir / SAFE_WEIGHTS_NAME).exists()):
        raise ValueError(
            f"{output_dir} holds an earlier run ({_name(kept)}): go on with it with --resume_from_checkpoint True, "
            "replace it with --overwrite_output_dir, or choose another --output_dir"
        )
    run = uuid.uuid4().hex
    write_run(output_dir, run)  # from here on what is left of the earlier run is not gone on with
    for path in earlier:
        shutil.rmtree(path)
    return run


def write_run(output_dir: Path, run: str) -> None:
    (output_dir / "_mapping").mkdir(parents=True, exist_ok=True)
    write_text(output_dir / "_mapping" / RUN, json.dumps({"run": run}))


def newest_checkpoint(output_dir: Path) -> Path:
    """The newest whole checkpoint of the run that began last here; what is half-written or damaged is passed over.

    Raises:
        ValueError: there is none.
    """
    run = _run_in(output_dir)
    for checkpoint in reversed(_checkpoints(output_dir)):
        facts = read_manifest(checkpoint)
        if facts is None:
            logger.warning("%s is half-written and passed over", checkpoint)
        elif run and facts.run != run:
            logger.warning("%s is of another run than the last one here and passed over", checkpoint)
        elif found := damages(checkpoint):
            logger.warning("%s is damaged and passed over: %s", checkpoint, "; ".join(found))
        else:
            return checkpoint
    raise ValueError(
        f"{output_dir} holds no complete checkpoint to resume from; start without --resume_from_checkpoint, or with "
        "--overwrite_output_dir where there is something else"
    )


def check_whole(checkpoint: Path) -> Path:
    """A checkpoint that was asked for by name.

    Raises:
        ValueError: it is half-written or damaged.
    """
    if read_manifest(checkpoint) is None:
        raise ValueError(f"{checkpoint} is no complete checkpoint: it has no readable {MANIFEST}")
    if found := damages(checkpoint):
        raise ValueError(
            f"{checkpoint} is damaged: {'; '.join(found)}. --resume_from_checkpoint True takes the newest whole one"
        )
    return checkpoint


def check_own(checkpoint: Path, ours: RunFacts) -> str:
    """The id of the run that a whole checkpoint is of, if what it was computed under still holds.

    Raises:
        ValueError: something differs that would make maps, patches or loss others.
    """
    theirs = read_manifest(checkpoint)
    assert theirs is not None
    if refused := ours.refused(theirs):
        raise ValueError(
            f"{checkpoint} was saved under other settings: {'; '.join(refused)}. Go on with those, or begin "
            "a new run in another --output_dir"
        )
    if differences := ours.differences(theirs):
        logger.warning("%s was saved under %s", checkpoint, "; ".join(differences))
    return theirs.run


def _checkpoints(output_dir: Path) -> list[Path]:
    """All there are, oldest first."""
    found = [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda path: int(path.name.split("-")[-1]))


def _half_written(checkpoint: Path) -> bool:
    """Of one of our runs, which ended before all was there. Another trainer's checkpoint has no maps."""
    return read_manifest(checkpoint) is None and any(checkpoint.glob("mapping*"))


def _run_in(output_dir: Path) -> str | None:
    try:
        return json.loads((output_dir / "_mapping" / RUN).read_text())["run"]
    except (OSError, ValueError, KeyError):
        return None


def _name(checkpoints: list[Path]) -> str:
    return checkpoints[-1].name if checkpoints else SAFE_WEIGHTS_NAME
