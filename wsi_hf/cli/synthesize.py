"""`wsi-hf synthesize`: slides to try things on."""

from pathlib import Path

import click


@click.command(short_help="write a synthetic cohort in CAMELYON16's layout")
@click.argument("folder", type=Path)
@click.option("--n-train", default=128, help="training slides")
@click.option("--n-test", default=32, help="test slides")
@click.option("--size-um", default=768.0, help="side of a slide in um")
@click.option("--seed", default=0, help="of the slides")
def synthesize(folder: Path, n_train: int, n_test: int, size_um: float, seed: int) -> int:
    """Write a synthetic cohort in CAMELYON16's layout into FOLDER, which is made if need be."""
    from wsi_hf.cohorts.synthetic import synthesize_cohort

    print(synthesize_cohort(folder, n_train=n_train, n_test=n_test, size_um=size_um, seed=seed))
    return 0
