import numpy as np
import pytest

from wsi_hf.sampling.slide_sampler import SlideSampler


def run(
    labels: list[int], per_round: int, epochs_unmapped: int, rounds: int, sum_q: np.ndarray, error_mass: bool = True
) -> list[list[int]]:
    """Choose round after round; every chosen slide counts as mapped."""
    slide_sampler = SlideSampler(labels, per_round, epochs_unmapped, seed=0, error_mass=error_mass)
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


def test_without_error_mass_benign_slides_are_drawn_alike():
    labels = [0] * 20 + [1] * 20
    sum_q = np.ones(40)
    sum_q[3] = 1e6
    chosen = run(labels, 2, 100, 4000, sum_q, error_mass=False)
    counts = np.bincount([s for slides in chosen for s in slides if not labels[s]], minlength=20)
    assert counts[3] / len(chosen) == pytest.approx(1 / 20, rel=0.25)


@pytest.mark.parametrize(("benign", "malignant", "epochs"), [(159, 111, 2), (159, 111, 5), (40, 4, 10), (9, 18, 1)])
def test_every_slide_is_mapped_within_the_promised_epochs(benign, malignant, epochs):
    labels = [0] * benign + [1] * malignant
    mass = np.exp(np.random.default_rng(0).normal(0, 4, benign + malignant))  # some slides would never be drawn
    chosen = run(labels, 8, epochs, 600, mass)
    longest = SlideSampler(labels, 8, epochs, 0).longest_wait
    last = np.full(len(labels), -1)
    for t, slides in enumerate(chosen):
        last[slides] = t
        assert t - last.min() < longest  # malignant ones too


@pytest.mark.parametrize("benign", [6, 23])
def test_the_promise_holds_for_rounds_of_any_length_with_slides_lost_on_the_way(benign):
    labels = [0] * benign + [1] * 9
    rng = np.random.default_rng(1)
    pairs = SlideSampler(labels, 2, max_epochs_unmapped=4, seed=0)
    last, step, lost = np.full(len(labels), -1), 0, set()
    while step < 400:
        mass = np.exp(rng.normal(0, 4, len(labels)))
        chosen, following = pairs.fill(step, last, mass, [3.0] * len(labels), rng.uniform(0, 80), lost)
        assert following > step
        assert not lost & set(chosen)
        for slide, at in chosen.items():
            last[slide] = at
        step = following
        if rng.random() < 0.02 and len(lost) < 4:
            lost.add(int(rng.integers(len(labels))))
        kept = [slide for slide in range(len(labels)) if slide not in lost]
        assert step - 1 - last[kept].min() < pairs.longest_wait


def test_a_budget_is_filled_as_well_as_whole_steps_can():
    pairs = SlideSampler([0] * 20 + [1] * 20, 2, 4, seed=0)
    cost = np.full(40, 5.0)
    for budget, steps in ((0, 1), (20, 2), (24, 2), (26, 3), (1e9, 20)):
        chosen, following = pairs.fill(7, np.full(40, -1), np.ones(40), cost, budget)
        assert following - 7 == steps
        assert sorted(set(chosen.values())) == list(range(7, following))


def test_two_mappers_and_a_resumed_run_agree_on_every_round():
    labels, mass = [0] * 13 + [1] * 7, np.exp(np.random.default_rng(0).normal(0, 2, 20))
    assert run(labels, 4, 3, 60, mass) == run(labels, 4, 3, 60, mass)
    last = np.full(20, -1)
    for t, slides in enumerate(run(labels, 4, 3, 60, mass)):
        resumed = SlideSampler(labels, 4, 3, seed=0)  # knows nothing but the maps so far
        assert resumed.choose(t, last, mass) == slides
        assert len({*slides[0::2], *slides[1::2]}) == len(slides)  # the shares of two mappers
        last[slides] = t


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
