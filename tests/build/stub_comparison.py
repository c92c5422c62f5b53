"""Compares a type stub with what the bindings say about themselves."""

import ast
import re
from collections.abc import Iterator, Mapping

from tests.build.tensorrt_bindings import RealClass

_SIGNATURE = re.compile(r"(?:\d+\. )?\w*\((?P<parameters>.*)\) -> (?P<result>.+)")
_SAME_TYPE = {
    "SupportsInt": "int",
    "Buffer": "bytes",
    "buffer": "bytes",
    "IParserError": "ParserError",  # the C++ name shows where pybind11 did not know the class yet
}
Parameters = list[tuple[str, str, bool]]


def differences(stub: str, real: Mapping[str, RealClass]) -> list[str]:
    """One line for each thing in the stub that the bindings lack or have in another form."""
    classes = [node for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)]
    return [line for node in classes for line in _compare_class(node, node.name, real.get(node.name))]


def _compare_class(node: ast.ClassDef, name: str, real: RealClass | None) -> Iterator[str]:
    if real is None:
        yield f"{name} is missing"
        return
    for member in node.body:
        match member:
            case ast.ClassDef():
                nested = real.nested.get(member.name)
                yield from _compare_class(member, f"{name}.{member.name}", nested and RealClass(**nested))
            case ast.AnnAssign(target=ast.Name(id=attribute), annotation=annotation):
                yield from _compare_attribute(f"{name}.{attribute}", attribute, ast.unparse(annotation), name, real)
            case ast.FunctionDef(name="__buffer__"):  # not an attribute before Python 3.12, so its text must do
                if "buffer protocol" not in real.doc:
                    yield f"{name} has no buffer protocol"
            case ast.FunctionDef(decorator_list=[ast.Name(id="property")]):
                yield from _compare_property(f"{name}.{member.name}", member, real)
            case ast.FunctionDef():
                yield from _compare_method(f"{name}.{member.name}", member, real)
            case _:
                yield f"{name} holds {ast.unparse(member)}, which is not compared"


def _compare_attribute(path: str, attribute: str, annotation: str, owner: str, real: RealClass) -> Iterator[str]:
    if annotation == owner:
        if attribute not in real.values:
            yield f"{path} is missing"
    elif attribute not in real.writable:
        yield f"{path} cannot be written to"
    elif _result(real.readable[attribute]) != annotation:
        yield f"{path} is {_result(real.readable[attribute])}, not {annotation}"


def _compare_property(path: str, member: ast.FunctionDef, real: RealClass) -> Iterator[str]:
    if member.name not in real.readable:
        yield f"{path} is missing"
    elif _result(real.readable[member.name]) not in _alternatives(member.returns):
        yield f"{path} is {_result(real.readable[member.name])}"


def _compare_method(path: str, member: ast.FunctionDef, real: RealClass) -> Iterator[str]:
    doc = real.methods.get(member.name)
    if doc is None:
        yield f"{path} is missing"
    elif not any(_fits(member, signature) for signature in map(_SIGNATURE.fullmatch, doc.splitlines()) if signature):
        yield f"{path} is {doc.strip().splitlines()[0]}"


def _fits(member: ast.FunctionDef, signature: re.Match[str]) -> bool:
    wanted = [(argument.arg, _alternatives(argument.annotation)) for argument in member.args.args[1:]]
    given = list(_split(signature["parameters"]))[1:]
    return (
        _simple(signature["result"]) in _alternatives(member.returns)
        and len(wanted) <= len(given)
        and all(
            name == real_name and kind in kinds
            for (name, kinds), (real_name, kind, _) in zip(wanted, given, strict=False)
        )
        and all(optional for _, _, optional in given[len(wanted) :])
    )


def _split(parameters: str) -> Parameters:
    """Each parameter of a pybind11 signature: its name, its type, and whether it has a default."""
    without_values = re.sub(r"<[^>]*>", "...", parameters)  # pybind11 writes an enum's default as <Name.VALUE: 0>
    found = re.findall(r"(\w+): ([\w.:]+(?:\[.*?\])?)( = )?", without_values)
    return [(name, _simple(kind), bool(default)) for name, kind, default in found]


def _alternatives(annotation: ast.expr | None) -> set[str]:
    """The types that a stub's annotation allows; pybind11 converts a tuple of numbers to Dims."""
    assert annotation is not None
    names = {_simple(name) for name in ast.unparse(annotation).split(" | ")}
    return names | {"Dims"} if "tuple" in names else names


def _result(signature: str) -> str:
    return _simple(signature.strip().splitlines()[0].rpartition(" -> ")[2])


def _simple(kind: str) -> str:
    """A type's last name, without its module and container."""
    name = re.split(r"[.:]", kind.partition("[")[0])[-1]
    return _SAME_TYPE.get(name, name)
