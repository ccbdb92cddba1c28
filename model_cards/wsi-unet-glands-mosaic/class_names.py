"""Which of a model's two classes is the malignant one: told by its name in id2label, never by its place."""

import re
from collections.abc import Mapping
from typing import Any

BENIGN_WORDS = {"benign", "normal", "healthy", "negative", "background", "nontumor", "nontumour"}
MALIGNANT_WORDS = {
    *("malignant", "malignancy", "tumor", "tumour", "cancer", "cancerous", "carcinoma", "metastasis", "metastases"),
    *("neoplasm", "neoplastic", "positive"),
}
NEGATIONS = {"no", "non", "not", "without"}
UNNAMED = ["LABEL_0", "LABEL_1"]
"""What transformers calls two classes that nobody has named: they are taken in this package's own order."""


def malignant_class(id2label: Mapping[Any, str] | None) -> int:
    """Find the malignant class by its name. It is enough that one of the two names is known.

    Args:
        id2label: {0: name, 1: name}. Names that count as benign: benign, normal, healthy, negative, background,
            "non-tumor", "no tumour"; as malignant: malignant, tumor, tumour, cancer, carcinoma, metastasis, neoplastic,
            positive. LABEL_0 and LABEL_1, transformers' words for classes without a name, are benign and malignant.

    Raises:
        ValueError: the names do not tell.
    """
    names = {int(number): str(name) for number, name in (id2label or {}).items()}
    if sorted(names) != [0, 1]:
        raise ValueError(f"a model of two classes (benign, malignant) is needed; this one has {len(names)}")
    if [names[0], names[1]] == UNNAMED:
        return 1
    kinds = [is_malignant(names[0]), is_malignant(names[1])]
    if kinds[0] == kinds[1]:
        raise ValueError(
            f"id2label {names} does not tell which class is malignant; name the classes in the model's config, such as "
            'id2label={0: "benign", 1: "malignant"}'
        )
    return 1 if kinds[1] or kinds[0] is False else 0


def benign_first(logits, config):
    """Logits or probabilities (B, 2, ...) in the order benign, malignant, whatever the model's own."""
    return logits.flip(1) if malignant_class(config.id2label) == 0 else logits


def name_classes(config) -> None:
    """Give the classes of a configuration that has no names for them this package's: benign and malignant."""
    if list(config.id2label.values()) == UNNAMED:
        config.id2label = {0: "benign", 1: "malignant"}
        config.label2id = {"benign": 0, "malignant": 1}


def is_malignant(name: str) -> bool | None:
    """What a class's name says; None where it says nothing, or both."""
    words = re.findall(r"[a-z]+", name.lower())
    malignant, benign = bool(MALIGNANT_WORDS & set(words)), bool(BENIGN_WORDS & set(words))
    if malignant == benign:
        return None
    return malignant != bool(NEGATIONS & set(words))


__all__ = ["benign_first", "malignant_class", "name_classes"]
