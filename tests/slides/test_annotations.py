"""Outlines there and back: XML, polygons, masks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import MultiPolygon, Point, Polygon, box

from wsi_hf.slides.annotations import polygons_from_mask, rasterize, read_asap, write_asap

RING_WITH_ISLAND = box(0, 0, 10, 10) - box(2, 2, 8, 8) | box(4, 4, 6, 6)


def asap(path: Path, *annotations: tuple[str, str]) -> Path:
    """An ASAP file of (group, "x,y x,y ...") annotations."""
    lines = ['<?xml version="1.0"?><ASAP_Annotations><Annotations>']
    for group, points in annotations:
        lines.append(f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>')
        for order, point in enumerate(points.split()):
            x, y = point.split(",")
            lines.append(f'<Coordinate Order="{order}" X="{x}" Y="{y}" />')
        lines.append("</Coordinates></Annotation>")
    path.write_text("\n".join([*lines, "</Annotations></ASAP_Annotations>"]))
    return path


SQUARE, HOLE, BOW_TIE = "0,0 10,0 10,10 0,10", "2,2 8,2 8,8 2,8", "0,0 4,4 4,0 0,4"


@pytest.mark.parametrize("group", ["_0", "_1", "Tumor", "tumor", "None"])
def test_these_groups_are_tumour(tmp_path, group):
    assert read_asap(asap(tmp_path / "a.xml", (group, SQUARE))).equals(box(0, 0, 10, 10))


@pytest.mark.parametrize("group", ["_2", "Exclusion", "exclusion"])
def test_these_groups_are_cut_out(tmp_path, group):
    found = read_asap(asap(tmp_path / "a.xml", (group, HOLE), ("_0", SQUARE)))
    assert found.equals(box(0, 0, 10, 10) - box(2, 2, 8, 8))


def test_other_groups_are_left_out_and_said(tmp_path, caplog):
    assert read_asap(asap(tmp_path / "a.xml", ("Necrosis", SQUARE), ("None", SQUARE), ("_0", HOLE))).area == 36
    assert "a.xml: 1 annotations of group 'necrosis' are left out" in caplog.text
    assert "a.xml: 1 annotations of group 'none' are left out" in caplog.text


def test_overlapping_outlines_are_merged(tmp_path):
    found = read_asap(asap(tmp_path / "a.xml", ("_0", SQUARE), ("_1", "5,0 15,0 15,10 5,10")))
    assert found.equals(box(0, 0, 15, 10))


def test_points_are_taken_in_their_order(tmp_path):
    path = asap(tmp_path / "a.xml", ("_0", SQUARE))
    path.write_text(
        path.read_text().replace('Order="2"', 'Order="X"').replace('Order="3"', 'Order="2"').replace('"X"', '"3"', 1)
    )
    assert read_asap(path).area == 50  # a bow-tie now, of which two triangles are left


def test_a_ring_that_crosses_itself_is_repaired_and_said(tmp_path, caplog):
    found = read_asap(asap(tmp_path / "bow.xml", ("_0", BOW_TIE)))
    assert found.is_valid
    assert found.area == 8
    assert "bow.xml: annotation 'a' is not a simple ring" in caplog.text


def test_points_and_lines_are_left_out_and_said(tmp_path, caplog):
    assert read_asap(asap(tmp_path / "a.xml", ("_0", "3,3"), ("_0", "1,1 2,2"))).is_empty
    assert caplog.text.count("fewer than three points") == 2


def test_a_file_without_annotations_is_empty(tmp_path):
    assert read_asap(asap(tmp_path / "a.xml")).is_empty


@pytest.mark.parametrize("text", ["", "<ASAP_Annotations>", "not xml", "\x00\x01"])
def test_malformed_xml_names_the_file(tmp_path, text):
    (tmp_path / "bad.xml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.xml is not well-formed XML"):
        read_asap(tmp_path / "bad.xml")


@pytest.mark.parametrize("number", ["x", "", "nan", "inf"])
def test_a_coordinate_that_is_no_number_names_the_file(tmp_path, number):
    with pytest.raises(ValueError, match=r"bad\.xml: annotation 'a' has a coordinate"):
        read_asap(asap(tmp_path / "bad.xml", ("_0", f"0,0 1,0 1,{number}")))


def test_entities_are_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><ASAP_Annotations>&c;</ASAP_Annotations>'
    (tmp_path / "bomb.xml").write_text(bomb)
    with pytest.raises(ValueError, match=r"bomb\.xml declares a document type"):
        read_asap(tmp_path / "bomb.xml")


@pytest.mark.parametrize(
    "polygons",
    [
        box(0, 0, 10, 10),
        box(0, 0, 10, 10) - box(2, 2, 8, 8),
        RING_WITH_ISLAND,
        RING_WITH_ISLAND | (box(20, 0, 30, 30) - box(22, 1, 24, 3) - box(22, 5, 24, 7)),
        Polygon([(0.1, 0.25), (1e5 + 1 / 3, 7.7), (3.3, 123456.789)]),
        MultiPolygon(),
    ],
)
def test_xml_gives_back_what_was_written(tmp_path, polygons):
    assert read_asap(write_asap(tmp_path / "a.xml", polygons)).symmetric_difference(polygons).area < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def test_rasterize_asks_for_the_centre_of_a_cell():
    triangle = Polygon([(0, 0), (8, 0), (0, 8)])
    assert rasterize(triangle, (4, 4), 2.0).astype(int).tolist() == [
        [1, 1, 1, 0],  # (7, 1) lies on the edge
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_rasterize_keeps_holes_and_islands_and_clips():
    assert rasterize(RING_WITH_ISLAND, (5, 3), 2.0).astype(int).tolist() == [
        [1, 1, 1],
        [1, 0, 0],
        [1, 0, 1],
        [1, 0, 0],
        [1, 1, 1],
    ]
    assert rasterize(box(-5, -5, 100, 100), (2, 2), 1.0).all()
    assert not rasterize(box(-5, -5, -1, 100), (2, 2), 1.0).any()
    assert not rasterize(MultiPolygon(), (2, 2), 1.0).any()


def test_rasterize_agrees_with_a_test_of_every_centre():
    rng = np.random.default_rng(0)
    blob = Polygon(rng.uniform(5, 45, (60, 2))).buffer(0.5) - Point(25, 25).buffer(6)
    mask = rasterize(blob, (37, 41), 1.3)
    centers = [[blob.contains(Point((j + 0.5) * 1.3, (i + 0.5) * 1.3)) for j in range(41)] for i in range(37)]
    np.testing.assert_array_equal(mask, centers)


def test_neighbours_share_no_cell():
    left, right = box(0, 0, 1.5, 3), box(1.5, 0, 3, 3)  # the edge runs through centres
    assert (rasterize(left, (3, 3), 1.0).astype(int) + rasterize(right, (3, 3), 1.0)).tolist() == [[1] * 3] * 3


def test_a_mask_is_outlined_along_its_cells():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    (ring,) = polygons_from_mask(mask, 4.0).geoms
    assert ring.equals(box(0, 0, 12, 12) - box(4, 4, 8, 8))
    assert len(ring.exterior.coords) == len(ring.interiors[0].coords) == 5  # no points on straight edges


def test_cells_that_touch_at_a_corner_are_apart():
    assert len(polygons_from_mask(np.eye(2, dtype=bool), 1.0).geoms) == 2


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))), st.sampled_from([1.0, 4.0, 2 / 0.454]))
def test_a_mask_survives_the_way_to_polygons_and_back(mask, downsample):
    polygons = polygons_from_mask(mask, downsample)
    assert polygons.is_valid
    np.testing.assert_array_equal(rasterize(polygons, mask.shape, downsample), mask)


def test_the_synthetic_outline_is_read_and_lies_on_the_slide(synthetic_annotation, synthetic_slide):
    polygons = read_asap(synthetic_annotation)
    assert not polygons.is_empty
    assert box(0, 0, 600, 600).contains(polygons)
