"""A training that falls into "all benign" is noticed within a few rounds; beta_1 rises when the tumour is found."""

import logging

import pytest
import torch

from wsi_hf.training.signs import ROUNDS_COLLAPSED, Signs, save_signs

from .conftest import assert_equal, make_trainer, weights

LABELS = torch.tensor([0, 1, 0, 1])


def judge(signs: Signs, q_benign: float, q_malignant: float, beta_1: float = 1.0, step: int = 0) -> str | None:
    signs.see(LABELS, torch.tensor([q_benign, q_malignant] * 2), beta_1)
    return signs.end_round(step)


@pytest.mark.parametrize(
    ("q_benign", "q_malignant", "beta_1", "collapsed"),
    [
        (0.15, 0.16, 1.0, True),  # flat and next to no gradient left
        (0.001, 0.0015, 1.0, True),
        (0.49, 0.50, 1.0, False),  # flat, as at the start: the gradient is there
        (0.05, 0.25, 1.0, False),  # few patches look malignant, but those of malignant slides do
        (0.15, 0.16, 0.0, False),  # cross-entropy pushes back however small q is
        (0.01, 0.95, 1.0, False),
    ],
)
def test_what_counts_as_all_benign(q_benign, q_malignant, beta_1, collapsed):
    signs = Signs(1.25)
    said = [judge(signs, q_benign, q_malignant, beta_1) is not None for _ in range(ROUNDS_COLLAPSED + 2)]
    assert said == [False] * (ROUNDS_COLLAPSED - 1) + [collapsed, False, False]  # said once
    assert signs.collapsed == collapsed


def test_a_better_round_begins_the_count_again():
    signs = Signs(1.25)
    said = [judge(signs, 0.1, q) is not None for q in (0.1, 0.1, 0.9, 0.1, 0.1, 0.1)]
    assert said == [False] * 5 + [True]


def test_the_tumour_is_found_when_two_rounds_in_a_row_say_so():
    signs = Signs(1.25)
    for step, q in enumerate((0.7, 0.5, 0.6, 0.7, 0.8), start=1):
        judge(signs, 0.5, q, step=step)
        assert signs.found_step == (None if step < 5 else 5)


def test_a_resumed_round_is_judged_as_a_whole(tmp_path):
    batches = [(LABELS, torch.rand(4, generator=torch.Generator().manual_seed(i)), 0.5) for i in range(6)]
    whole, stopped, resumed = Signs(1.25), Signs(1.25), Signs(1.25)
    for batch in batches:
        whole.see(*batch)
    for batch in batches[:4]:
        stopped.see(*batch)
    save_signs(stopped.facts(), tmp_path)
    resumed.load(tmp_path, rank=0)
    for batch in batches[4:]:
        resumed.see(*batch)
    assert resumed.facts() == whole.facts()


def test_the_trainer_says_it_with_the_step_and_what_to_try(slides, tmp_path, caplog):
    trainer = make_trainer(tmp_path, slides, learning_rate=0.0)
    with torch.no_grad():
        trainer.model.classifier.bias.copy_(torch.tensor([3.0, -3.0]))  # "all benign", and stays there
    with caplog.at_level(logging.WARNING, "wsi_hf.training.trainer"):
        trainer.train()
    (message,) = [r.getMessage() for r in caplog.records if "all benign" in r.getMessage()]
    assert message.startswith("step 6: ")
    assert "--harden_at 1.25" in message


def test_beta_1_waits_for_the_tumour_and_then_rises(slides, tmp_path, caplog):
    trainer = make_trainer(tmp_path, slides, harden_at=1000.0, beta_1_warmup_steps=4)
    with caplog.at_level(logging.WARNING, "wsi_hf.training.trainer"):
        trainer.train()
    assert "never found" in caplog.text
    assert {row["beta_1"] for row in trainer.state.log_history if "beta_1" in row} == {0.0}
    trainer.signs.found_step = 6
    assert trainer.beta == (0.0, 0.5)  # at step 8


def test_a_resumed_run_hardens_at_the_same_step(slides, tmp_path):
    def trained(folder, checkpoint=None, **more):
        trainer = make_trainer(tmp_path / folder, slides, harden_at=2.0, beta_1_warmup_steps=2, **more)
        trainer.signs.found_at = 0.0  # every round shows it: found with the second
        trainer.train(resume_from_checkpoint=checkpoint)
        assert trainer.signs.found_step == 4
        return weights(trainer)

    whole = trained("whole")
    assert_equal(trained("parts", save_strategy="steps", save_steps=3), whole)
    assert_equal(trained("parts", str(tmp_path / "parts/checkpoint-3")), whole)


def test_a_sign_that_is_always_there_is_refused(slides, tmp_path):
    with pytest.raises(ValueError, match="harden_at is 0"):
        make_trainer(tmp_path, slides, harden_at=0.9)
