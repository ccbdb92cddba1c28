"""`wsi-hf map`: one more mapping process for a training, on any machine that sees its folder."""

import logging
import signal
import sys
from pathlib import Path

import click


@click.command("map", short_help="map slides for a training that goes on, here or on another machine")
@click.argument("run", type=Path, metavar="RUN")
@click.option("--device", help="cpu, cuda, cuda:1, ... (Accelerate's choice)")
@click.option("--wait", default=600.0, help="seconds to wait for a training to begin, or to begin again")
def map_slides(run: Path, device: str | None, wait: float) -> int:
    """Join the training in the folder RUN as one more mapping process.

    Start as many as there are GPUs to spare, at any time, and end them at any time with Ctrl-C. Each takes the next
    slide of the open round; one that dies loses nothing but time, and the weights that the training ends with do not
    depend on who maps. It ends when no training has gone on for --wait seconds.
    """
    import wsi_hf.registration  # noqa: F401
    from wsi_hf.mapping.joining import join

    logging.getLogger().setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    join(run / "_mapping", device, lambda idle_s: idle_s > wait)
    return 0
