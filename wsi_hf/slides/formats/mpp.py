"""Where a slide says how large its pixels are."""

from wsi_hf.slides.formats.tiff import ome_mpp
from wsi_hf.slides.handles import SlideError

PLAUSIBLE_MPP = (0.05, 20.0)
"""um per pixel of level 0, from oil immersion to an overview scan."""
SQUARE_TOLERANCE = 0.03
"""How far mpp may differ between x and y."""


class MppError(SlideError, ValueError):
    """A slide whose pixel size is unknown or implausible."""


def find_mpp(
    name: str, properties: dict[str, str], mpp: float | None, fallback: float | None = None
) -> tuple[float, str]:
    """(mpp of level 0, where it was found), in the order that `Slide` documents."""
    unit_um = {"centimeter": 1e4, "inch": 25.4e3}.get(properties.get("tiff.ResolutionUnit", ""), 0.0)
    resolution = [float(properties.get(f"tiff.{axis}Resolution", 0)) for axis in "XY"]  # pixels a unit
    if mpp is not None:
        x, y, source = float(mpp), float(mpp), "argument"
    elif "openslide.mpp-x" in properties and "openslide.mpp-y" in properties:
        x, y, source = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"]), "openslide.mpp-x"
    elif ome := ome_mpp(properties.get("tiff.ImageDescription", "")):
        x, y, source = *ome, "OME PhysicalSizeX"
    elif unit_um and min(resolution) > 0:
        x, y, source = unit_um / resolution[0], unit_um / resolution[1], "tiff.XResolution"
    elif fallback is not None:
        x, y, source = float(fallback), float(fallback), "fallback"
    else:
        raise MppError(
            f"{name} has no mpp in its metadata; pass mpp=..., or --mpp on the command line (um per pixel of level 0, "
            "such as 0.25 for a 40x scan)"
        )
    found = (x + y) / 2
    low, high = PLAUSIBLE_MPP
    if not low <= found <= high:
        raise MppError(
            f"{name} has an implausible mpp of {found:g} um/px (from {source}; {low:g}-{high:g} expected); pass mpp=..."
        )
    if abs(x - y) > SQUARE_TOLERANCE * found:
        raise MppError(f"{name} has pixels of {x:g} x {y:g} um, which are not square (from {source}); pass mpp=...")
    return found, source
