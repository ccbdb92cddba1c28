"""The console script `wsi-hf`.

It stands outside the package, because importing the package registers its classes with transformers, which takes
seconds that `--help` need not wait for. Where this module came first, registering is left to the commands that load a
model.
"""


def main() -> int:
    """Run `wsi-hf` with the arguments of this process."""
    from wsi_hf.cli import main

    return main()
