"""`wsi-hf train`: from slides and their labels to a judged model."""

import click


@click.command(
    short_help="train on slides and their labels, judge the model",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Train: --cohort slides.csv --output_dir runs/mine, and whatever `wsi-hf train --help` lists."""
    import wsi_hf.registration  # noqa: F401
    from wsi_hf.job.launch import start

    return start(list(arguments))
