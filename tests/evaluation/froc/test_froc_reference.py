import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.froc.froc_reference import reference_froc
from wsi_hf.evaluation.froc.scoring import froc


def random_cohort(seed):
    """Draw one to six slides: blocks of tumour of any size, detections with few distinct scores, so that ties occur."""
    rng = np.random.default_rng(seed)
    masks, detections = {}, {}
    for i in range(rng.integers(1, 7)):
        shape = rng.integers(20, 160, 2)
        mask = np.zeros(shape, np.uint8)
        for _ in range(rng.integers(0, 5)):
            (y, x), (h, w) = rng.integers(0, shape), rng.integers(1, 60, 2)
            mask[y : y + h, x : x + w] = 1
        masks[f"slide_{i}"] = mask if mask.any() else None
        n = rng.integers(0, 30)
        scores = rng.integers(0, 12, n) / 10
        x_y = rng.integers(0, (shape[1] * 32, shape[0] * 32), (n, 2))
        detections[f"slide_{i}"] = np.column_stack([scores, x_y])
    return masks, detections


@pytest.mark.parametrize("convention", ["challenge", "release"])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore:no slide has a lesion")
def test_froc_is_the_challenges_rules_written_out(convention, seed):
    masks, detections = random_cohort(seed)
    result = froc(masks, detections, convention)
    if result.n_lesions == 0:
        assert np.isnan(result.average)
        return
    rates, sensitivity, average = reference_froc(masks, detections, convention)
    np.testing.assert_allclose(result.false_positives_per_slide, rates, rtol=1e-12)
    np.testing.assert_allclose(result.sensitivity, sensitivity, rtol=1e-12)
    assert result.average == pytest.approx(average, rel=1e-12)
