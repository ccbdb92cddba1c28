"""Memory does not grow with the slide, nor with the number of slides."""

import subprocess
import sys

SCRIPT = """
import resource, sys
from pathlib import Path
import psutil, torch
from tests.inference.conftest import noise, tiny_model
from transformers import pipeline
from wsi_hf import WsiImageProcessor, segment_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.slides.handles import configure_handles
from wsi_hf.slides.pyramid import write_pyramid

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def limit_to(more):
    limit = psutil.Process().memory_info().data + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))

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
write_pyramid(folder / "tiny.tif", noise(256, 256), 1.0)
def segment(name):
    segment_slide(network, folder / f"{name}.tif", tissue=None, tile_size=512).write_tiff(folder / f"{name}.ome.tif")
segment("small")
limit_to(int(sys.argv[2]) * 2**20)
segment("large")
resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
pipe = pipeline("wsi-segmentation", model=tiny_model(), image_processor=WsiImageProcessor())
names = (str(folder / "tiny.tif") for _ in range(220))
for number, result in enumerate(pipe(names, tissue=None, tile_size=512)):
    assert result["label"] in ("benign", "malignant")
    if number == 19:
        before = peak()
print(peak() - before)
"""


def test_memory_is_bounded(tmp_path):
    """15 megapixels pass under a hard limit: 44 MB of RGB, 59 of probabilities, 117 of logits, and none may be held."""
    run = [sys.executable, "-c", SCRIPT, str(tmp_path), "128"]  # MB above what a small slide has left allocated
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 20  # MB more after 200 slides
