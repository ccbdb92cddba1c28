"""`wsi-hf view`: results in the browser."""

from pathlib import Path

import click


@click.command(short_help="look at results in the browser: slides, maps, lesions to accept or reject")
@click.argument("folders", nargs=-1, required=True, type=Path, metavar="FOLDER...")
@click.option("--slides", multiple=True, type=Path, help="folder of the slides, where they were moved; may be repeated")
@click.option("--cohort", type=Path, help="labels and annotations to show beside: a CSV table or CAMELYON16's folder")
@click.option("--port", default=0, help="on 127.0.0.1; 0 takes a free one")
@click.option("--browser/--no-browser", default=True, help="open the page")
def view(folders: tuple[Path, ...], slides: tuple[Path, ...], cohort: Path | None, port: int, browser: bool) -> int:
    """Show what `segment` or `evaluate` wrote to folders, until Ctrl-C.

    The page answers on this machine alone, at an address with a random token. Accepted and rejected lesions are saved
    as review.geojson beside a slide's results (in reviews/ of an evaluation).
    """
    from wsi_hf.viewer.finding import find_shown_slides
    from wsi_hf.viewer.serving import serve_viewer

    rows = []
    if cohort is not None:
        from wsi_hf.cohorts.camelyon16 import load_cohort

        rows = list(load_cohort(cohort))
    shown = find_shown_slides(folders, slides, rows)
    serve_viewer(shown, port, browser, lambda address: click.echo(f"{len(shown)} slides at {address} (Ctrl-C ends)"))
    return 0
