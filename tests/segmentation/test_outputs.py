"""What a viewer opens shows what the network said, where it said it."""

import json
import uuid

import numpy as np
import openslide
import pytest
import shapely
import tifffile
import zarr
from ome_zarr_models.v05.image import Image as Image_0_5
from PIL import Image

from wsi_hf import Slide, segment_slide
from wsi_hf.segmentation.formats.ome_tiff import write_ome_tiff
from wsi_hf.segmentation.formats.ome_zarr import write_ome_zarr
from wsi_hf.slides.pyramid import write_pyramid

SQUARE = (3000, 2000, 3070, 2080)
"""x0, y0, x1, y1 in level-0 pixels, far from the corner of the slide."""
MPP = 0.243
ONE_PIXEL = 1 / MPP + 1e-6


@pytest.fixture(scope="module")
def marked(tmp_path_factory, dark_network):
    """A square in the far corner of a slide whose mpp divides nothing, with a hole, segmented and saved."""
    folder = tmp_path_factory.mktemp("marked")
    pixels = np.full((2101, 3103, 3), 255, np.uint8)
    x0, y0, x1, y1 = SQUARE
    pixels[y0:y1, x0:x1] = 0
    pixels[y0 + 30 : y0 + 50, x0 + 30 : x0 + 50] = 255
    slide = Slide(write_pyramid(folder / "marked.tif", pixels, MPP))
    result = segment_slide(dark_network, slide, tissue=None, tile_size=256)
    return result, result.save(folder / "out")


def square_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_the_zarr_array_lies_on_the_slide(marked):
    result, folder = marked
    array = zarr.open_array(folder / "probabilities.zarr", mode="r")
    assert array.metadata.zarr_format == 3
    assert array.shape == result.slide.size_px(1.0)[::-1]
    assert np.abs(square_of(array[:] > 0.5) / MPP - SQUARE).max() <= ONE_PIXEL
    assert array.attrs["slide"]["mpp"] == MPP
    assert array.attrs["settings"]["mpp"] == 1.0
    assert len(array.attrs["model"]["fingerprint"]) == 32


def test_the_map_is_ome_zarr_with_a_pyramid_in_um(marked):
    result, folder = marked
    group = zarr.open_group(folder / "probabilities.ome.zarr", mode="r")
    image = Image_0_5.from_zarr(group)  # validates
    (multiscale,) = image.ome_attributes.multiscales
    assert [(axis.name, axis.unit) for axis in multiscale.axes] == [("y", "micrometer"), ("x", "micrometer")]
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert scales == [[1.0, 1.0]]  # 510 x 755 pixels
    assert np.array_equal(group[multiscale.datasets[0].path][:], result.probabilities[:])


def test_a_level_of_ome_zarr_lies_where_the_finer_one_does(tmp_path):
    p = np.zeros((1301, 2050), np.float32)
    p[1000:1100, 1800:2000] = 1
    array = zarr.create_array(tmp_path / "p.zarr", data=p, chunks=(600, 600), dimension_names=("y", "x"))
    write_ome_zarr(tmp_path / "p.ome.zarr", tmp_path / "p.zarr", 0.97, "p")
    assert np.array_equal(array[:], p)  # the link
    group = zarr.open_group(tmp_path / "p.ome.zarr", mode="r")
    datasets = Image_0_5.from_zarr(group).ome_attributes.multiscales[0].datasets
    assert [group[dataset.path].shape for dataset in datasets] == [(1301, 2050), (650, 1025), (325, 512)]
    assert square_of(group["2/probabilities"][:] > 0.5).tolist() == [450, 250, 500, 275]
    scale, translation = datasets[2].coordinateTransformations
    assert scale.scale == [0.97 * 4] * 2
    assert translation.translation == pytest.approx([0.97 * 1.5] * 2)


def test_xarray_opens_every_level_with_its_place_in_um(marked):
    xarray = pytest.importorskip("xarray")
    _, folder = marked
    opened = xarray.open_zarr(folder / "probabilities.ome.zarr", chunks=None)
    malignant = opened.probabilities > 0.5
    x, y = opened.x[malignant.any("y")], opened.y[malignant.any("x")]
    corners = np.array([x[0] - 0.5, y[0] - 0.5, x[-1] + 0.5, y[-1] + 0.5])
    assert np.abs(corners / MPP - SQUARE).max() <= ONE_PIXEL
    assert opened.x.units == "micrometer"


def test_napari_opens_the_map(marked):
    reader = pytest.importorskip("napari_ome_zarr", reason="needs napari-ome-zarr")
    result, folder = marked
    path = str(folder / "probabilities.ome.zarr")
    ((data, facts, kind),) = reader.napari_get_reader(path)(path)
    assert kind == "image"
    assert facts["scale"][-2:] == [1.0, 1.0]
    assert np.array_equal(np.asarray(data[0]), result.probabilities[:])


def test_openslide_opens_the_tiff_at_the_right_mpp_and_place(marked):
    result, folder = marked
    with openslide.OpenSlide(folder / "probabilities.ome.tif") as tiff:
        assert float(tiff.properties["openslide.mpp-x"]) == pytest.approx(1.0)
        assert tiff.dimensions == result.slide.size_px(1.0)
        grey = np.asarray(tiff.read_region((0, 0), 0, tiff.dimensions))[..., 0]
    assert np.abs(square_of(grey > 127) / MPP - SQUARE).max() <= ONE_PIXEL
    assert np.abs(grey / 255 - result.probabilities[:]).max() <= 0.5 / 255 + 1e-6


def test_a_large_tiff_has_its_levels_for_openslide_and_for_ome(tmp_path):
    p = np.zeros((1300, 2050), np.float32)
    p[1000:1100, 1800:2000] = 1
    write_ome_tiff(tmp_path / "p.ome.tif", p, 0.97, "p")
    with openslide.OpenSlide(tmp_path / "p.ome.tif") as tiff:
        assert tiff.level_dimensions == ((2050, 1300), (1025, 650), (512, 325))
        assert float(tiff.properties["openslide.mpp-x"]) == pytest.approx(0.97)
        small = np.asarray(tiff.read_region((0, 0), 2, (512, 325)))[..., 0]
    assert square_of(small > 127).tolist() == [450, 250, 500, 275]
    with tifffile.TiffFile(tmp_path / "p.ome.tif") as tif:
        assert tif.is_ome
        assert [level.shape for level in tif.series[0].levels] == [(1300, 2050), (650, 1025), (325, 512)]
        assert 'PhysicalSizeX="0.97"' in tif.ome_metadata
        assert np.array_equal(tif.series[0].asarray(), np.rint(p * 255))


def test_geojson_is_what_qupath_reads(marked):
    _, folder = marked
    collection = json.loads((folder / "lesions.geojson").read_text())
    (feature,) = collection["features"]
    polygon = shapely.geometry.shape(feature["geometry"])
    assert polygon.is_valid
    assert len(polygon.interiors) == 1
    assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
    assert np.abs(np.array(polygon.bounds) - SQUARE).max() <= ONE_PIXEL
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    properties = feature["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"]["name"] == "malignant"
    assert properties["measurements"]["Max probability"] == pytest.approx(0.9933, abs=1e-4)
    assert properties["measurements"]["Area um^2"] == pytest.approx(polygon.area * MPP**2)
    assert properties["measurements"]["Area um^2"] == pytest.approx((70 * 80 - 20 * 20) * MPP**2, rel=0.15)


def test_the_overlay_shows_the_lesion_in_place(marked):
    result, folder = marked
    picture = np.asarray(Image.open(folder / "overlay.png")).astype(int)
    coloured = np.ptp(picture, axis=-1) > 60
    scale = result.slide.dimensions_l0[0] / picture.shape[1]
    assert np.abs(square_of(coloured) * scale - SQUARE).max() <= scale + 1 / MPP


def test_the_summary_says_what_it_is_made_of(marked):
    result, folder = marked
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["label"] == result.label == "malignant"
    assert summary["score"] == pytest.approx(0.9933, abs=1e-4)
    assert summary["margin"] == 5.0
    assert summary["lesions"] == 1
    assert summary["tissue_area_um2"] == np.prod(result.slide.size_px(1.0))
    assert summary["slide"]["mpp_source"] == "openslide.mpp-x"
    assert summary["settings"]["seams"] == "exact"
    assert summary["not_analysed"] == []


def test_only_complete_outputs_appear(marked, tmp_path, monkeypatch):
    result, _ = marked

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(result), "write_summary", full)
    with pytest.raises(OSError, match="No space"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_overwritten(marked):
    result, folder = marked
    with pytest.raises(FileExistsError, match="choose another"):
        result.save(folder)


def test_a_temporary_map_vanishes_with_the_result(noise_slide, model):
    result = segment_slide(model, noise_slide(40, 40), tissue=None, keep_margins=True)
    array, margins, folder = result.probabilities, result.margins, result.probabilities.store.root.parent
    del result
    assert (array[:] > 0).all()
    del array
    assert np.isfinite(margins[:]).all()  # what is left of the result stays readable
    del margins
    assert not folder.exists()


def test_the_score_is_the_largest_pixel_probability(noise_slide, model):
    result = segment_slide(model, noise_slide(130, 70), tissue=None, tile_size=64)
    p = result.probabilities[:]
    assert result.score == pytest.approx(p.max(), abs=1e-6)
    assert result.margin == pytest.approx(np.log(p.max() / (1 - p.max())), abs=1e-3)


def test_pixels_outside_the_tissue_are_zero_whatever_the_tiles(noise_slide, model):
    slide = noise_slide(200, 120)
    tissue = np.zeros((6, 10), bool)
    tissue[2, 3:5] = True
    maps = [segment_slide(model, slide, tissue=tissue, tile_size=size).probabilities[:] for size in (32, 100, 1000)]
    assert np.abs(maps[0] - maps[1]).max() <= 1e-5
    assert np.abs(maps[0] - maps[2]).max() <= 1e-5
    assert np.array_equal(square_of(maps[0] > 0), [60, 40, 100, 60])


def test_an_empty_mask_warns_and_takes_the_whole_slide(noise_slide, model, caplog):
    result = segment_slide(model, noise_slide(40, 40), tissue=np.zeros((4, 4), bool))
    assert "no tissue" in caplog.text
    assert (result.probabilities[:] > 0).all()
