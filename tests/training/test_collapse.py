"""A training that falls into "all benign" is noticed within a few rounds; one that learns is left in peace."""

import logging

import pytest
import torch

from wsi_hf.training.collapse import ROUNDS, CollapseWatch

from .conftest import make_trainer

LABELS = torch.tensor([0, 1, 0, 1])


def judge(watch: CollapseWatch, q_benign: float, q_malignant: float, beta_1: float = 1.0) -> bool:
    watch.see(LABELS, torch.tensor([q_benign, q_malignant] * 2))
    return watch.end_round(beta_1) is not None


@pytest.mark.parametrize(
    ("q_benign", "q_malignant", "beta_1", "collapsed"),
    [
        (0.15, 0.16, 1.0, True),  # flat and next to no gradient left
        (0.001, 0.0015, 1.0, True),
        (0.0, 0.0, 1.0, True),
        (1e-39, 1e-36, 1.0, True),
        (0.49, 0.50, 1.0, False),  # flat, as at the start: the gradient is there
        (0.05, 0.25, 1.0, False),  # few patches look malignant, but those of malignant slides do
        (0.15, 0.16, 0.0, False),  # cross-entropy pushes back however small q is
        (0.01, 0.95, 1.0, False),
    ],
)
def test_what_counts_as_all_benign(q_benign, q_malignant, beta_1, collapsed):
    watch = CollapseWatch(beta_1)
    said = [judge(watch, q_benign, q_malignant, beta_1) for _ in range(ROUNDS + 2)]
    assert said == [False] * (ROUNDS - 1) + [collapsed, False, False]  # said once
    assert watch.collapsed == collapsed


def test_what_has_found_nothing_when_beta_1_is_half_way_is_told_so():
    for q_malignant, found in ((0.45, False), (0.6, True)):
        watch = CollapseWatch(0.0)
        schedule = (0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0)
        said = [judge(watch, 0.42, q_malignant, beta_1) for beta_1 in schedule]
        assert said == [False] * 7 + [not found]


def test_a_better_round_begins_the_count_again():
    watch = CollapseWatch(1.0)
    assert [judge(watch, 0.1, q) for q in (0.1, 0.1, 0.9, 0.1, 0.1, 0.1)] == [False] * 5 + [True]


def test_the_trainer_says_it_with_the_step_and_what_to_try(slides, tmp_path, caplog):
    trainer = make_trainer(tmp_path, slides, learning_rate=0.0)
    with torch.no_grad():
        trainer.model.classifier.bias.copy_(torch.tensor([3.0, -3.0]))  # "all benign", and stays there
    with caplog.at_level(logging.WARNING, "wsi_hf.training.trainer"):
        trainer.train()
    (message,) = [r.getMessage() for r in caplog.records if "all benign" in r.getMessage()]
    assert message.startswith("step 6: ")
    assert "--beta_1_warmup_start" in message
