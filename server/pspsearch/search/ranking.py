"""Chooses which of the found rows become hits, and in which order: thresholds, near-duplicates, groups, diversity."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptor, Descriptors, Found
from pspsearch.number import one_form
from pspsearch.ordering import by_diversity, by_shared_neighbours
from pspsearch.query import Options


@dataclass(slots=True)
class Pick:
    """A found row that became a hit, in a search that is not ordered by score alone."""

    place: int
    """The row's place among those that were found."""
    group: str = ""
    duplicates: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Ranked:
    """The hits of a search that is not ordered by score alone."""

    rows: Found
    picks: Sequence[Pick]
    """One for each row."""
    is_full: bool
    """Whether there are as many hits as were wanted; if not, more found rows might bring more."""


def cut(found: Found, options: Options, excluded: Sequence[str]) -> Found:
    """Returns the rows of the page, for a search that is ordered by score alone."""
    if not excluded:
        end = min(_above(found, options), options.depth)
        return Found(
            found.sequences[options.offset : end], found.ids[options.offset : end], found.scores[options.offset : end]
        )
    return take(found, places(found, options, excluded)[options.offset : options.depth])


def take(found: Found, places: Sequence[int]) -> Found:
    """Returns the rows at these places, in this order."""
    return Found(found.sequences[places], [found.ids[place] for place in places], found.scores[places])


def rank(
    query: Descriptor,
    found: Found,
    options: Options,
    excluded: Sequence[str],
    groups: Mapping[int, str],
    descriptors: Descriptors | None,
) -> Ranked:
    """Returns the hits of the page, for a search that is not ordered by score alone.

    `groups` has the group value of each row by sequence. `descriptors` has those of the found rows, or is None if the
    options compare none.
    """
    order = np.array(places(found, options, excluded), np.int64)
    if descriptors is not None and options.rerank:
        first = order[: options.rerank]
        order[: options.rerank] = first[by_shared_neighbours(query, descriptors[first])]
    found, descriptors = take(found, order.tolist()), None if descriptors is None else descriptors[order]
    picks = pick(found, options, groups, None if options.fold_above is None else descriptors)
    is_full = len(picks) >= options.depth
    at = [picked.place for picked in picks]
    if descriptors is not None and options.diversity:
        worth = np.sort(found.scores[at])[::-1]  # the hits may have been ordered anew: the first is worth the most
        chosen = by_diversity(worth, descriptors[at], options.limit, options.diversity)
        picks = [picks[place] for place in chosen]
    picks = picks[options.offset :]
    return Ranked(take(found, [picked.place for picked in picks]), picks, is_full)


def pick(
    found: Found, options: Options, groups: Mapping[int, str], descriptors: Descriptors | None = None
) -> list[Pick]:
    """Returns at most `options.depth` of the rows, in their order, with groups limited and near-duplicates folded.

    `descriptors` has those of the rows, or is None if near-duplicates are not folded.
    """
    picks: list[Pick] = []
    sizes: dict[str, int] = {}
    kept = np.empty((options.depth, 0 if descriptors is None else descriptors.shape[1]), np.float32)
    for place, id_ in enumerate(found.ids):
        if descriptors is not None and options.fold_above is not None:
            near = _nearest(kept[: len(picks)], descriptors[place], options.fold_above)
            if near is not None:
                picks[near].duplicates.append(id_)
                continue
        group = groups.get(int(found.sequences[place]), "")
        if group and sizes.get(group, 0) >= options.group_size:
            continue
        if len(picks) == options.depth:
            break
        sizes[group] = sizes.get(group, 0) + 1
        if descriptors is not None:
            kept[len(picks)] = descriptors[place]
        picks.append(Pick(place, group))
    return picks


def places(found: Found, options: Options, excluded: Sequence[str]) -> list[int]:
    """Returns the places of the rows that may be hits; the rows are in the order of their scores."""
    return [place for place, id_ in enumerate(found.ids[: _above(found, options)]) if id_ not in excluded]


def _above(found: Found, options: Options) -> int:
    """Counts the rows that reach the minimum score."""
    least = -np.inf if options.min_score is None else options.min_score
    return int(np.count_nonzero(found.scores >= least))


def group_values(attributes: Mapping[int, str], path: str) -> dict[int, str]:
    """Returns the group value of each row, by sequence."""
    return {sequence: group_value(text, path) for sequence, text in attributes.items()}


def group_value(attributes: str, path: str) -> str:
    """Returns the attribute as JSON with its numbers in one spelling, or "" if it is absent."""
    value = _find(json.loads(attributes), path)
    return "" if value is None else json.dumps(_in_one_form(value), ensure_ascii=False, sort_keys=True)


def _find(value: object, path: str, start: int = 0) -> object:
    """Finds a value as a filter does: a dot goes into an object, or is part of a name. None if it is absent.

    If several match, the one under the shortest name wins. Every name is looked at once, however many dots the path
    has.
    """
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, object]", value)
    if path.find(".", start) >= 0:
        names = [name for name in members if path.startswith(name, start) and path.startswith(".", start + len(name))]
        for name in sorted(names, key=len):
            found = _find(members[name], path, start + len(name) + 1)
            if found is not None:
                return found
    return members.get(path[start:])


def _in_one_form(value: object) -> object:
    """Puts each number into its one form. Validation limits how deep an attribute is nested."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: _in_one_form(inner) for name, inner in members.items()}
    if isinstance(value, list):
        return [_in_one_form(inner) for inner in cast("list[object]", value)]
    return one_form(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _nearest(kept: Descriptors, descriptor: NDArray[np.float32], least: float) -> int | None:
    """Returns the place of the best hit that the descriptor nearly duplicates, or None."""
    near = np.flatnonzero(kept @ descriptor >= least)
    return int(near[0]) if len(near) else None
