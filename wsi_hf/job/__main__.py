"""`python -m wsi_hf.job`: what each process of `wsi-hf train` runs where there are several."""

import sys

from wsi_hf.job.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
