"""The viewer's addresses: what they answer, and what they refuse."""

import io
import json

import numpy as np
import pytest
import shapely
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image
from starlette.testclient import TestClient

from tests.viewer.conftest import LARGE, TOKEN
from wsi_hf.viewer import reviews
from wsi_hf.viewer.app import viewer_app
from wsi_hf.viewer.finding import find_shown_slides


def pixels_of(answer) -> np.ndarray:
    assert answer.status_code == 200
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def test_slides_are_listed_by_score(client):
    dark, light = client.get("slides").json()
    assert (dark["slide_id"], dark["verdict"], dark["truth_label"]) == ("dark", "malignant", "malignant")
    assert (light["slide_id"], light["verdict"], light["truth_label"]) == ("light", "benign", None)
    assert dark["score"] == pytest.approx(0.9933, abs=1e-4)


def test_a_slide_comes_with_its_lesions_and_the_annotation(client):
    slide = client.get("slides/0").json()
    assert slide["size_l0"] == [1200, 900]
    large, small = slide["lesions"]
    assert large["bounds"] == pytest.approx([600, 400, 300, 300], abs=4)
    assert large["area_um2"] == pytest.approx(150 * 150, rel=0.05)
    assert small["largest"] == pytest.approx(0.9933, abs=1e-4)
    assert slide["truth"].count("L") == 3
    assert slide["problems"] == []


def test_tiles_of_slide_and_map_show_the_same_place(client):
    sources = client.get("slides/0").json()
    assert sources["slide"]["width_l0"] == sources["map"]["width_l0"] == 1200
    x0, y0, x1, y1 = LARGE
    level = sources["slide"]["maxLevel"]
    slide = pixels_of(client.get(f"slides/0/slide/{level}/1_1.jpg"))[:, :, 0]  # from (509, 509) on
    assert slide[: y1 - 509 - 4, x0 - 509 + 4 : x1 - 509 - 4].max() < 120
    assert slide[y1 - 509 + 4 :].min() > 200
    level = sources["map"]["maxLevel"]
    probability = pixels_of(client.get(f"slides/0/map/{level}/0_0.png"))
    assert probability.ndim == 2
    assert (probability[y0 // 2 + 1 : y1 // 2 - 1, x0 // 2 + 1 : x1 // 2 - 1] == 253).all()
    assert np.bincount(probability[:190].ravel()).argmax() == 2


def test_a_second_look_at_a_tile_reads_nothing(client, monkeypatch):
    first = client.get("slides/0/slide/11/0_0.jpg")
    monkeypatch.setattr(DeepZoomGenerator, "get_tile", None)
    assert client.get("slides/0/slide/11/0_0.jpg").content == first.content


@pytest.mark.parametrize("address", ["slides/2", "slides/0/slide/11/9_9.jpg", "slides/0/slide/99/0_0.jpg"])
def test_what_is_not_there_is_404(client, address):
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/slides",
        "/wrong-token/slides",
        f"/{TOKEN}/../etc/passwd",
        f"/{TOKEN}/%2e%2e/%2e%2e/etc/passwd",
        f"/{TOKEN}/slides/..%2f..%2fetc%2fpasswd",
        f"/{TOKEN}/static/viewer.js",
    ],
)
def test_nothing_is_served_without_the_token_or_by_its_path(client, address):
    answer = client.get(f"http://127.0.0.1{address}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_another_host_is_refused_and_no_other_page_may_read(client):
    assert client.get("slides", headers={"Host": "evil.example"}).status_code == 400
    answer = client.get("slides", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-frame-options"] == "DENY"


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("").text
    assert "http" not in page.replace("http-equiv", "")
    for name in ("viewer.js", "overlay.js", "viewer.css", "openseadragon.min.js"):
        assert client.get(name).status_code == 200


def test_a_verdict_is_saved_as_geojson_and_taken_back(client, maps):
    lesion = client.get("slides/0").json()["lesions"][0]["id"]
    for verdict in ("accepted", "rejected"):
        assert client.put("slides/0/verdict", json={"lesion": lesion, "verdict": verdict}).status_code == 200
    (feature,) = json.loads((maps / "dark" / "review.geojson").read_text())["features"]
    assert (feature["id"], feature["properties"]["verdict"]) == (lesion, "rejected")
    assert feature["properties"]["classification"]["name"] == "not malignant"
    whole = json.loads((maps / "dark" / "lesions.geojson").read_text())["features"][0]
    assert shapely.geometry.shape(feature["geometry"]).equals(shapely.geometry.shape(whole["geometry"]))
    assert client.get("slides/0").json()["lesions"][0]["verdict"] == "rejected"
    assert client.get("slides").json()[0]["decided"] == 1
    client.put("slides/0/verdict", json={"lesion": lesion, "verdict": None})
    assert json.loads((maps / "dark" / "review.geojson").read_text())["features"] == []


def test_a_verdict_that_cannot_be_is_refused_and_changes_nothing(client, maps, monkeypatch):
    lesion = client.get("slides/0").json()["lesions"][0]["id"]
    asked = {"lesion": lesion, "verdict": "accepted"}
    assert client.put("slides/0/verdict", json={**asked, "verdict": "maybe"}).status_code == 400
    assert client.put("slides/0/verdict", json={**asked, "lesion": "../x"}).status_code == 400
    assert client.put("slides/0/verdict", json={**asked, "more": "x" * 5000}).status_code == 413
    assert client.put("slides/0/verdict", content=json.dumps(asked)).status_code == 415
    assert client.put("slides/0/verdict", json=[]).status_code == 400

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reviews, "write_text", full)
    answer = client.put("slides/0/verdict", json=asked)
    assert answer.status_code == 500
    assert "No space" in answer.text
    assert not (maps / "dark" / "review.geojson").exists()


def test_a_slide_that_was_moved_or_replaced_is_said_and_its_map_is_shown(maps, tmp_path):
    slides, summary = tmp_path / "slides", maps / "light" / "summary.json"
    slides.mkdir()
    Image.new("RGB", (50, 50)).save(slides / "dark.png")
    summary.write_text(summary.read_text().replace("light.tif", "moved.tif"))
    app = viewer_app(find_shown_slides([maps], [slides]), TOKEN)
    client = TestClient(app, base_url=f"http://127.0.0.1/{TOKEN}/")
    dark, light = (client.get(f"slides/{number}").json() for number in (0, 1))
    assert "not the slide of these results" in dark["problems"][0]
    assert "no such file" in light["problems"][0]
    assert dark["map"]["width"] == 600
    assert client.get("slides/0/slide/5/0_0.jpg").status_code == 404


def test_results_that_lead_out_of_the_folder_are_not_shown(maps, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (maps / "dark").rename(other / "dark")
    (maps / "dark").symlink_to(other / "dark")
    assert [slide.slide_id for slide in find_shown_slides([maps])] == ["light"]


def test_an_evaluation_is_shown_with_its_truth(evaluated, tiny_cohort):
    app = viewer_app(find_shown_slides([evaluated]), TOKEN)
    client = TestClient(app, base_url=f"http://127.0.0.1/{TOKEN}/")
    slides = client.get("slides").json()
    assert sorted(slide["truth_label"] for slide in slides) == ["benign", "benign", "malignant", "malignant"]
    malignant = next(slide["number"] for slide in slides if slide["truth_label"] == "malignant")
    page = client.get(f"slides/{malignant}").json()
    assert page["problems"] == []
    assert page["truth"].startswith("M")
    assert page["map"]["width_l0"] == pytest.approx(page["size_l0"][0], rel=0.01)
    assert client.get(f"slides/{malignant}/slide/8/0_0.jpg").status_code == 200


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        find_shown_slides([tmp_path])


def test_lesions_in_another_frame_are_shown_on_the_slide_and_reviewed_in_their_own(client, maps):
    path = maps / "dark" / "lesions.geojson"
    before = client.get("slides/0").json()["lesions"][0]
    collection = json.loads(path.read_text()) | {"frame": {"name": "qupath", "origin_l0": [10, 20]}}
    path.write_text(json.dumps(collection))
    left, top, *_ = client.get("slides/0").json()["lesions"][0]["bounds"]
    assert [left - 10, top - 20] == before["bounds"][:2]
    client.put("slides/0/verdict", json={"lesion": before["id"], "verdict": "accepted"})
    review = json.loads((maps / "dark" / "review.geojson").read_text())
    assert review["frame"]["origin_l0"] == [10, 20]
    assert review["features"][0]["geometry"] == collection["features"][0]["geometry"]
