"""Saved views of a dataset in FiftyOne: what to look at first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from dfine_cli.visualize import outcomes
from dfine_cli.visualize.draw import Colour
from dfine_cli.visualize.fiftyone_labels import MISSED, NEITHER, RIGHT, WRONG

TRUTH = "ground_truth"
"""Field of the annotated objects."""
_FOUND: Colour = (215, 215, 215)
"""Annotated objects that are found, or that do not count: there, but nothing to look at."""
WORST = "worst images"
"""The view to begin with."""


def save_views(
    fiftyone: ModuleType, dataset: Any, model: str, thresholds: Mapping[str, float], classes: list[str]
) -> list[str]:
    """Save the views of a model, those that compare it with others, and one for each class.

    Args:
        fiftyone: The module.
        dataset: Whose fields are filled.
        model: Field of the model's detections.
        thresholds: Lowest score that is shown, by the field of each model.
        classes: Names of the classes that occur.

    Returns:
        The names.
    """
    judged = dataset.has_field(f"{model}_errors")
    views = _Views(fiftyone, dataset, thresholds)
    found = dict(views.of_model(model)) if judged else {}
    if dataset.has_field(f"{model}_uncertainty"):
        found[f"{model}: most uncertain"] = views.uncertain(model)
    for other in thresholds:
        if judged and other != model and dataset.has_field(f"{other}_errors"):
            found |= views.of_pair(model, other)
    found |= {f"class {name}": views.of_class(name) for name in classes}
    for name, view in found.items():
        dataset.save_view(name, view, overwrite=True)
    return list(found)


def set_colours(fiftyone: ModuleType, dataset: Any, models: Iterable[str], model: str) -> None:
    """Show outcomes in the colours of our other pictures, and at first those of one model.

    Args:
        fiftyone: The module.
        dataset: Whose fields are filled.
        models: Fields of the detections of each model.
        model: The one by whose outcomes the annotated objects are coloured, and which is seen at first.
    """
    if dataset.has_field(TRUTH):
        fields = [_coloured(TRUTH, model, {RIGHT: _FOUND, MISSED: outcomes.MISSED, NEITHER: _FOUND})]
        known = {RIGHT: outcomes.RIGHT, WRONG: outcomes.WRONG, NEITHER: _FOUND}
        fields += [_coloured(name, "outcome", known) for name in models]
        dataset.app_config.color_scheme = fiftyone.ColorScheme(color_by="value", fields=fields)
    seen = [field for field in (TRUTH, model) if dataset.has_field(field)]
    dataset.app_config.active_fields = fiftyone.core.odm.ActiveFields(paths=seen)
    dataset.save()


def _coloured(field: str, attribute: str, colours: Mapping[str, Colour]) -> dict[str, Any]:
    """Part of a colour scheme: a field coloured by the values of an attribute."""
    values = [{"value": v, "color": "#{:02x}{:02x}{:02x}".format(*rgb)} for v, rgb in colours.items()]
    return {
        "path": field,
        "colorByAttribute": attribute,
        "fieldColor": values[0]["color"],
        "valueColors": values,
    }


class _Views:
    """Builds views on a dataset."""

    def __init__(self, fiftyone: ModuleType, dataset: Any, thresholds: Mapping[str, float]) -> None:
        self._field = fiftyone.ViewField
        self._dataset = dataset
        self._thresholds = thresholds

    def of_model(self, model: str) -> Iterator[tuple[str, Any]]:
        """Where one model is wrong."""
        at = self._at_threshold
        worst_first = self._dataset.match(self._field(f"{model}_errors") > 0).sort_by(
            [(f"{model}_errors", -1), (f"{model}_tp", 1)]
        )
        yield f"{model}: {WORST}", at(worst_first, model)
        misses = self._dataset.match(self._field(f"{model}_fn") > 0).sort_by(f"{model}_fn", reverse=True)
        yield (
            f"{model}: misses",
            at(misses.filter_labels(TRUTH, self._field(model) == MISSED), model),
        )
        wrong = self._dataset.match(self._field(f"{model}_fp") > 0).sort_by(f"{model}_fp", reverse=True)
        yield (
            f"{model}: false positives",
            at(wrong.filter_labels(model, self._field("outcome") == WRONG), model),
        )
        suspects = self._field(f"{model}_label_errors.detections")
        suspicious = self._dataset.match(suspects.length() > 0).sort_by(
            suspects.map(self._field("confidence")).max(), reverse=True
        )
        yield f"{model}: likely label errors", at(suspicious, model)

    def uncertain(self, model: str) -> Any:
        """Images by how open the edges of their boxes are."""
        known = self._dataset.match(self._field(f"{model}_uncertainty") > 0)
        return self._at_threshold(known.sort_by(f"{model}_uncertainty", reverse=True), model)

    def of_pair(self, model: str, other: str) -> dict[str, Any]:
        """Where one model has more errors than another, and where fewer."""
        ours, theirs = self._field(f"{model}_errors"), self._field(f"{other}_errors")
        found = {}
        for word, more in (("worse", ours - theirs), ("better", theirs - ours)):
            view = self._dataset.match(more > 0).sort_by(more, reverse=True)
            found[f"{model}: {word} than {other}"] = self._at_threshold(view, model, other)
        return found

    def of_class(self, name: str) -> Any:
        """Images with a class, annotated or found, and nothing else on them."""
        view, here = self._at_threshold(self._dataset, *self._thresholds), None
        fields = [f for f in (TRUTH, *self._thresholds) if self._dataset.has_field(f)]
        for field in fields:
            view = view.filter_labels(field, self._field("label") == name, only_matches=False)
            some = self._field(f"{field}.detections").length() > 0
            here = some if here is None else here | some
        return view.match(here)

    def _at_threshold(self, view: Any, *models: str) -> Any:
        """A view without the detections that do not count."""
        for model in models:
            view = view.filter_labels(
                model, self._field("confidence") >= self._thresholds[model], only_matches=False
            )
        return view
