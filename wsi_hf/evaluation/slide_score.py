"""The robust score of a whole map, as `segment_slide` computes it on the way."""

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks
from wsi_hf.segmentation.slide_score import AREA_UM2, LargestMargins


def robust_margin(margins: MapLike, mpp: float, area_um2: float = AREA_UM2) -> float:
    """Average the largest margins of a slide.

    Args:
        margins: l1 - l0 of all pixels, shape (H, W); -inf where nothing was analysed.
        mpp: um per pixel.
        area_um2: how much of the slide is averaged, wherever it lies.

    Returns:
        The mean; -inf where nothing was analysed.
    """
    largest = LargestMargins(mpp, area_um2)
    for block in row_blocks(margins.shape):
        largest.add(read_block(margins, block))
    return largest.mean(area_um2)
