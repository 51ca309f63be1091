"""Which options were typed, so that none is passed over without a word."""

from collections.abc import Iterable

import typer

from dfine_cli.errors import UsageError


def refuse_typed(context: typer.Context, names: Iterable[str], why: str, hint: str) -> None:
    """Refuse options that have no use in a call.

    Args:
        context: Of the call.
        names: The parameters of the command that have none.
        why: What follows the option in the message.
        hint: What to do; ``{option}`` in it stands for the option.

    Raises:
        UsageError: One of them was typed; the message names it.
    """
    useless = set(names)
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in useless and source is not None and source.name == "COMMANDLINE":
            off = option.secondary_opts if context.params[option.name or ""] is False else []
            typed = [*off, *option.opts][0]
            raise UsageError(f"{typed} {why}", hint.replace("{option}", typed))
