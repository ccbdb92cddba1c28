import numpy as np
import pytest
from matplotlib.image import imread

from wsi_hf.cli import main
from wsi_hf.models.divergence import beta_1_for
from wsi_hf.reports.paper_figures import expected_divergence, plot_figure_1, pull_of_a_malignant_label

KINDS = ("png", "svg")
Q_1 = np.linspace(0.001, 0.999, 999)


def minimum(beta_1, gamma=0.33):
    return Q_1[expected_divergence(Q_1, (0.0, beta_1), gamma).argmin()]


def test_kullback_leibler_settles_at_the_share_of_wrong_labels():
    assert minimum(0.0) == pytest.approx(1 / (1 + 1 / 0.33), abs=0.001)


def test_the_papers_beta_1_moves_the_minimum_to_5_percent():
    assert minimum(beta_1_for(theta_0=0.05, gamma=0.33)) == pytest.approx(0.05, abs=0.001)


def test_with_beta_1_of_1_wrong_labels_are_let_go():
    assert minimum(1.0) == Q_1[0]


def test_the_pull_of_a_label_is_q_to_the_beta_times_the_rest():
    for beta_1 in (0.0, 0.61, 1.0):
        np.testing.assert_allclose(pull_of_a_malignant_label(Q_1, (0.0, beta_1)), Q_1**beta_1 * (1 - Q_1), rtol=1e-9)


def test_figure_1_is_drawn(tmp_path):
    plot_figure_1(tmp_path / "figure_1.png")
    assert imread(tmp_path / "figure_1.png").std() > 0.01


def test_a_runs_figures_are_drawn(evaluated, tmp_path):
    assert main(["figures", "--out", str(tmp_path / "figures"), "--run", str(evaluated)]) == 0
    names = [f"{name}.{kind}" for name in ("figure_1", "figure_3", "figure_4_left", "figure_4_right") for kind in KINDS]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    for name in names[::2]:
        assert imread(tmp_path / "figures" / name).std() > 0.01


def test_figures_need_a_run_that_was_evaluated(tmp_path, caplog):
    assert main(["figures", "--out", str(tmp_path / "figures"), "--run", str(tmp_path)]) == 1
    assert "run wsi-hf evaluate first" in caplog.text
    assert main(["figures", "--out", str(tmp_path / "figures")]) == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["figure_1.png", "figure_1.svg"]
