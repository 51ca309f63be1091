"""What a check of data found, and the report of all of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfine_cli.errors import CheckError

Severity = Literal["error", "warning", "note"]

_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Finding:
    """One kind of problem in one split."""

    severity: Severity
    code: str
    """Short fixed name, for programs."""
    split: str
    message: str
    """What is wrong, without the split and the examples."""
    fix: str
    """What to do about it."""
    count: int
    examples: tuple[str, ...] = ()
    """The first few places."""

    def __str__(self) -> str:
        """One line: split, message, first places."""
        more = ", …" if self.count > len(self.examples) else ""
        places = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        return f"{self.split}: {self.message}{places}"


@dataclass(frozen=True)
class Report:
    """All findings, errors first."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that must be put right."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings the loader copes with."""
        return tuple(f for f in self.findings if f.severity == "warning")

    def raise_for_errors(self) -> None:
        """Stop if there are errors.

        Raises:
            CheckError: With the first errors and what to do about each.
        """
        errors = self.errors
        if len(errors) == 1:
            raise CheckError(str(errors[0]), errors[0].fix)
        if errors:
            lines = [f"{len(errors)} kinds of error in the data"]
            lines += [f"  {error}\n    fix: {error.fix}" for error in errors[:_SHOWN_ERRORS]]
            lines += [f"  and {len(errors) - _SHOWN_ERRORS} more"] * (len(errors) > _SHOWN_ERRORS)
            raise CheckError("\n".join(lines), "put these right, then run the command again")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [asdict(finding) for finding in self.findings],
        }
