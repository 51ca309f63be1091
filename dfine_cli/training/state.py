"""Everything that changes while a run goes on."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from dfine_cli.model.dfine import DFINE
from dfine_cli.training.ema import Ema
from dfine_cli.training.mean import Mean
from dfine_cli.training.objective import Objective


@dataclass
class Counters:
    """Plain numbers of a run's progress."""

    epoch: int = 0
    """Epoch in progress, counted from 0."""
    batch: int = 0
    """Batches of it that are done."""
    step: int = 0
    """Optimizer steps done."""
    skipped: int = 0
    """Steps left out because they were not finite."""
    best: float = -1.0
    """Best AP of the run."""
    best_epoch: int = -1
    """Epoch that reached it, counted from 0."""
    best_since_reload: float = -1.0
    """Best AP since weights were last reloaded (two-stage recipes)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


@dataclass
class TrainState:
    """Model, average, optimizer and counters."""

    model: DFINE
    ema: Ema[DFINE]
    optimizer: AdamW
    scaler: torch.amp.GradScaler
    objectives: list[Objective]
    frozen_norms: list[nn.Module] = field(default_factory=list)
    """Batch norms of frozen parts, which keep their statistics."""
    counters: Counters = field(default_factory=Counters)
    means: Mean = field(default_factory=Mean)
    """Loss terms of the epoch in progress; the total is called ``loss``."""
    best_weights: str = "ema"
    """Which weights scored better last: ``"ema"`` or ``"model"``."""

    def train_mode(self) -> None:
        """Put the model into training mode, all but what is frozen."""
        self.model.train()
        for norm in self.frozen_norms:
            norm.eval()
