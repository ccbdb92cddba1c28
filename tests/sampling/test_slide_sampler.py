import numpy as np
import pytest

from wsi_hf.sampling.slide_sampler import SlideSampler


def run(labels: list[int], per_round: int, epochs_unmapped: int, rounds: int, sum_q: np.ndarray) -> list[list[int]]:
    """Choose round after round; every chosen slide counts as mapped."""
    slide_sampler = SlideSampler(labels, per_round, epochs_unmapped, seed=0)
    last = np.full(len(labels), -1)
    chosen = []
    for t in range(rounds):
        chosen.append(slide_sampler.choose(t, last, sum_q))
        last[chosen[-1]] = t
    return chosen


def test_both_classes_are_mapped_at_the_same_rate():
    labels = [0] * 30 + [1] * 12
    for slides in run(labels, 8, 3, 50, np.ones(42)):
        assert sum(labels[s] for s in slides) * 2 == len(slides) == len(set(slides)) == 8


def test_every_malignant_slide_is_mapped_once_an_epoch():
    labels = [0] * 5 + [1] * 11
    chosen = run(labels, 6, 2, 40, np.ones(16))  # 11 slides in 4 rounds of 3, 3, 3, 2
    for epoch in range(10):
        malignant = [s for slides in chosen[4 * epoch : 4 * epoch + 4] for s in slides if labels[s]]
        assert sorted(malignant) == list(range(5, 16))


def test_benign_slides_are_drawn_by_their_error_mass():
    labels = [0] * 20 + [1] * 20
    sum_q = np.ones(40)
    sum_q[3] = 10.0
    chosen = run(labels, 2, 100, 4000, sum_q)
    counts = np.bincount([s for slides in chosen for s in slides if not labels[s]], minlength=20)
    assert counts[3] / len(chosen) == pytest.approx(10 / 29, rel=0.15)


@pytest.mark.parametrize(("benign", "malignant", "epochs"), [(159, 111, 2), (159, 111, 5), (40, 4, 10)])
def test_every_slide_is_mapped_within_the_promised_epochs(benign, malignant, epochs):
    labels = [0] * benign + [1] * malignant
    mass = np.exp(np.random.default_rng(0).normal(0, 4, benign + malignant))  # some slides would never be drawn
    chosen = run(labels, 8, epochs, 600, mass)
    longest = SlideSampler(labels, 8, epochs, 0).longest_wait
    last = np.full(len(labels), -1)
    for t, slides in enumerate(chosen):
        last[slides] = t
        assert t - last[:benign].min() < longest


def test_a_promise_that_cannot_be_kept_is_refused_with_the_arithmetic():
    with pytest.raises(ValueError, match=r"1000 benign slides.*at least 100"):
        SlideSampler([0] * 1000 + [1] * 10, 8, 3, seed=0)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_both_classes_are_needed(labels):
    with pytest.raises(ValueError, match="both classes"):
        SlideSampler(labels, 2, 1, seed=0)


def test_the_choice_is_a_function_of_seed_round_and_maps():
    labels, last, mass = [0] * 9 + [1] * 9, np.full(18, -1), np.ones(18)
    first, second = (SlideSampler(labels, 6, 4, seed=5).choose(2, last, mass) for _ in range(2))
    assert first == second
    assert SlideSampler(labels, 6, 4, seed=6).choose(2, last, mass) != first
