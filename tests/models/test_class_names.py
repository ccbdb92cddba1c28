"""The malignant class is found by its name, never by its place."""

import pytest
import torch

from wsi_hf import WsiUNetConfig, WsiUNetForSegmentation, segment_slide
from wsi_hf.models.class_names import benign_first, malignant_class


@pytest.mark.parametrize(
    ("names", "malignant"),
    [
        (("benign", "malignant"), 1),
        (("malignant", "benign"), 0),
        (("Tumour tissue", "Normal tissue"), 0),
        (("no tumor", "tumor"), 1),
        (("non-malignant", "metastasis"), 1),
        (("stroma", "tumor"), 1),
        (("benign", "lesion"), 1),
        (("LABEL_0", "LABEL_1"), 1),
    ],
)
def test_the_malignant_class_is_found_by_name(names, malignant):
    assert malignant_class(dict(enumerate(names))) == malignant


@pytest.mark.parametrize("names", [("cat", "dog"), ("tumor", "carcinoma"), ("benign", "normal")])
def test_names_that_do_not_tell_are_refused(names):
    with pytest.raises(ValueError, match="does not tell which class is malignant"):
        WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1, id2label=dict(enumerate(names))))


def swapped(model: WsiUNetForSegmentation) -> WsiUNetForSegmentation:
    """The same network with its classes in the other order."""
    config = {**model.config.to_dict(), "id2label": {0: "malignant", 1: "benign"}}
    other = WsiUNetForSegmentation(WsiUNetConfig(**config)).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.classifier.weight.copy_(model.classifier.weight.flip(0))
        other.classifier.bias.copy_(model.classifier.bias.flip(0))
    return other


def test_the_order_of_the_classes_changes_nothing(model, noise_slide):
    other, slide = swapped(model), noise_slide(96, 64)
    ours, theirs = (segment_slide(network, slide, tissue=None) for network in (model, other))
    assert torch.equal(torch.from_numpy(ours.probabilities[:]), torch.from_numpy(theirs.probabilities[:]))
    assert (ours.label, ours.margin) == (theirs.label, theirs.margin)
    assert ours.malignant == theirs.malignant == "malignant"


def test_loss_and_slide_head_follow_the_names(model):
    other, x, labels = swapped(model), torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    with torch.no_grad():
        ours, theirs = model(x, labels=labels), other(x, labels=1 - labels)
    torch.testing.assert_close(ours.loss, theirs.loss)
    torch.testing.assert_close(ours.slide_logits, benign_first(theirs.slide_logits, other.config))
