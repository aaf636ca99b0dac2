"""Which classes, methods, properties, constants and signatures of TensorRT ``engines/`` uses, read from its source.

Names are followed from where TensorRT's module comes in (``library.module``, a parameter or variable that is called
``api`` or annotated ``trt.…``) through assignments and calls; what a call returns is said by the published stubs and,
for what they lack, by ``RETURNS``. A use whose class cannot be told is an error, so that no new one is forgotten.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Of tensorrt-rtx, and of classes that the stubs know by name alone.
RETURNS = {
    ("ICudaEngine", "create_runtime_config"): "IRuntimeConfig",
    ("IRuntimeConfig", "create_runtime_cache"): "IRuntimeCache",
    ("IRuntimeConfig", "set_runtime_cache"): None,
    ("OnnxParser", "get_error"): "ParserError",
    ("IExecutionContext", "is_stream_capturable"): None,
    ("IBuilderConfig", "set_compute_capability"): None,
}
MODULE = "module"
_LIST = "list of "


@dataclass(frozen=True, order=True)
class Use:
    """One use.

    Attributes:
        owner: class that is used, or ``"module"``.
        name: attribute of it; for an enumeration, its member.
        arguments: number of positional arguments of a call; None for an attribute that is not called.
        keywords: names of keyword arguments.
        written: whether it is assigned to.
        file: file that uses it.
    """

    owner: str
    name: str
    arguments: int | None = None
    keywords: tuple[str, ...] = ()
    written: bool = False
    file: str = ""


@dataclass
class Uses:
    """What files use, and what could not be followed.

    Attributes:
        found: uses, without repetition.
        overridden: methods that a class of ours overrides, as (base class, method, number of arguments with self).
        lost: places where something of TensorRT is used whose class is not known.
    """

    found: set[Use] = field(default_factory=set)
    overridden: set[tuple[str, str, int]] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)


def read_stubs(path: Path) -> dict[tuple[str, str], str]:
    """Classes that methods and properties of the stubs give, by class and name; the first of overloads."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.returns is not None:
                found.setdefault((node.name, part.name), ast.unparse(part.returns))
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                found.setdefault((node.name, part.target.id), ast.unparse(part.annotation))
    return found


class Follower(ast.NodeVisitor):
    """Follows TensorRT's objects through one file."""

    def __init__(self, file: str, stubs: dict[tuple[str, str], str], classes: set[str], uses: Uses) -> None:
        self._file, self._stubs, self._classes, self._uses = file, stubs, classes, uses
        self._functions: dict[str, str] = {}  # our functions that give something of TensorRT
        self._of: dict[str, str] = {}  # variables and attributes of self
        self._done: set[int] = set()
        self._telling: set[str] = set()

    def follow(self, tree: ast.Module) -> None:
        ours = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        # Names that nothing else would have, where the file has none of its own that is called so.
        self._telling = {name for _, name in [*self._stubs, *RETURNS] if "_" in name.strip("_")} - ours
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (owner := self._annotated(node.returns)):
                self._functions[node.name] = owner
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self._of)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            self._of.pop(argument.arg, None)
            owner = self._annotated(argument.annotation) or (MODULE if argument.arg in ("api", "module") else None)
            if owner:
                self._of[argument.arg] = owner
        self.generic_visit(node)
        kept = {name: owner for name, owner in self._of.items() if name.startswith("self.")}
        self._of = before | kept

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            owner = self._type(base)
            if owner is None:
                continue
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    name = owner.removeprefix("class ")
                    self._uses.overridden.add((name, part.name, len(part.args.args)))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        owner = self._type(node.value)
        for target in node.targets:
            self._bind(target, owner)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        found = None if node.value is None else self._type(node.value)
        self._bind(node.target, self._annotated(node.annotation) or found)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._type(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._type(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._type(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._type(node)

    def _bind(self, target: ast.expr, owner: str | None) -> None:
        name = ast.unparse(target)
        if isinstance(target, ast.Attribute):
            holder = self._type(target.value)
            if holder is not None:
                self._note(target, Use(holder, target.attr, written=True))
                return
        if owner is None:
            self._of.pop(name, None)
        else:
            self._of[name] = owner

    def _type(self, node: ast.expr) -> str | None:
        """The class of an expression's value, ``"class X"`` for a class itself; None for what is not TensorRT's."""
        if isinstance(node, ast.Attribute):
            return self._attribute(node, None)
        if isinstance(node, ast.Name):
            return self._of.get(node.id)
        if isinstance(node, ast.Call):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                self.visit(argument)
            if isinstance(node.func, ast.Attribute):
                return self._attribute(node.func, node)
            if isinstance(node.func, ast.Name):
                if node.func.id in ("getattr", "hasattr") and isinstance(node.args[1], ast.Constant):
                    return None  # asked for by name because a version may lack it
                return self._functions.get(node.func.id)
            self.visit(node.func)
            return None
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            for part in node.generators:
                of = self._type(part.iter)
                self._bind(part.target, of.removeprefix(_LIST) if of and of.startswith(_LIST) else None)
            element = self._type(node.elt)
            return None if element is None else f"{_LIST}{element}"
        self.generic_visit(node)
        return None

    def _attribute(self, node: ast.Attribute, call: ast.Call | None) -> str | None:
        path = ast.unparse(node)
        if path in self._of and call is None:
            return self._of[path]
        if path.endswith(".module") and path.split(".")[-2] in ("library", "_library"):
            return MODULE
        if path.startswith("self.") and path.count(".") == 1 and node.attr in self._functions:
            return self._functions[node.attr]
        holder = self._type(node.value)
        if holder is None:
            if node.attr in self._telling:
                self._uses.lost.append(f"{self._file}:{node.lineno}: whose {node.attr} is that? Annotate it with trt.…")
            return None
        use = Use(holder.removeprefix("class "), node.attr)
        if call is not None:
            names = tuple(keyword.arg or "**" for keyword in call.keywords)
            starred = any(isinstance(argument, ast.Starred) for argument in call.args)
            unbound = node.attr == "__init__"  # called on the class, with self
            use = Use(use.owner, use.name, -1 if starred else len(call.args) - unbound, names)
        self._note(node, use)
        return self._result(use, called=call is not None)

    def _result(self, use: Use, *, called: bool) -> str | None:
        if use.owner == MODULE:
            return use.name if called else f"class {use.name}"
        if use.name.isupper() or use.name.startswith("__"):
            return None
        given = RETURNS.get((use.owner, use.name), self._stubs.get((use.owner, use.name)))
        if given is None and (use.owner, use.name) not in RETURNS and called:
            self._uses.lost.append(f"{self._file}: {use.owner}.{use.name} is not in the stubs; add it to RETURNS")
        return given if given in self._classes else None

    def _note(self, node: ast.expr, use: Use) -> None:
        if id(node) not in self._done:
            self._done.add(id(node))
            self._uses.found.add(Use(use.owner, use.name, use.arguments, use.keywords, use.written, self._file))

    def _annotated(self, annotation: ast.expr | None) -> str | None:
        """The class in ``trt.X`` or ``"trt.X"``."""
        if annotation is None:
            return None
        text = ast.unparse(annotation).strip("'\"")
        return text.removeprefix("trt.") if text.startswith("trt.") else None


def find_uses(files: Iterator[Path] | list[Path], stubs: Path) -> Uses:
    """What files use of TensorRT."""
    returns = read_stubs(stubs)
    classes = {owner for owner, _ in returns} | {name for name in RETURNS.values() if name}
    uses = Uses()
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        Follower(path.stem, returns, classes, uses).follow(tree)
    return uses
