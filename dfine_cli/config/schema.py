"""Every knob of a run: its type, its range and one line of what it does.

The docstring under a field is its help text: ``--show``, the comments of a written recipe and the JSON
schema are made from it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SizeName = Literal["n", "s", "m", "l", "x"]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^\w[\w .+-]*$")]
Device = Annotated[str, Field(pattern=r"^(auto|(cpu|cuda|mps|xpu|hpu|npu|xla)(:\d+)?)$")]
SIDE_STEP, LONGEST_SIDE = 32, 4096
Side = Annotated[int, Field(ge=SIDE_STEP, le=LONGEST_SIDE, multiple_of=SIDE_STEP)]


class Section(BaseModel):
    """A frozen group of knobs that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Data(Section):
    """Where images and annotations are, and how they are read."""

    train_json: Path | None = None
    """COCO annotations to train on."""
    train_images: Path | None = None
    """Folder of the training images; file names in the JSON are relative to it."""
    val_json: Path | None = None
    """COCO annotations to choose the best checkpoint with."""
    val_images: Path | None = None
    """Folder of the validation images."""
    input_size: tuple[Side, Side] = (640, 640)
    """Height and width of the network input in pixels, multiples of 32."""
    workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Processes that load training data; 0 loads in the main process. The batches do not depend on it."""
    exif: Literal["apply", "ignore"] = "apply"
    """Turn images as their EXIF tag says, or leave the pixels as stored."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """Stop at an image that cannot be decoded, or skip and count it."""


class Categories(Section):
    """From category ids in the JSON to class indices."""

    remap: Literal["auto", "coco80", "none"] = "auto"
    """auto: contiguous indices from the file; coco80: the official 80-class table; none: ids are indices 0..C-1."""


class Start(Section):
    """Weights that the run begins with, and what is kept of them."""

    weights: str | None = None
    """Name of published weights such as s/obj2coco, or a file; none trains from scratch."""
    head: Literal["transfer", "fresh"] = "transfer"
    """Carry the rows of the class heads over by class name, or start all of them fresh."""
    class_map: tuple[str, ...] = ()
    """Entries mine=theirs that count more than the names; mine=none starts a class fresh."""
    freeze: Literal["none", "backbone", "encoder", "all-but-head"] = "none"
    """What is not trained: the backbone; it and the encoder; all but the score and box heads."""


class Model(Section):
    """Knobs of the network; sizes themselves are rows in ``model.sizes``."""

    num_queries: Count = 300
    """Object queries, the most objects an image can give."""
    decoder_layers: Count | None = None
    """Decoder layers; default by size: 3 (N, S), 4 (M), 6 (L, X)."""
    points: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Sampling points per level of the deformable attention; default by size."""
    bins: Annotated[int, Field(ge=8, multiple_of=2)] = 32
    """N of the paper: intervals of the edge-offset distributions (bins are 0..N)."""
    weighting_a: Positive = 0.5
    """a of the paper's W(n): half of the largest offset inside the curve."""
    weighting_c: Positive | None = None
    """c of the paper's W(n), curvature; default by size: 1/4, X 1/8."""
    num_denoising: CountOrZero = 100
    """Denoising queries per image, 0 for none."""
    label_noise: Share = 0.5
    """Label noise ratio of denoising queries; half of it is the probability that a label changes."""
    box_noise: NotNegative = 1.0
    """Scale of the box noise of denoising queries."""
    position_embedding: Literal["aligned", "published"] = "aligned"
    """Position embedding on rectangular maps; both are the same on square ones."""
    activation: Literal["relu", "silu"] = "relu"
    """Between the linear layers of the decoder: relu in D-FINE, silu in DEIM."""
    frozen_backbone: bool = True
    """L and X keep the stem and the batch norms of their backbone as pretrained; false where all of it is trained."""


class Loss(Section):
    """Matching and loss terms."""

    classification: Literal["vfl", "mal", "focal"] = "vfl"
    """Classification loss: varifocal as published, matchability-aware (DEIM), or focal."""
    alpha: Share = 0.75
    """Weight of negatives against positives in the classification loss."""
    gamma: NotNegative = 2.0
    """Focusing exponent of the classification loss; with mal also the exponent of the IoU it aims at."""
    class_weight: NotNegative = 1.0
    """Weight of the classification loss."""
    bbox_weight: NotNegative = 5.0
    """Weight of the L1 loss."""
    giou_weight: NotNegative = 2.0
    """Weight of the GIoU loss."""
    fgl_weight: NotNegative = 0.15
    """Weight of the fine-grained localisation loss."""
    ddf_weight: NotNegative = 1.5
    """Weight of the decoupled distillation focal loss."""
    temperature: Positive = 5.0
    """T of the paper: temperature of the self-distillation."""
    cost_class: NotNegative = 2.0
    """Weight of the class cost in the matching."""
    cost_bbox: NotNegative = 5.0
    """Weight of the L1 cost in the matching."""
    cost_giou: NotNegative = 2.0
    """Weight of the GIoU cost in the matching."""


class Optim(Section):
    """Optimiser, batch and learning rates."""

    kind: Literal["adamw", "muon"] = "adamw"
    """adamw as published; muon: weight matrices by Muon, all else by AdamW."""
    lr: Positive = 2.5e-4
    """Learning rate at ``nominal_batch``."""
    backbone_lr: Positive = 1.25e-4
    """Learning rate of the backbone at ``nominal_batch``."""
    weight_decay: NotNegative = 1e-4
    """AdamW weight decay."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW betas."""
    groups: Literal["published", "clean"] = "published"
    """published: the groups of the published code; clean: no decay for any norm, affine or bias."""
    batch: Count = 32
    """Images in one forward pass."""
    nominal_batch: Count | None = None
    """Batch the learning rates are made for; gradients accumulate up to it. Default: ``batch``."""
    clip_norm: NotNegative = 0.1
    """Largest gradient norm; 0 turns clipping off."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; auto: bf16 on a GPU that has it, else off."""


class Schedule(Section):
    """Length of the run, learning-rate curve and phases; phases are fractions of the run."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Passes over the training data."""
    curve: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant as published, or a cosine down to ``final_lr``."""
    final_lr: Share = 0.0
    """Last learning rate as a share of the peak (cosine only)."""
    warmup_steps: CountOrZero = 500
    """Optimizer steps of linear warm-up, if ``warmup_share`` is not set."""
    warmup_share: Share | None = None
    """Warm-up as a share of all optimizer steps; replaces ``warmup_steps``."""
    warm_until: Share = 0.0
    """End of the phase without augmentation at the start."""
    dense_until: Share = 0.0
    """End of the phase with mosaic."""
    refine_from: Share = 1.0
    """Start of the last phase, without augmentation and multi-scale."""
    early_stop: CountOrZero = 0
    """Epochs without a better AP until the run goes on to its last phase, and in that until it ends; 0: never."""
    reload_best: bool = False
    """Two stages as published: in the last phase go back to the best weights before it whenever AP does not rise."""


class Ema(Section):
    """Exponential moving average of the weights."""

    decay: Beta = 0.9999
    """Decay per optimizer step, if ``share`` is not set."""
    warmup_steps: CountOrZero = 1000
    """Steps of the ramp ``decay * (1 - exp(-t / steps))``; 0 for none. Not used with ``share``."""
    share: Share | None = None
    """Time constant as a share of all optimizer steps, with a ramp; replaces ``decay``."""


class Augment(Section):
    """Probabilities of the training transforms."""

    photometric: Share = 0.5
    """Probability of each part of the photometric distortion: brightness, contrast, saturation, hue."""
    channel_swap: bool = True
    """Whether swapping the colour channels is one of its parts, as published; not where colours mean something."""
    zoom_out: Share = 0.5
    """Probability of placing the image on a larger canvas."""
    iou_crop: Share = 0.8
    """Probability of the IoU crop."""
    flip: Share = 0.5
    """Probability of the horizontal flip."""
    flip_vertical: Share = 0.0
    """Probability of the vertical flip, for images without an up, such as those of microscopes and satellites."""
    mosaic: Share = 0.0
    """Probability of a 2x2 mosaic in the dense phase."""
    multi_scale: CountOrZero = 0
    """How often the base size stands in the list of sizes of the multi-scale collate; 0 turns it off."""
    multi_scale_mode: Literal["nearest", "bilinear"] = "nearest"
    """Interpolation of the multi-scale resize; nearest as published."""


class Evaluation(Section):
    """How a run is scored."""

    batch: Count = 32
    """Images in one evaluation pass."""
    every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    weights: Literal["ema", "both"] = "both"
    """Score the averaged weights, or the raw ones too and keep the better."""


class Run(Section):
    """Everything around the training."""

    folder: Path = Path("runs")
    """Where run folders are made."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything that is random."""
    device: Device = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    compile: bool = False
    """torch.compile the model (slow first steps)."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""


class Recipe(Section):
    """A complete run."""

    version: Literal["2026.1", "2026.2"] = "2026.2"
    """Version of the recipe; a file that names an old one keeps its old behaviour."""
    name: Name = "run"
    """Name of the run folder."""
    size: SizeName = "n"
    """Model size."""
    data: Data = Data()
    categories: Categories = Categories()
    start: Start = Start()
    model: Model = Model()
    loss: Loss = Loss()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    ema: Ema = Ema()
    augment: Augment = Augment()
    evaluation: Evaluation = Evaluation()
    run: Run = Run()

    @model_validator(mode="after")
    def _phases_are_in_order(self) -> "Recipe":
        s = self.schedule
        if not s.warm_until <= max(s.warm_until, s.dense_until) <= s.refine_from:
            raise ValueError("schedule: warm_until <= dense_until <= refine_from must hold")
        return self
