"""Outputs of a DICOM slide: they say the same as the map, and lie where the slide lies."""

import numpy as np
import pydicom
import pytest
import shapely

from wsi_hf import Slide, segment_slide
from wsi_hf.segmentation.formats.dicom import DICOM_LESIONS, DICOM_MAP, dicom_source, halvings, write_dicom_lesions

hd = pytest.importorskip("highdicom", reason="needs highdicom")


@pytest.fixture(scope="module")
def slide(shared) -> Slide:
    return Slide(shared / "data" / "slides" / "CMU-1-Small-Region_dicom")


@pytest.fixture(scope="module")
def segmented(slide, dark_network, tmp_path_factory):
    result = segment_slide(dark_network, slide, tissue=None, tile_size=512)
    return result, result.save(tmp_path_factory.mktemp("dicom") / "out")


def test_lesions_and_map_are_read_back(segmented):
    result, folder = segmented
    lesions = hd.seg.segread(folder / DICOM_LESIONS)
    outlines = shapely.MultiPolygon([polygon for lesion in result.lesions for polygon in lesion.polygons])
    mask = lesions.get_total_pixel_matrix(combine_segments=True).astype(bool)
    assert mask.sum() == round(outlines.area / result.downsample**2) > 1000
    assert not (mask & (result.probabilities[:] < 0.5)).any()
    probabilities = hd.imread(folder / DICOM_MAP).get_total_pixel_matrix(apply_real_world_transform=True)
    assert np.abs(probabilities - result.probabilities[:]).max() <= 1e-5


def test_they_lie_on_the_slide_and_belong_to_its_study(segmented, slide):
    source = dicom_source(slide)
    assert source is not None
    for name in (DICOM_LESIONS, DICOM_MAP):
        written = pydicom.dcmread(segmented[1] / name)
        assert written.StudyInstanceUID == source.StudyInstanceUID
        assert written.FrameOfReferenceUID == source.FrameOfReferenceUID
        points = [(0, 0), (200, 100)]
        ours, theirs = (
            hd.spatial.PixelToReferenceTransformer.for_image(image, for_total_pixel_matrix=True)
            for image in (written, source)
        )
        l0 = (np.array(points) + 0.5) * segmented[0].downsample - 0.5
        expected = theirs(np.floor(l0).astype(int)) + 0.0
        assert np.abs(ours(np.array(points)) - expected).max() < 0.0006  # mm, a level-0 pixel


def test_a_slide_without_lesions_has_a_segmentation_too(slide, tmp_path):
    source = dicom_source(slide)
    assert source is not None
    write_dicom_lesions(tmp_path / "none.dcm", source, [], (1481, 1108), 2.004, "m@1")
    assert not hd.seg.segread(tmp_path / "none.dcm").get_total_pixel_matrix(combine_segments=True).any()


def test_other_slides_have_no_dicom_outputs(synthetic_slide):
    assert dicom_source(Slide(synthetic_slide)) is None


def test_gigapixel_maps_are_halved():
    assert [halvings(shape) for shape in ((1000, 1000), (36_000, 36_000), (100_000, 100_000))] == [0, 2, 4]
