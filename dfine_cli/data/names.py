"""Class names of two label sets compared: which of theirs means the same as one of ours.

Names are compared in a normal form, in which case, plural, punctuation and spaces do not count
(``Traffic_Lights`` is ``traffic light``), and then by a table of synonyms between COCO, Objects365 and
what people call the same things.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal, NamedTuple

from dfine_cli.errors import UsageError

How = Literal["name", "synonym", "class map", "fresh"]

NOTHING = ("", "none")
"""What a class map says for a class that starts fresh."""

SYNONYMS: tuple[tuple[str, ...], ...] = (
    # What the published COCO <-> Objects365 correspondence pairs although the names differ.
    ("bird", "wild bird"),
    ("suitcase", "luggage"),
    ("skis", "skating and skiing shoes"),
    ("sports ball", "baseball"),
    ("teddy bear", "stuffed toy"),
    ("hair drier", "hair dryer"),
    ("tv", "television", "tv monitor", "monitor"),
    # The same thing in other words.
    ("person", "human", "pedestrian", "human body"),
    ("airplane", "aeroplane", "plane", "aircraft"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike"),
    ("car", "automobile", "passenger car"),
    ("truck", "lorry"),
    ("pickup truck", "pickup"),
    ("couch", "sofa", "settee"),
    ("dining table", "table"),
    ("potted plant", "houseplant"),
    ("cell phone", "mobile phone", "smartphone", "mobile"),
    ("traffic light", "stoplight", "traffic signal"),
    ("stop sign", "stop"),
    ("refrigerator", "fridge"),
    ("donut", "doughnut"),
    ("cookies", "biscuit"),
    ("laptop", "laptop computer", "notebook computer"),
    ("remote", "remote control"),
    ("keyboard", "computer keyboard"),
    ("mouse", "computer mouse"),
    ("microwave", "microwave oven"),
    ("cup", "mug"),
    ("trash bin can", "trash can", "trash bin", "garbage can", "garbage bin", "dustbin", "waste container"),
    ("helmet", "hard hat", "safety helmet"),
    ("glasses", "eyeglasses", "spectacles"),
    ("hat", "cap"),
    ("boat", "ship"),
    ("boat", "sailboat"),
    ("soccer", "soccer ball", "football"),
    ("sports ball", "ball", "soccer", "basketball", "volleyball", "tennis", "football", "soccer ball"),
    ("head phone", "headset"),
    ("surveillance camera", "security camera", "cctv"),
    ("stroller", "pram", "baby carriage"),
    ("gun", "pistol", "handgun"),
    ("hamburger", "burger"),
    ("wallet", "purse"),
    ("handbag", "purse"),
)
"""Names for the same thing; where a name is in several rows the first that helps counts."""

_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "shelves": "shelf",
    "leaves": "leaf",
    "wolves": "wolf",
    "buses": "bus",
    "skis": "ski",
    "potatoes": "potato",
    "tomatoes": "tomato",
    "mangoes": "mango",
    "cookies": "cookie",
    "pies": "pie",
    "ties": "tie",
}
_ONLY_PLURAL = ("glasses",)
"""Names whose singular is another thing."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[^\W\d_][^\W\d_A-Z]*|\d+")


class Match(NamedTuple):
    """Where one of our classes comes from."""

    source: int | None
    """Position in their names; None where it starts fresh."""
    how: How


def normal_form(name: str) -> str:
    """A name without case, plural, punctuation and spaces; never empty unless ``name`` is."""
    text = unicodedata.normalize("NFKC", name)
    if text.casefold() in _ONLY_PLURAL:
        return text.casefold()
    words = [_singular(word.casefold()) for word in _WORD.findall(text)]
    return "".join(words) or text.casefold()


def _singular(word: str) -> str:
    """An English noun in the singular; other words may change, but the same way each time."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _forms(name: str) -> list[str]:
    """Normal forms of a name and of its parts between slashes, the whole first."""
    return list(dict.fromkeys(map(normal_form, (name, *name.split("/")))))


_SYNONYM_FORMS = tuple(tuple(map(normal_form, row)) for row in SYNONYMS)


def match_names(
    theirs: Sequence[str], ours: Sequence[str], overrides: Mapping[str, str] | None = None
) -> tuple[Match, ...]:
    """For each of our classes the one of theirs that means the same.

    Args:
        theirs: Names of the classes that there are weights for; several may be the same.
        ours: Names of the classes that are wanted.
        overrides: One of ours to one of theirs, its position, or ``none``: counts more than the names.

    Raises:
        UsageError: An override names a class that is not there.
    """
    given = _resolve(theirs, ours, overrides or {})
    whole, parts = _index(theirs, whole=True), _index(theirs, whole=False)
    return tuple(
        Match(given[name], "class map") if name in given else _find(name, whole, parts) for name in ours
    )


def _index(names: Sequence[str], *, whole: bool) -> dict[str, int]:
    """Position by normal form, the first one that has it: of whole names, or of their parts."""
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        for form in _forms(name)[:1] if whole else _forms(name):
            if form:
                found.setdefault(form, position)
    return found


def _find(name: str, whole: Mapping[str, int], parts: Mapping[str, int]) -> Match:
    forms = _forms(name)
    for form, index in [(forms[0], whole), *((form, parts) for form in forms)]:
        if form in index:
            return Match(index[form], "name")
    for row in _SYNONYM_FORMS:
        if any(form in row for form in forms):
            for synonym in row:
                if synonym in parts:
                    return Match(whole.get(synonym, parts[synonym]), "synonym")
    return Match(None, "fresh")


def _resolve(
    theirs: Sequence[str], ours: Sequence[str], overrides: Mapping[str, str]
) -> dict[str, int | None]:
    """The position that each overridden class of ours gets."""
    return {
        ours[_position(mine, ours, "of the data")]: None
        if name.casefold() in NOTHING
        else _position(name, theirs, "in the weights")
        for mine, name in overrides.items()
    }


def _position(name: str, names: Sequence[str], where: str) -> int:
    """Position of a name, as written or in its normal form, or of a position written as a number."""
    if name in names:
        return names.index(name)
    index = _index(names, whole=True)
    if (form := normal_form(name)) in index:
        return index[form]
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UsageError(f"class map: there is no class {name!r} {where}", _suggest(name, names))


def _suggest(name: str, names: Iterable[str]) -> str:
    by_form = {normal_form(n): n for n in names}
    near = [by_form[form] for form in get_close_matches(normal_form(name), by_form, n=3)]
    return (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"there are: {', '.join(list(by_form.values())[:12])}"
    )
