"""Outlines as other programs write them."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from wsi_hf.evaluation.judging import outline_of
from wsi_hf.slides.annotations import read_asap
from wsi_hf.slides.outlines.outline_files import read_outline

SQUARE, L_SHAPE = "0,0 100,0 100,100 0,100", "0,0 300,0 300,100 100,100 100,300 0,300"


def asap(
    path: Path, *annotations: tuple[str, str], order: str = 'Order="{}" ', groups: str = "", head: str = ""
) -> Path:
    """An ASAP file of (group, "x,y x,y ...") annotations."""
    lines = [head, "<ASAP_Annotations><Annotations>"]
    for group, points in annotations:
        lines.append(f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}"><Coordinates>')
        for number, point in enumerate(points.split()):
            x, y = point.split(",")
            lines.append(f'<Coordinate {order.format(number)}X="{x}" Y="{y}"/>')
        lines.append("</Coordinates></Annotation>")
    path.write_text(
        "".join([*lines, f"</Annotations><AnnotationGroups>{groups}</AnnotationGroups></ASAP_Annotations>"])
    )
    return path


@pytest.mark.parametrize("order", ["", 'Order="0" ', 'Order="{}.0" '])
@pytest.mark.parametrize(("ring", "area"), [(SQUARE, 1e4), (L_SHAPE, 5e4)])
def test_points_without_an_order_stay_in_that_of_the_file(tmp_path, order, ring, area):
    assert read_asap(asap(tmp_path / "a.xml", ("Tumor", ring), order=order)).area == area


def test_a_decimal_comma_is_a_decimal_point(tmp_path):
    path = asap(tmp_path / "a.xml", ("Tumor", SQUARE))
    path.write_text(path.read_text().replace('"100"', '"100,0"'))
    assert read_asap(path).area == 1e4


@pytest.mark.parametrize("tumour", ["metastases", "Tumour", "TUMOR", "Malignant"])
@pytest.mark.parametrize("benign", ["normal", "Exclusion"])
def test_groups_of_camelyon17_and_others_are_known(tmp_path, tumour, benign):
    path = asap(tmp_path / "a.xml", (tumour, SQUARE), (benign, "20,20 40,20 40,40 20,40"))
    assert outline_of({"slide_id": "a", "label": 1, "annotation": str(path)}).area == 1e4 - 400


def test_a_group_within_tumour_is_tumour(tmp_path):
    groups = '<Group Name="Tumor" PartOfGroup="None"/><Group Name="Ductal" PartOfGroup="Tumor"/>'
    groups += '<Group Name="G2" PartOfGroup="Ductal"/><Group Name="loop" PartOfGroup="loop"/>'
    assert read_asap(asap(tmp_path / "a.xml", ("G2", SQUARE), ("loop", L_SHAPE), groups=groups)).area == 1e4


def test_groups_that_are_not_known_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.xml holds no tumour, but annotations of 'epithelium', 'necrosis'"):
        read_asap(asap(tmp_path / "a.xml", ("Necrosis", SQUARE), ("Epithelium", SQUARE)))


def test_imagescope_is_told_by_its_name(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<Annotations MicronsPerPixel="0.5"><Annotation><Regions/></Annotation></Annotations>'
    )
    with pytest.raises(ValueError, match=r"a\.xml is XML of Aperio ImageScope"):
        read_asap(tmp_path / "a.xml")


def test_an_unknown_encoding_names_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"a\.xml is not well-formed XML"):
        read_asap(asap(tmp_path / "a.xml", ("Tumor", SQUARE), head='<?xml version="1.0" encoding="nonsense"?>'))


def ring(points: np.ndarray) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def test_a_free_hand_ring_whose_ends_overlap_has_no_hole(tmp_path):
    angle = np.linspace(0.2, 2 * np.pi + 0.5, 200)
    points = (100 + 5 * np.sin(angle))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]) + 200
    found = read_asap(asap(tmp_path / "a.xml", ("Tumor", ring(points))))
    assert not any(part.interiors for part in found.geoms)
    assert found.area == pytest.approx(np.pi * 100**2, rel=0.01)


@pytest.mark.parametrize("count", [300, 3000, 30_000])
def test_points_in_no_order_are_refused_soon_and_by_name(tmp_path, count):
    points = np.random.default_rng(0).uniform(0, 1e5, (count, 2))
    path, started = asap(tmp_path / "tangle.xml", ("Tumor", ring(points))), time.process_time()
    with pytest.raises(ValueError, match=r"tangle\.xml: annotation 'a' crosses itself nearly everywhere"):
        read_asap(path)
    assert time.process_time() - started < 10


def test_a_very_fine_outline_is_read_in_seconds(tmp_path):
    angle, started = np.linspace(0, 2 * np.pi, 100_000, endpoint=False), time.process_time()
    points = 3e4 + 2e4 * np.column_stack([np.cos(angle), np.sin(angle)])
    found = read_asap(asap(tmp_path / "a.xml", ("Tumor", ring(points))))
    assert found.area == pytest.approx(np.pi * 4e8, rel=1e-4)
    assert len(found.geoms[0].exterior.coords) < 10_000
    assert time.process_time() - started < 20


def geojson(path: Path, *features: tuple[str | None, Polygon], **more) -> Path:
    described = [
        {
            "type": "Feature",
            "geometry": mapping(geometry),
            "properties": {"objectType": "annotation"} | ({"classification": {"name": name}} if name else {}),
        }
        for name, geometry in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": described} | more))
    return path


HOLED = box(0, 0, 100, 100) - box(20, 20, 40, 40)


@pytest.mark.parametrize(
    ("features", "area"),
    [
        ([("Tumor", HOLED)], 9600),
        ([(None, HOLED)], 9600),
        ([("Tumor", box(0, 0, 100, 100)), ("Exclusion", box(0, 0, 10, 10)), ("Stroma", box(0, 0, 50, 50))], 9900),
        ([("Tumor: Positive", MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 3)]))], 2),
    ],
)
def test_geojson_of_qupath_is_read(tmp_path, features, area):
    assert read_outline(geojson(tmp_path / "a.geojson", *features)).area == area


def test_a_list_or_a_single_feature_is_read_too(tmp_path):
    path = geojson(tmp_path / "a.geojson", ("Tumor", HOLED))
    (feature,) = json.loads(path.read_text())["features"]
    for written in ([feature], feature):
        path.write_text(json.dumps(written))
        assert read_outline(path).area == 9600


def test_geojson_is_counted_from_the_bounds_unless_it_says_otherwise(tmp_path):
    foreign = geojson(tmp_path / "a.geojson", ("Tumor", box(0, 0, 10, 10)))
    assert read_outline(foreign, (512, 256)).bounds == (512, 256, 522, 266)
    ours = {"frame": {"name": "level-0", "origin_l0": [0, 0]}}
    path = geojson(tmp_path / "b.geojson", ("Tumor", box(0, 0, 10, 10)), **ours)
    assert read_outline(path, (512, 256)).bounds == (0, 0, 10, 10)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"type": "FeatureCollection"}', "[" * 10_000, '"x"', "\xff"])
def test_what_is_no_geojson_names_the_file(tmp_path, text):
    (tmp_path / "bad.geojson").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"bad\.geojson"):
        read_outline(tmp_path / "bad.geojson")
