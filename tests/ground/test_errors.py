"""The error hierarchy."""

import copy
import re

from pspsearch import errors


def test_drawing_is_the_hierarchy() -> None:
    """The tree at the top of the module shows every class under its parent, and none that is not there."""
    assert errors.__doc__ is not None
    names = re.findall(r"^([| `-]*)([A-Z]\w+)(?:  .*)?$", errors.__doc__, re.MULTILINE)
    drawn = [(len(branches) // 4, name) for branches, name in names]

    parents: dict[str, str] = {}
    path: list[str] = []
    for depth, name in drawn:
        del path[depth:]
        parents[name] = path[-1] if path else "Exception"
        path.append(name)

    defined = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert parents == defined


def test_every_error_can_be_copied() -> None:
    """A kept error is raised as a copy, with all that it tells."""
    kinds = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.PspsearchError)
    ]
    for kind in kinds:
        error = kind("it failed")
        error.request_id = "a"
        again = copy.copy(error)
        assert (type(again), str(again), vars(again)) == (kind, "it failed", vars(error))
    assert copy.copy(errors.BadFilter("no filter", 7)).position == 7
