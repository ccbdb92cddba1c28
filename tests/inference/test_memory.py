"""Memory does not grow with the slide, nor with the number of slides."""

import subprocess
import sys

SCRIPT = """
import resource, sys, torch
from pathlib import Path
import numpy as np
from tests.inference.conftest import noise, tiny_model
from wsi_hf import segment_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.slides.handles import configure_handles
from wsi_hf.slides.pyramid import write_pyramid

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

class Large:
    shape = (3584, 4096, 3)
    block = noise(256, 256)
    def __getitem__(self, region):
        height, width = (min(part.stop, side) - part.start for part, side in zip(region, self.shape))
        return self.block[:height, :width]

torch.set_num_threads(1)
configure_handles(cache_bytes=2**24)
folder, network = Path(sys.argv[1]), PixelNetwork(tiny_model())
write_pyramid(folder / "large.tif", Large(), 1.0, smallest=10_000)
write_pyramid(folder / "small.tif", noise(1024, 1024), 1.0)
def segment(name):
    segment_slide(network, folder / f"{name}.tif", tissue=None, tile_size=512).write_tiff(folder / f"{name}.ome.tif")
segment("small")
before = peak()
segment("large")
print(peak() - before)
before = peak()
for _ in range(20):
    segment_slide(network, folder / "small.tif", tissue=None, tile_size=512)
print(peak() - before)
"""


def test_memory_is_bounded(tmp_path):
    """15 megapixels: 44 MB of RGB, 59 MB of probabilities, 117 MB of logits; none of it may be held."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    for_a_large_slide, for_many_slides = map(int, done.stdout.split())
    assert for_a_large_slide < 40  # MB
    assert for_many_slides < 20
