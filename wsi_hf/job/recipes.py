"""Settings that go together, and the choice between them by what the slides and the machine are."""

from dataclasses import dataclass
from typing import Any

MOSAIC = {  # what both recipes for mosaics share
    "filters": 16, "depth": 3, "bf16": "auto", "warmup_steps": 0.1, "alpha": 8.0, "draw_from": "all",
    "steps_per_round": 25, "slides_per_round": 8, "shuffle_buffer": 64, "mapping_tile_size": 768,
    "augment_elastic_px": 0.0,
}  # fmt: skip
# What the paper does not say is marked in WsiTrainingArguments; depth, optimiser and step count are ours.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "bf16": "auto", "per_device_train_batch_size": 32, "max_steps": 20_000, "learning_rate": 1e-3,
        "steps_per_round": 100, "slides_per_round": 16, "dataloader_num_workers": 8, "save_steps": 1000,
    },
    # Smaller than the paper so that two CPU cores need minutes: 8 filters instead of 32, depth 2, patches of 32 pixels.
    # Not the paper's: discovery first, hardening later. beta_1 stays 0 for almost half the run, then rises to 1, the
    # paper's; patches come from all slides' latest maps, with alpha 8 because maps made under a small beta_1 are flat.
    # What finds the tumour on every seed is many small patches a step, many slides, and first patches from kinds of
    # tissue that malignant slides hold more of; see docs/experiments.md. Glass is known benign (not in the paper).
    "demo": {
        "filters": 8, "depth": 2, "patch_size": 32, "per_device_train_batch_size": 128, "max_steps": 450,
        "learning_rate": 5e-3, "warmup_steps": 0.1, "beta_1_warmup_start": 225, "beta_1_warmup_steps": 175,
        "alpha": 8.0, "draw_from": "all", "steps_per_round": 25, "slides_per_round": 16, "shuffle_buffer": 256,
        "mapping_tile_size": 768, "augment_elastic_px": 0.0, "augment_colour": 0.0, "save_steps": 150,
        "discovery_steps": 150, "glass_weight": 0.1, "glass_share": 0.0625,
        "detection_radius_um": 40.0, "include_itc": True,  # its lesions are small
    },
    # The same schedule for mosaics of real lymph-node patches: more filters, larger patches, more steps.
    "mosaic": {
        **MOSAIC, "patch_size": 96, "per_device_train_batch_size": 32, "max_steps": 1600, "learning_rate": 5e-3,
        "beta_1_warmup_start": 800, "beta_1_warmup_steps": 400, "save_steps": 400,
    },
    # Goes on from "mosaic" (--init_from): few large patches, and logits averaged (not the paper's), because the maps of
    # real tissue are spotty without. Small patches discover, large ones finish: from random weights this learns less.
    # Slides have no maps when it starts, so that it maps more of them a round.
    "mosaic-smooth": {
        **MOSAIC, "smoothing": 64, "patch_size": 320, "per_device_train_batch_size": 4, "max_steps": 600,
        "learning_rate": 2e-3, "slides_per_round": 44, "save_steps": 200,
    },
    # Mosaics in three minutes, for comparisons (benchmarks/ablation.py): half the resolution, both runs in one.
    "mosaic-quick": {
        **MOSAIC, "mpp": 1.944, "smoothing": 24, "patch_size": 64, "per_device_train_batch_size": 24, "max_steps": 450,
        "learning_rate": 5e-3, "beta_1_warmup_start": 225, "beta_1_warmup_steps": 175, "slides_per_round": 16,
        "save_steps": 150,
    },
    # Glands at half the paper's resolution: tumour that looks like its surroundings, first placed by the discriminant.
    # Without it nothing is learned there in as many steps.
    "glands": {
        **MOSAIC, "mpp": 2.2, "patch_size": 96, "per_device_train_batch_size": 32, "max_steps": 1200,
        "learning_rate": 3e-3, "beta_1_warmup_start": 700, "beta_1_warmup_steps": 300, "discovery": "discriminant",
        "discovery_steps": 500, "steps_per_round": 50, "slides_per_round": 16, "shuffle_buffer": 256,
        "validation_fraction": 0.2, "save_steps": 300,
    },
    # Goes on from "glands", as "mosaic-smooth" does from "mosaic".
    "glands-smooth": {
        **MOSAIC, "mpp": 2.2, "smoothing": 28, "patch_size": 224, "per_device_train_batch_size": 6, "max_steps": 500,
        "learning_rate": 1e-3, "steps_per_round": 50, "slides_per_round": 48, "validation_fraction": 0.2,
        "save_steps": 250,
    },
}  # fmt: skip
OWN = "own"
"""The recipe for one's own slides, made to measure by `own_recipe`."""
OF_THE_UNET = ("filters", "depth", "smoothing", "guided_smoothing", "mpp")
COMMON = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.3,
    "logging_steps": 25,
    "save_total_limit": 2,
    "report_to": "none",
}


@dataclass(frozen=True)
class Seen:
    """What a recipe is chosen by: training slides by class, their median size at 1 um a pixel, and the device."""

    benign: int
    malignant: int
    megapixels: float
    gpu: bool
    synthetic: bool = False


def choose_recipe(seen: Seen) -> tuple[str, str]:
    """Give the name of the recipe, and why it was chosen, in a few words."""
    if seen.synthetic:
        return "demo", "synthetic slides"
    return OWN, f"discover, then harden, for {'a GPU' if seen.gpu else 'CPU cores'}; made to measure"


def recipe_values(name: str, seen: Seen | None, known_network: bool = False) -> dict[str, Any]:
    """The settings of a recipe; without those of the U-Net where another network is trained."""
    values = own_recipe(seen) if name == OWN and seen else RECIPES[name]
    return {key: value for key, value in values.items() if not (known_network and key in OF_THE_UNET)}


def own_recipe(seen: Seen) -> dict[str, Any]:
    """Discover, then harden, at half the paper's resolution: "mosaic-quick" with the first patches of "glands".

    On glands, which it was not tuned on, AP is 0.60 and slide AUC 0.98; without placed first patches 0.06 and 0.69.
    beta_1 is 0 for half of the run and then rises to the paper's 1; with 1 from the first step, the paper's setting,
    two seeds of three ended in "all benign" (docs/experiments.md). Steps: enough to map every malignant slide five
    times. A GPU gets the paper's 32 filters, more patches and more steps, which was not measured.
    """
    slides_per_round = 2 * min(max(seen.malignant // 8, 8), 22)
    rounds = -(-5 * seen.malignant * 2 // slides_per_round)
    steps = min(max(25 * rounds, 3000 if seen.gpu else 450), 20_000)
    wider = {
        "filters": 32, "per_device_train_batch_size": 64, "shuffle_buffer": 256, "learning_rate": 2e-3,
        "dataloader_num_workers": 8,
    }  # fmt: skip
    return {
        **RECIPES["mosaic-quick"], "mpp": 2.0, **(wider if seen.gpu else {}),
        "max_steps": steps, "beta_1_warmup_start": steps // 2, "beta_1_warmup_steps": steps * 3 // 8,
        "discovery": "discriminant", "discovery_steps": steps // 4,
        "slides_per_round": slides_per_round, "save_steps": max(steps // 75, 1) * 25,
        "include_itc": seen.megapixels < 4,
    }  # fmt: skip
