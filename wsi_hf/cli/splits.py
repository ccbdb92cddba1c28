"""Which slides of a cohort a command takes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wsi_hf.cohorts.manifest import Cohort


def slides_of_split(cohort: "Cohort", asked: str | None, usual: str, name: "Path") -> "Cohort":
    """The slides of the split that was asked for; else of the usual one, or of the only one that there is.

    Raises:
        ValueError: there is no such split, or several others.
    """
    splits = sorted(set(cohort["split"]))
    chosen = asked or (usual if usual in splits else splits[0] if len(splits) == 1 else None)
    if chosen not in splits:
        raise ValueError(
            f"{name} has no {asked or usual} slides; it has {', '.join(splits)}: say with --split which of them to "
            "take, and take none that the model was trained on"
        )
    return cohort.select([row for row, of in enumerate(cohort["split"]) if of == chosen])
