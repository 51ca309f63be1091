"""From the classes of trained weights to the user's: rows of the class heads carried over by name.

Rows are those of the score heads of all decoder layers, of the encoder's score head, and of the embedding that
denoising queries are made with. # published: by position through a list of 80 numbers; for most class counts
the mapping fails and all heads start fresh.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfine_cli.data.names import Match, match_names

State = Mapping[str, Tensor]

_CLASS_ROWS = re.compile(
    r"decoder\.(enc_score_head\.(weight|bias)|dec_score_head\.\d+\.(weight|bias)|denoising_class_embed\.weight)"
)


@dataclass(frozen=True)
class Transfer:
    """Which of our classes start from which of theirs.

    Args:
        ours: Names of the classes of the data.
        theirs: Names of the rows of the weights; empty where nothing is known of them.
        matches: One for each of ours.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    matches: tuple[Match, ...]

    @classmethod
    def by_name(
        cls, theirs: Sequence[str], ours: Sequence[str], class_map: Mapping[str, str] | None = None
    ) -> "Transfer":
        """Matched by ``data.names``.

        Raises:
            UsageError: The class map names a class that is not there.
        """
        return cls(tuple(ours), tuple(theirs), match_names(theirs, ours, class_map))

    @property
    def warm(self) -> dict[str, tuple[str, str]]:
        """Each of ours that is warm-started: from which of theirs, and how that was found."""
        return {
            name: (self.theirs[match.source], match.how)
            for name, match in zip(self.ours, self.matches, strict=True)
            if match.source is not None
        }

    @property
    def fresh(self) -> list[str]:
        """Those of ours that start from nothing."""
        return [n for n, match in zip(self.ours, self.matches, strict=True) if match.source is None]

    def tell(self) -> list[str]:
        """The report as lines of text."""
        warm = [
            mine if mine == source else f"{mine} <- {source}" + (f" ({how})" if how != "name" else "")
            for mine, (source, how) in self.warm.items()
        ]
        lines = [f"{len(warm)} of {len(self.ours)} classes are warm-started" + _listed(warm)]
        return lines + ([f"{len(self.fresh)} start fresh" + _listed(self.fresh)] if self.fresh else [])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        warm = {mine: {"from": source, "by": how} for mine, (source, how) in self.warm.items()}
        return {"warm": warm, "fresh": self.fresh}


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def is_class_row(key: str) -> bool:
    """Whether the first axis of this entry of a state dict counts classes."""
    return _CLASS_ROWS.fullmatch(key) is not None


def carry_rows(theirs: State, fresh: State, matches: Sequence[Match]) -> dict[str, Tensor]:
    """``theirs`` with every class head as we need it: matched rows from there, the others as in ``fresh``.

    Args:
        theirs: Weights with heads for their classes.
        fresh: Initialised weights with heads for ours: rows of score heads have the published prior, and the
            last row of the embedding is its padding.
        matches: For each of our classes the row of theirs.

    Returns:
        All entries of ``theirs``; class heads that ``fresh`` has in no such width are left as they are.
    """
    pairs = [(mine, m.source) for mine, m in enumerate(matches) if m.source is not None]
    ours = torch.tensor([mine for mine, _ in pairs], dtype=torch.long)
    sources = torch.tensor([source for _, source in pairs], dtype=torch.long)
    carried = dict(theirs)
    for key, value in theirs.items():
        if is_class_row(key) and key in fresh and fresh[key].shape[1:] == value.shape[1:]:
            rows = fresh[key].clone()
            rows[ours] = value[sources].to(rows)
            carried[key] = rows
    return carried
