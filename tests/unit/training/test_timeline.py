"""A run as a drawing."""

from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Recipe
from dfine_cli.phases import Phases
from dfine_cli.training.timeline import WIDTH, draw


def drawing(recipe: Recipe, steps_per_epoch: int = 10) -> dict[str, str]:
    s = recipe.schedule
    return draw(recipe, Phases(s.epochs, s.warm_until, s.dense_until, s.refine_from), steps_per_epoch)


def test_rates_rise_and_fall_and_phases_have_their_share() -> None:
    lines = drawing(load_recipe("finetune/n").recipe)
    rate, phase = lines["rate"], lines["phase"]
    assert len(rate) == len(phase) == WIDTH
    top = rate.index("█")
    assert list(rate[:top]) == sorted(rate[:top]) and list(rate[top:]) == sorted(rate[top:], reverse=True)
    assert rate[0] < "█" and rate[-1] == "▁"
    assert phase == "|dense ".ljust(51, "-") + "|refine ".ljust(9, "-")


def test_averaging_is_told_in_steps() -> None:
    assert drawing(load_recipe("finetune/n").recipe)["ema"] == (
        "averages over about the last 12 steps; 0.0% of the start weights are left at the end"
    )
    published = Recipe.model_validate(
        {"ema": {"decay": 0.9999, "warmup_steps": 0}, "schedule": {"epochs": 10}}
    )
    assert drawing(published)["ema"] == (
        "averages over about the last 10000 steps; 99.0% of the start weights are left at the end"
    )


def test_short_runs_and_constant_rates_are_drawn_too() -> None:
    for epochs in (1, 2, 3, 500):
        recipe = Recipe.model_validate(
            {"schedule": {"epochs": epochs, "warmup_steps": 0, "dense_until": 0.5, "refine_from": 0.75}}
        )
        lines = drawing(recipe, 1)
        assert lines["rate"] == "█" * WIDTH
        assert len(lines["phase"]) == WIDTH
