"""Small wrong changes to a Python file, each an edit of its source text, for `mutation.py`.

cosmic-ray has no operators for arguments and statements, changes type annotations and the `*` of a signature, and needs
twenty packages; the standard library's `ast` gives the same edits with exact positions. Docstrings, annotations, import
statements, `__all__`, blocks for type checkers and decorators (`frozen=True`, the size of a cache) are left alone. So
are strings, and with them what stands inside f-strings, whose positions Python 3.11 does not know, and the arguments of
a raised exception, which are its message, and `strict=True` of `zip`, an assertion.
"""

import ast
import dataclasses
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

KINDS = ("comparison", "arithmetic", "boolean", "constant", "argument", "statement")

_COMPARISONS = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "is": ("is not",),
    "is not": ("is",),
    "in": ("not in",),
    "not in": ("in",),
}
_ARITHMETIC = {"+": "-", "-": "+", "*": "//", "/": "*", "//": "*", "%": "//", "**": "*", "<<": ">>", ">>": "<<"}
_ARITHMETIC |= {"|": "&", "&": "|", "^": "&", "@": "*"}
_OPERATOR = re.compile(rb"not\s+in\b|is\s+not\b|in\b|is\b|and\b|or\b|\*\*|//|<<|>>|[=!<>]=|[-+*/%@|&^<>]")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One edit: the bytes from `start` to `stop` of a file become `after`."""

    file: str
    line: int
    kind: str
    start: int
    stop: int
    before: str
    after: str

    def apply(self, source: bytes) -> bytes:
        """The file with the edit."""
        return source[: self.start] + self.after.encode() + source[self.stop :]


def find_mutants(file: str, source: bytes) -> list[Mutant]:
    """All edits of a file that leave it valid Python."""
    found = _Finder(file, source).find()
    return [mutant for mutant in dict.fromkeys(found) if mutant.before != mutant.after and _compiles(mutant, source)]


def draw(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """As many mutants of each kind as of the others, and of a kind as many from each room, as far as there are."""
    cells: dict[str, dict[str, list[Mutant]]] = {kind: defaultdict(list) for kind in KINDS}
    for mutant in mutants:
        cells[mutant.kind][mutant.file.split("/")[1]].append(mutant)
    generator = random.Random(seed)
    queues = {kind: _in_turns([generator.sample(room, len(room)) for room in cells[kind].values()]) for kind in KINDS}
    return _in_turns(list(queues.values()))[:count]


def _in_turns(queues: Sequence[Sequence[Mutant]]) -> list[Mutant]:
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _compiles(mutant: Mutant, source: bytes) -> bool:
    try:
        compile(mutant.apply(source), mutant.file, "exec")
    except SyntaxError:
        return False
    return True


class _Finder(ast.NodeVisitor):
    """Visits a module; `ast` counts columns in bytes of UTF-8, as do the edits."""

    def __init__(self, file: str, source: bytes) -> None:
        self._file, self._source = file, source
        lines = source.split(b"\n")
        self._line_starts = [0, 0]
        for line in lines:
            self._line_starts.append(self._line_starts[-1] + len(line) + 1)
        self._found: list[Mutant] = []
        self._rebound: list[Counter[str]] = []  # how often each function gives a value to a name

    def find(self) -> list[Mutant]:
        self.visit(ast.parse(self._source))
        return self._found

    def _span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._line_starts[node.lineno] + node.col_offset,
            self._line_starts[node.end_lineno] + node.end_col_offset,
        )

    def _text(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        start, stop = self._span(node)
        return self._source[start:stop].decode()

    def _add(self, kind: str, start: int, stop: int, after: str) -> None:
        line = self._source.count(b"\n", 0, start) + 1
        before = self._source[start:stop].decode()
        self._found.append(Mutant(self._file, line, kind, start, stop, before, after))

    def _operator_between(self, left: ast.expr, right: ast.expr) -> tuple[int, int, str] | None:
        """Where the operator between two operands stands; behind it only parentheses may follow."""
        begin, end = self._span(left)[1], self._span(right)[0]
        code = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), self._source[begin:end])
        match = _OPERATOR.search(code)
        return match and (begin + match.start(), begin + match.end(), " ".join(match[0].decode().split()))

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            if place := self._operator_between(left, right):
                start, stop, operator = place
                for other in _COMPARISONS[operator]:
                    self._add("comparison", start, stop, other)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if place := self._operator_between(node.left, node.right):
            start, stop, operator = place
            self._add("arithmetic", start, stop, _ARITHMETIC[operator])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start = self._span(node)[0]
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self._add("arithmetic", start, start + 1, "+")
        if isinstance(node.op, ast.Not):
            self._add("boolean", start, self._span(node.operand)[0], "")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            if place := self._operator_between(left, right):
                start, stop, operator = place
                self._add("boolean", start, stop, {"and": "or", "or": "and"}[operator])
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("boolean", *self._span(node), str(not node.value))
        elif isinstance(node.value, int):
            self._add("constant", *self._span(node), str(node.value + 1))
            self._add("constant", *self._span(node), f"({node.value - 1})")
        elif isinstance(node.value, float):
            self._add("constant", *self._span(node), f"({node.value} / 2)" if node.value else "1.0")

    def visit_Call(self, node: ast.Call) -> None:
        for first, second in zip(node.args, node.args[1:], strict=False):
            starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
            if not starred and self._text(node.func) not in ("min", "max"):
                between = self._source[self._span(first)[1] : self._span(second)[0]].decode()
                swapped = f"{self._text(second)}{between}{self._text(first)}"
                self._add("argument", self._span(first)[0], self._span(second)[1], swapped)
        arguments = sorted((*node.args, *node.keywords), key=self._span)
        for index, argument in enumerate(arguments):
            named = isinstance(argument, ast.keyword) and argument.arg != "strict"
            if named or (argument in node.args[1:] and argument is node.args[-1]):
                start, stop = self._span(argument)
                stop = self._span(arguments[index + 1])[0] if index + 1 < len(arguments) else stop
                self._add("argument", start, stop, "")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in self._text(node.test):
            return
        self._negated(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negated(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negated(test)
        self.generic_visit(node)

    def _negated(self, test: ast.expr) -> None:
        """A condition that is a comparison or a `not` changes by itself."""
        if not isinstance(test, ast.Compare | ast.UnaryOp):
            self._add("boolean", *self._span(test), f"(not ({self._text(test)}))")

    def visit(self, node: ast.AST) -> None:
        """Skips what is no behaviour; a simple statement of a function may be dropped."""
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Assert):
            return
        if isinstance(node, ast.stmt) and self._rebound and self._is_droppable(node):
            self._add("statement", *self._span(node), "pass")
        if isinstance(node, ast.Raise):
            return
        super().visit(node)

    def _is_droppable(self, node: ast.stmt) -> bool:
        """Not a docstring, nor what gives a name its only value: without that the name would just be missing."""
        if isinstance(node, ast.Expr):
            return not isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            plain = all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
            return not plain or all(self._rebound[-1][name] > 1 for name in names)
        return isinstance(node, ast.AugAssign | ast.Return | ast.Raise | ast.Break | ast.Continue | ast.Delete)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        stored = [name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
        self._rebound.append(Counter([*stored, *(argument.arg for argument in arguments)]))
        defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
        for child in (*defaults, *node.body):
            self.visit(child)
        self._rebound.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in node.body:
            self.visit(child)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and "TypeAlias" not in self._text(node.annotation):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if "__all__" not in map(self._text, node.targets):
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if place := self._operator_between(node.target, node.value):
            start, stop, operator = place
            self._add("arithmetic", start, stop, _ARITHMETIC[operator])
        self.generic_visit(node)
