"""The arguments that weakly supervised training adds to transformers' TrainingArguments."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments

from wsi_hf.inference.precision import AUTO, DTYPES, choose_dtype
from wsi_hf.models.divergence import check_beta
from wsi_hf.models.slide_head import check_eta
from wsi_hf.training.interruption import watch_launcher

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass
class WsiTrainingArguments(TrainingArguments):
    """TrainingArguments plus the paper's hyper-parameters; every default is the paper's unless marked."""

    eta: float | None = field(
        default=None, metadata={"help": "percent of pixels that vote for malignant; default: the model's (paper: 50)"}
    )
    beta_0: float = field(default=0.0, metadata={"help": "beta of the benign class (paper: 0)"})
    beta_1: float = field(default=1.0, metadata={"help": "beta of the malignant class (paper: 1; 0 = cross-entropy)"})
    beta_1_warmup_start: int = field(default=0, metadata={"help": "step at which beta_1 begins to rise from 0"})
    beta_1_warmup_steps: int = field(
        default=0, metadata={"help": "steps over which beta_1 then rises to its value (not in the paper)"}
    )
    alpha: float = field(default=2.0, metadata={"help": "patches are centred on pixels drawn with Q^alpha (paper: 2)"})
    patch_size: int = field(default=256, metadata={"help": "side of a patch in model pixels (not in the paper)"})
    dynamic_sampling: bool = field(
        default=True, metadata={"help": "draw patches from the model's own maps; False: uniformly over the tissue"}
    )
    draw_from: str = field(
        default="fresh",
        metadata={"help": "'fresh': slides mapped in the last finished round; 'all': every slide's latest map"},
    )
    shuffle_buffer: int = field(default=256, metadata={"help": "draws of one class that are mixed (not in the paper)"})
    steps_per_round: int = field(
        default=25, metadata={"help": "optimiser steps between two hand-overs of weights and maps (not in the paper)"}
    )
    slides_per_round: int = field(
        default=8,
        metadata={
            "help": "slides mapped in a round, half of each class (not in the paper); 0: as many as the mapping "
            "manages while the training trains, which depends on the machine and so cannot be repeated exactly"
        },
    )
    discovery_steps: int = field(
        default=0,
        metadata={
            "help": "steps before the model's own maps begin to replace the first ones of malignant slides, made from "
            "kinds of tissue that they hold more of; 0, or uniform sampling: none (not in the paper)"
        },
    )
    discovery: str = field(
        default="kinds",
        metadata={
            "help": "how the first maps are made: 'kinds': clusters of texture; 'discriminant': a linear discriminant "
            "on more of it, which finds what clusters cannot tell apart (not in the paper)"
        },
    )
    discovery_encoder: str | None = field(
        default=None,
        metadata={
            "help": "with 'discriminant': folder or repository of a pre-trained encoder that describes tissue in place "
            "of textures, which finds far rarer tumour; as for --model (not in the paper)"
        },
    )
    pixel_loss: float = field(
        default=0.0,
        metadata={"help": "share of the loss that every pixel has by itself, from 0 to 1 (paper: 0, patches only)"},
    )
    max_epochs_unmapped: int = field(
        default=8, metadata={"help": "every slide is mapped at least once in so many epochs (paper: N)"}
    )
    error_mass: bool = field(
        default=True,
        metadata={"help": "benign slides are chosen by the sum of their map; False: all alike (not in the paper)"},
    )
    glass_weight: float = field(
        default=0.0,
        metadata={
            "help": "weight of a loss on pixels of glass, holes and black fill, known to be benign on every slide; 0: "
            "none, as in the paper"
        },
    )
    glass_share: float = field(
        default=0.0,
        metadata={"help": "share of benign slides' patches that are centred off the tissue (not in the paper)"},
    )
    map_stride: int = field(default=8, metadata={"help": "model pixels a side of a map's cell; 1 = the paper's pixels"})
    mapping: str = field(
        default="child",
        metadata={
            "help": "'child': the mapping process runs beside the training; 'inline': within it, round by round; "
            "'ranks': the last mapping_ranks processes of the launch map, the others train; 'pool': whoever joins "
            "with `wsi-hf map`, as further mappers may with any of these"
        },
    )
    mapping_ranks: int = field(default=1, metadata={"help": "processes of the launch that map, with mapping 'ranks'"})
    mapping_threads: int = field(
        default=0, metadata={"help": "threads of a mapper that read; 0: the cores of its machine / the mappers on it"}
    )
    mapping_device: str | None = field(
        default=None,
        metadata={"help": "device of the mapping, such as cuda:1; default: the training's, or the mapping rank's own"},
    )
    mapping_dtype: str | None = field(
        default=None,
        metadata={"help": "float32, bfloat16, float16, or auto for the faster one; default: that of the training"},
    )
    mapping_tile_size: int = field(default=512, metadata={"help": "side of the tiles that are mapped, in model pixels"})
    cpu_threads: int = field(
        default=0,
        metadata={
            "help": "torch threads of the training and of the mapping process each; 0: half the cores. A convolution "
            "split over other threads rounds differently: fix it to compare runs bit by bit"
        },
    )
    tissue: str = field(
        default="auto",
        metadata={"help": "patches lie on tissue: 'auto' or a folder of masks; 'none': anywhere on the slide"},
    )
    augment_rotate: bool = field(default=True, metadata={"help": "turn patches by multiples of 90 degrees"})
    augment_mirror: bool = field(default=True, metadata={"help": "flip patches"})
    augment_elastic_px: float = field(default=1.0, metadata={"help": "rms displacement of the elastic deformation, px"})
    augment_stain: float = field(default=0.3, metadata={"help": "sigma of the stain jitter in optical density"})
    augment_colour: float = field(default=0.1, metadata={"help": "brightness, contrast and saturation jitter"})
    max_lost_slides: float = field(
        default=0.05,
        metadata={"help": "share of the slides that may fail to be read before the training stops with a checkpoint"},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "begin anew in a folder that holds an earlier run, whose checkpoints go"}
    )
    eval_patches_per_slide: int = field(default=4, metadata={"help": "uniform patches a slide behind eval_loss"})

    # TrainingArguments' own fields, where slides need another default.
    bf16: str = field(  # type: ignore[assignment]  # a bool there, and here once this object is made
        default="False",
        metadata={
            "help": "True, False, or auto: train in bfloat16 where the device computes faster in it, by a probe of a "
            "second",
            "nargs": "?",
            "const": "True",
        },
    )
    remove_unused_columns: bool = field(default=False)
    ddp_find_unused_parameters: bool | None = field(default=False)

    def __post_init__(self):
        check_beta((self.beta_0, self.beta_1))
        watch_launcher()  # before any process waits for another one
        if self.eta is not None:
            check_eta(self.eta)
        for name in ("patch_size", "shuffle_buffer", "steps_per_round", "map_stride", "max_epochs_unmapped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name, choices in (
            ("draw_from", ("fresh", "all")),
            ("mapping", ("inline", "child", "ranks", "pool")),
            ("discovery", ("kinds", "discriminant")),
            ("mapping_dtype", (None, AUTO, *DTYPES)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(filter(None, choices))}; got {getattr(self, name)!r}")
        if self.tissue not in ("auto", "none") and not os.path.exists(self.tissue):
            raise ValueError(f"tissue is one of auto, none, or a folder of masks; got {self.tissue!r}")
        if self.discovery_encoder and self.discovery != "discriminant":
            raise ValueError(f"discovery_encoder goes with --discovery discriminant, not {self.discovery}")
        for name in ("alpha", "discovery_steps", "glass_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        for name in ("pixel_loss", "glass_share", "max_lost_slides"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1; got {getattr(self, name)}")
        if self.mapping_tile_size % self.map_stride:
            raise ValueError(
                f"mapping_tile_size {self.mapping_tile_size} must be a multiple of map_stride {self.map_stride}"
            )
        if self.slides_per_round < 2 and self.slides_per_round != 0:
            raise ValueError(f"slides_per_round is at least 2, or 0 for as many as fit; got {self.slides_per_round}")
        if self.mapping == "ranks":
            self._take_role()
        self.bf16 = self._choose_bf16()  # type: ignore[assignment]
        self._refuse_what_has_no_meaning()
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model, self.greater_is_better = "slide_auc", True  # a loss favours "all benign"
        super().__post_init__()
        if self.per_device_train_batch_size % 2 and self.world_size % 2 == 0:
            raise ValueError(
                f"{self.per_device_train_batch_size} patches on each of {self.world_size} processes would give some "
                "more of one class than others; use an even --per_device_train_batch_size"
            )
        if self.mapping_dtype == AUTO:
            device = self.mapping_device or own_device(self.use_cpu)
            self.mapping_dtype = str(choose_dtype(AUTO, device, "the mapping")).removeprefix("torch.")
        elif self.mapping_dtype is None:
            self.mapping_dtype = "bfloat16" if self.bf16 else "float16" if self.fp16 else "float32"

    def _refuse_what_has_no_meaning(self) -> None:
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor has no meaning for the beta-divergence; beta_1 is its remedy")
        if self.ignore_data_skip:
            raise ValueError("ignore_data_skip would train on patches twice; a resumed run skips them without reading")

    def _choose_bf16(self) -> bool:
        """What `bf16` asks for on the device of this process."""
        asked = str(self.bf16).lower()
        if asked not in _BOOLEANS and asked != AUTO:
            raise ValueError(f"bf16 is True, False or auto; got {self.bf16!r}")
        choice = AUTO if asked == AUTO and not self.fp16 else "bfloat16" if _BOOLEANS.get(asked) else "float32"
        return choose_dtype(choice, own_device(self.use_cpu), "the training") == torch.bfloat16

    def _take_role(self) -> None:
        """With mapping 'ranks': a training rank goes on in a world of training ranks, a mapping rank maps and exits."""
        from wsi_hf.mapping.ranks import serve, take_role

        if not self.dynamic_sampling:
            raise ValueError("mapping 'ranks' has nothing to do without dynamic_sampling; leave one of them out")
        folder = Path(os.path.expanduser(self.output_dir or "trainer_output")) / "_mapping"
        worker = take_role(self.mapping_ranks, folder)
        if worker is not None:
            serve(folder, self.mapping_device or own_device(self.use_cpu))

    def beta_at(self, step: int) -> tuple[float, float]:
        """(beta_0, beta_1) after so many steps; beta_1 may still be warming up."""
        warmup = self.beta_1_warmup_steps
        share = (step - self.beta_1_warmup_start) / warmup if warmup else 1.0
        return self.beta_0, min(max(share, 0.0), 1.0) * self.beta_1

    @property
    def threads(self) -> int:
        """torch threads of each of the two processes of one rank."""
        if self.cpu_threads:
            return self.cpu_threads
        local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return max(1, (os.cpu_count() or 2) // (2 * local_ranks))


def own_device(use_cpu: bool) -> str:
    """The device that belongs to this process by its number on its node."""
    if use_cpu or not torch.accelerator.is_available():
        return "cpu"
    kind = torch.accelerator.current_accelerator()
    number = int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count()
    return f"{kind.type if kind else 'cuda'}:{number}"
