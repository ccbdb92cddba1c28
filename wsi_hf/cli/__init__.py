"""The command `wsi-hf`: one file a command. What a command needs is imported when it runs, so that --help is quick."""

from wsi_hf.cli.command_line import main

__all__ = ["main"]
