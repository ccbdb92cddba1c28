"""`wsi-hf push`: publish a finished run on the Hub."""

from pathlib import Path
from typing import Any

import click


@click.command(short_help="publish a finished run on the Hub, with a card that tells the truth")
@click.argument("folder", type=Path, metavar="RUN_DIR")
@click.argument("repo_id", metavar="ORG/NAME")
@click.option("--private", is_flag=True, default=None, help="make the new repository private")
@click.option("--dry-run", is_flag=True, help="list what would be pushed, and print the card")
@click.option("--out", type=Path, help="with --dry-run: also write it all into this new folder")
@click.option("--license", default="apache-2.0", help="of the weights")
@click.option("--dataset", help="what to call the slides, or the name of a data set on the Hub")
@click.option("--dataset-license", help="of the slides")
@click.option("--slide-names", is_flag=True, help="publish what names slides too")
@click.option(
    "--remote-code-pipeline",
    "--remote_code_pipeline",
    is_flag=True,
    help="let pipeline(..., trust_remote_code=True) work without importing wsi_hf; all must then pass the flag",
)
@click.option("--revision", help="branch to push to (main)")
def push(
    folder: Path,
    repo_id: str,
    dry_run: bool,
    out: Path | None,
    private: bool | None,
    revision: str | None,
    **options: Any,
) -> int:
    """Push a training's output folder to a repository on the Hub, made if need be, or say what would be pushed."""
    import wsi_hf.registration  # noqa: F401
    from wsi_hf.hub.push import publication, push_run, size_of
    from wsi_hf.hub.run_files import CARD, read

    if out is not None and not dry_run:
        raise ValueError("--out goes with --dry-run: it writes a folder in place of the push")
    if not dry_run:
        pushed: Any = push_run(folder, repo_id, private=private, revision=revision, **options)
        print(pushed.commit_url)
        return 0
    contents = publication(folder, repo_id, **options)
    for name, content in contents.items():
        print(f"{size_of(content):>12,}  {name}")
    print(f"{sum(map(size_of, contents.values())):>12,}  in all, to {repo_id}; nothing was sent\n")
    print(read(contents[CARD]).decode())
    if out is not None:
        out.mkdir(parents=True)
        for name, content in contents.items():
            (out / name).write_bytes(read(content))
    return 0
