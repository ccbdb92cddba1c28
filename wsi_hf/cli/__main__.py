"""`python -m wsi_hf.cli`, for `accelerate launch -m`."""

import sys

from wsi_hf.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
