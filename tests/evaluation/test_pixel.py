import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from wsi_hf.evaluation import blocks
from wsi_hf.evaluation.pixel import PixelScores
from wsi_hf.evaluation.pixel_counts import count_pixels, margin_codes, outline_band

P = np.array([[0.9, 0.6], [0.4, 0.0]], np.float32)
TRUTH = np.array([[1, 0], [1, 0]], bool)


def random_slides(n, seed=0, shape=(40, 30)):
    """Draw slides of which every other one holds tumour, with scores that know something."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        truth = np.zeros(shape, bool)
        if i % 2 == 0:
            truth[5:20, 5:25] = True
        margin = rng.normal(2.0 * truth - 1, 1.5).round(2)
        p = 1 / (1 + np.exp(-margin))
        p[-5:] = 0  # not analysed
        yield f"slide_{i}", p.astype(np.float32), truth


def collected(slides, **settings):
    scores = PixelScores(**settings)
    for slide_id, p, truth in slides:
        scores.add(slide_id, p, truth)
    return scores


def test_dice_counts_pixels_at_the_threshold():
    scores = collected([("a", P, TRUTH)])
    assert scores.result(0).dice.value == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert collected([("a", P, TRUTH)], threshold=0.4).result(0).dice.value == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))


def test_a_probability_equal_to_the_threshold_is_malignant():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    scores = collected([("a", np.array([[0.5, below]], np.float32), np.array([[True, True]]))])
    assert scores.result(0).dice.value == pytest.approx(2 / 3)


def test_average_precision_is_the_mean_of_precision_over_tumour_pixels():
    assert collected([("a", P, TRUTH)]).result(0).average_precision.value == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_pooled_figures_are_those_of_all_pixels_together():
    slides = list(random_slides(4))
    result = collected(slides).result(0)
    p = np.concatenate([p.ravel() for _, p, _ in slides])
    truth = np.concatenate([truth.ravel() for _, _, truth in slides])
    assert result.average_precision.value == pytest.approx(average_precision_score(truth, p), abs=2e-5)
    assert result.dice.value == pytest.approx(2 * (truth & (p >= 0.5)).sum() / (truth.sum() + (p >= 0.5).sum()))
    assert result.average_precision.to_json() | {"value": None} == {
        "value": None, "ci95": None, "n": 4, "n_pixels": 4800, "n_tumour_pixels": 600, "n_malignant": 2
    }  # fmt: skip


def test_each_slide_has_its_own_figures():
    slides = list(random_slides(2))
    figures = collected(slides).result(0).slides
    (_, p, truth), benign = slides[0], figures["slide_1"]
    assert figures["slide_0"].average_precision == pytest.approx(
        average_precision_score(truth.ravel(), p.ravel()), abs=2e-5
    )
    assert (figures["slide_0"].n_pixels, figures["slide_0"].n_tumour_pixels) == (1200, 300)
    assert np.isnan(benign.average_precision)
    assert benign.dice == 0.0  # something was predicted


def test_dice_without_any_tumour_is_undefined():
    result = collected([("a", P, np.zeros_like(TRUTH))], threshold=0.4).result(0)
    assert np.isnan([result.dice.value, *result.dice.ci95]).all()
    assert result.slides["a"].dice == 0.0  # of a benign slide by itself: something was predicted


def test_dice_over_malignant_slides_leaves_benign_ones_out():
    slides = list(random_slides(4))
    result = collected(slides).result(20)
    alone = collected([slide for slide in slides if slide[2].any()]).result(0)
    assert result.dice_malignant.value == pytest.approx(alone.dice.value)
    assert result.dice_malignant.n == 2
    assert result.dice.value < result.dice_malignant.value


def test_the_outlines_band_is_left_out_on_request_and_counted():
    ignore = np.array([[0, 1], [0, 0]], bool)
    scores = PixelScores()
    scores.add("a", P, TRUTH, ignore)
    result = scores.result(0)
    assert result.average_precision.value == pytest.approx(5 / 6)
    assert result.outside_band.average_precision.value == 1.0
    assert result.outside_band.average_precision.counts["n_pixels"] == 3
    assert result.outside_band.dice.value == pytest.approx(2 / 3)
    assert collected([("a", P, TRUTH)]).result(0).outside_band is None


def test_the_band_lies_on_both_sides_of_the_outline():
    truth = np.zeros((1, 9), bool)
    truth[0, 4:] = True
    assert np.flatnonzero(outline_band(truth, band_um=2.5, mpp=1.0)[0]).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(outline_band(truth, band_um=2.5, mpp=2.0)[0]).tolist() == [3, 4]
    assert not outline_band(np.zeros((4, 4), bool), 5.0, 1.0).any()


def test_codes_rank_probabilities_as_their_margins():
    margins = np.array([-80.0, -20, -5, -1e-3, 0, 1e-3, 5, 16, 30])
    p = 1 / (1 + np.exp(-margins))
    codes = margin_codes(np.concatenate([[0.0], p, [1.0]])).astype(int)
    assert (np.diff(codes) > 0).all()
    assert codes[0] == 0


def test_codes_tell_float32_probabilities_near_1_apart():
    p = 1 - np.arange(40, 0, -1, dtype=np.float32) * np.float32(2**-24)
    assert len(np.unique(margin_codes(p))) == 40


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_maps_of_any_float_type_are_read(dtype):
    assert collected([("a", P.astype(dtype), TRUTH)]).result(0).average_precision.value == pytest.approx(5 / 6)


def test_bands_of_rows_add_up_to_the_whole(monkeypatch):
    whole = repr(collected(random_slides(3)).result(50))  # NaN equals itself only in print
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (1, 100))
    assert repr(collected(random_slides(3)).result(50)) == whole


def test_the_interval_is_the_spread_over_resampled_slides():
    slides = list(random_slides(6))
    result = collected(slides).result(2000)
    rng = np.random.default_rng(0)
    values, dices = [], []
    for _ in range(400):
        drawn = [slides[i] for i in (*rng.choice([0, 2, 4], 3), *rng.choice([1, 3, 5], 3))]
        p, truth = (np.stack([slide[part] for slide in drawn]).ravel() for part in (1, 2))
        values.append(average_precision_score(truth, p))
        dices.append(2 * (truth & (p >= 0.5)).sum() / (truth.sum() + (p >= 0.5).sum()))
    assert result.average_precision.ci95 == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.006)
    assert result.dice.ci95 == pytest.approx(np.percentile(dices, [2.5, 97.5]), abs=0.006)


def test_without_tumour_average_precision_is_undefined_and_json_says_null():
    result = collected([("a", P, np.zeros((2, 2), bool))]).result(10)
    assert result.average_precision.to_json()["value"] is None
    assert result.average_precision.ci95 is None


@pytest.mark.parametrize(
    ("p", "truth", "reason"),
    [
        (P[:1], TRUTH, r"a: truth has shape \(2, 2\), the map \(1, 2\)"),
        (P * 2, TRUTH, r"a: probabilities must lie in \[0, 1\]"),
        (np.full((2, 2), np.nan), TRUTH, r"a: probabilities must lie in \[0, 1\]"),
        ((P * 255).astype(np.uint8), TRUTH, "a: probabilities are floats.*divide 8-bit maps by 255"),
    ],
)
def test_bad_maps_are_refused(p, truth, reason):
    with pytest.raises(ValueError, match=reason):
        PixelScores().add("a", p, truth)


def test_a_slide_is_added_once_and_no_slide_is_an_error():
    scores = collected([("a", P, TRUTH)])
    with pytest.raises(ValueError, match="a has been added already"):
        scores.add("a", P, TRUTH)
    with pytest.raises(ValueError, match="no slide has been added"):
        PixelScores().result()


def test_margins_count_as_their_probabilities_and_beyond():
    margins = np.array([[3.0, -1.0], [40.0, -np.inf]], np.float32)
    truth = np.array([[True, False], [False, False]])
    by_margin = count_pixels("a", margins, truth, margins=True)
    by_probability = count_pixels("a", 1 / (1 + np.exp(-margins.astype(float))), truth)
    np.testing.assert_array_equal(by_margin.confusion, by_probability.confusion)
    assert by_margin.count.tolist() == [1, 1, 1, 1]
    saturated = count_pixels("a", np.array([[40.0, 50.0]], np.float32), np.array([[False, True]]), margins=True)
    assert len(saturated.place) == 2  # two scores: as float32 probabilities both are 1
    with pytest.raises(ValueError, match="a: margins must be finite"):
        count_pixels("a", np.array([[np.nan, 1.0]], np.float32), np.array([[False, True]]), margins=True)
