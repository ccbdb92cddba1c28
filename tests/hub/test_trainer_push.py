"""What the Trainer pushes by itself: at every save, at the end; never a pickle, never a map."""

import json

import pytest

from .conftest import train
from .test_push import UNET_CODE

MODEL = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "training_args.json", *UNET_CODE}


def pushing(folder, cohort, **changes):
    return train(folder, cohort, push_to_hub=True, hub_model_id="org/model", **changes)


def files(hub):
    return {name: content for name, content in hub.repo("models", "org/model").files().items() if name[0] != "."}


def test_at_every_save_the_checkpoints_model_goes_up(hub, tiny_cohort, tmp_path):
    trainer = pushing(
        tmp_path / "run", tiny_cohort, hub_strategy="every_save", hub_always_push=True, save_strategy="steps",
        save_steps=2, save_total_limit=1,
    )  # fmt: skip
    trainer.train()
    trainer._finish_current_push()
    repo = hub.repo("models", "org/model")
    assert repo.messages[1:] == ["Training in progress, step 2", "Training in progress, step 4"]
    assert set(files(hub)) == MODEL
    assert files(hub)["model.safetensors"] == (tmp_path / "run" / "checkpoint-4" / "model.safetensors").read_bytes()
    weights = [tree["model.safetensors"].content for tree in repo.commits.values() if "model.safetensors" in tree]
    assert len(set(weights)) == 2
    for tree in repo.commits.values():
        assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) or "/" in name for name in tree)
        assert not any(b"tumor_00" in blob.content or str(tmp_path).encode() in blob.content for blob in tree.values())


def test_at_the_end_it_goes_up_once(hub, tiny_cohort, tmp_path):
    trainer = pushing(
        tmp_path / "run", tiny_cohort, hub_strategy="end", save_strategy="steps", save_steps=2, hub_private_repo=True
    )
    trainer.train()
    assert hub.repo("models", "org/model").messages == ["initial commit"]
    trainer.evaluate()
    info = trainer.push_to_hub(dataset="synthetic slides", dataset_license="apache-2.0")
    assert info.oid == hub.repo("models", "org/model").refs["main"]
    assert hub.repo("models", "org/model").private
    assert set(files(hub)) == MODEL
    card = files(hub)["README.md"].decode()
    assert "has not been evaluated on held-out slides" in card
    assert "On the validation slides at step 4: slide ROC AUC" in card
    assert "synthetic slides" in card


def test_without_push_to_hub_the_method_still_pushes(hub, tiny_cohort, tmp_path):
    trainer = train(tmp_path / "model", tiny_cohort, hub_model_id="org/model")
    trainer.push_to_hub()
    assert set(files(hub)) == MODEL


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_strategies_that_upload_pickles_and_maps_are_refused(hub, tiny_cohort, tmp_path, strategy):
    with pytest.raises(ValueError, match="pickles"):
        pushing(tmp_path / "run", tiny_cohort, hub_strategy=strategy)


def test_figures_of_other_weights_do_not_outlive_them(hub, tiny_cohort, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"dice": {"value": 1.0, "n": 100, "ci95": None}}))
    trainer = pushing(folder, tiny_cohort, hub_strategy="end")
    trainer.train()
    trainer.push_to_hub()
    assert "metrics.json" not in files(hub)
    assert "has not been evaluated" in files(hub)["README.md"].decode()


@pytest.mark.parametrize(
    ("fails", "said"), [("PUT /lfs", "failed"), ("POST /api/repos/create", "not pushed")], ids=["upload", "hub down"]
)
def test_a_push_that_fails_does_not_stop_the_training(hub, tiny_cohort, tmp_path, monkeypatch, caplog, fails, said):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    trainer = pushing(
        tmp_path / "run", tiny_cohort, hub_strategy="every_save", save_strategy="steps", save_steps=2,
        hub_always_push=True,
    )  # fmt: skip
    hub.answer(fails, status=503, times=1 if "create" in fails else 6)  # as often as the client tries
    trainer.train()
    trainer._finish_current_push()
    assert f"{said}" in caplog.text
    assert hub.repo("models", "org/model").messages[-1] == "Training in progress, step 4"
    assert files(hub)["model.safetensors"] == (tmp_path / "run" / "checkpoint-4" / "model.safetensors").read_bytes()
