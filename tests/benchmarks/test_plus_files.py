"""HumanEval+ and MBPP+: what JSON lost of the arguments comes back as evalplus 0.3.1 restores it."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import real_folder, write_lines

from sc2jax.benchmarks import evalplus
from sc2jax.errors import UserError

MBPP = evalplus.MBPP_PLUS["0.2.0"]
HUMANEVAL = evalplus.HUMANEVAL_PLUS["0.1.10"]


def record(task_id: str, base: Any, plus: Any = (), **fields: Any) -> dict[str, Any]:
    texts = {"prompt": "p", "entry_point": "f", "canonical_solution": "s", "contract": "c", "assertion": "a"}
    return {"task_id": task_id, **texts, "base_input": base, "plus_input": plus, "atol": 0, **fields}


RESTORED = [
    # (number, arguments of a call as JSON has them, as the function gets them), by hand from each task's tests.
    (2, [[3, 4], [5, 7]], "((3, 4), (5, 7))"),
    (809, [[1, 2, 3], [2, 3, 4]], "((1, 2, 3), (2, 3, 4))"),
    (116, [[1, 2, 3]], "((1, 2, 3),)"),
    (132, ["ab"], "(('a', 'b'),)"),
    (63, [[[3, 5], [1, 7]]], "([(3, 5), (1, 7)],)"),
    (473, [[[3, 4]], [[5, 4], [1, 2]]], "([(3, 4)], [(5, 4), (1, 2)])"),
    (259, [[[1, 3], [4, 5]], [[6, 7], [3, 9]]], "(((1, 3), (4, 5)), ((6, 7), (3, 9)))"),
    (278, [[1, 5, [4, 6], "x"]], "((1, 5, (4, 6), 'x'),)"),
    (75, [[[6, 24], [7]], 6], "([(6, 24), (7,)], 6)"),
    (413, [[["Greyson", 98, 99]], 0], "([('Greyson', 98, 99)], 0)"),
    (106, [[5, 6], [9, 10]], "([5, 6], (9, 10))"),
    (750, [[], [9]], "([], (9,))"),
    (250, [[10, 8, 5], 4], "((10, 8, 5), 4)"),
    (307, [["HELLO", 5, [], True], 2, 50], "(('HELLO', 5, [], True), 2, 50)"),
    (115, [[[1], [], {}]], "([{1}, {}, {}],)"),
    (124, ["0", "1j"], "(0.0, 1j)"),
    (252, ["(3+4j)"], "((3+4j),)"),
    (722, [{"A": [6.2, 70]}, 6.0, 7], "({'A': (6.2, 70)}, 6.0, 7)"),
    (580, [[4, 5, [7, 6, [2]], {"k": [1]}]], "((4, 5, (7, 6, (2,)), {'k': [1]}),)"),
    (791, [[[1], "ab"]], "(((1,), 'ab'),)"),
    (3, [[1, [2]], "ab"], "([1, [2]], 'ab')"),
]


@pytest.mark.parametrize(("number", "arguments", "expected"), RESTORED, ids=[number for number, _, _ in RESTORED])
def test_arguments_are_restored(tmp_path, number, arguments, expected):
    write_lines(tmp_path, MBPP, [record(f"Mbpp/{number}", [arguments], [arguments, arguments])])
    (task,) = evalplus.read_mbpp_plus(str(tmp_path), "0.2.0").tasks
    assert repr(task.base_inputs) == f"({expected},)"
    assert repr(task.plus_inputs) == f"({expected}, {expected})"


def test_humaneval_plus_is_used_as_it_stands(tmp_path):
    write_lines(tmp_path, HUMANEVAL, [record("HumanEval/2", [[[1], {}]], [[2.5]], atol=1e-6)])
    (task,) = evalplus.read_humaneval_plus(str(tmp_path), "0.1.10").tasks
    assert task == evalplus.PlusTask("HumanEval/2", "p", "f", "s", (([1], {}),), ((2.5,),), 1e-6, "")


def test_a_task_of_mbpp_plus_and_numbers_of_any_size(tmp_path):
    line = json.dumps(record("Mbpp/404", [[10**400, 3]], [])).replace("3]]", "Infinity, -0.0, 1e-400]]")
    path = write_lines(tmp_path, MBPP, [])
    path.write_bytes(gzip.compress(line.encode()))
    (task,) = evalplus.read_mbpp_plus(str(tmp_path), "0.2.0").tasks
    assert repr(task.base_inputs) == f"(({10**400}, inf, -0.0, 0.0),)"
    assert (task.plus_inputs, task.assertion, task.atol) == ((), "a", 0)
    assert task.texts() == ("p", "s")


def test_no_inputs_may_be_an_empty_object_and_no_other(tmp_path):
    write_lines(tmp_path, MBPP, [record("Mbpp/793", [[1]], {})])
    assert evalplus.read_mbpp_plus(str(tmp_path), "0.2.0").tasks[0].plus_inputs == ()
    write_lines(tmp_path, MBPP, [record("Mbpp/793", [[1]], {"a": 1})])
    with pytest.raises(UserError, match=r"record 0 of .* is damaged: .*plus_input"):
        evalplus.read_mbpp_plus(str(tmp_path), "0.2.0")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (record("Mbpp/2", [[3, 4]]), r"damaged: record 0 has another shape .*'int' object is not iterable"),
        (record("Mbpp/124", [["1"]]), r"record 0 has another shape .*index out of range"),
        (record("Mbpp/252", [["one"]]), r"record 0 has another shape .*complex"),
        (record("Mbpp/115", [[[[[1]]]]]), r"record 0 has another shape .*unhashable"),
        (record("Mbpp/722", [[[1]]]), r"record 0 has another shape .*items"),
        (record("Mbpp/124", [[10**400, "1"]]), r"record 0 has another shape .*too large"),
        (record("Mbpp/3", [3]), r"Expected `array`, got `int`.*base_input"),
        (record("Mbpp/3", [[3]], atol=-1), r"Expected `float` >= 0.*atol"),
        (record("Mbpp/3", [[3]], atol="1"), r"Expected `float`, got `str`.*atol"),
        ({**record("Mbpp/3", [[3]]), "assertion": 1}, r"Expected `str`, got `int`.*assertion"),
    ],
    ids=range(10),
)
def test_another_shape_is_named(tmp_path, wrong, said):
    write_lines(tmp_path, MBPP, [wrong])
    with pytest.raises(UserError, match=rf"{said}.*; get it from https://github\.com/evalplus/mbppplus_release/"):
        evalplus.read_mbpp_plus(str(tmp_path), "0.2.0")


def described(value: Any) -> str:
    """A value with all its types, the same for any seed of hashing."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(map(described, value))}]"
    if isinstance(value, set):
        return f"set[{','.join(sorted(map(described, value)))}]"
    if isinstance(value, dict):
        return f"dict[{','.join(f'{described(key)}:{described(part)}' for key, part in value.items())}]"
    return f"{type(value).__name__}({value!r})"


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        ("0.1.0", "18f0d174dee1f703387a42eca26201078fb63274a0c0998f70c976582c7b7c39"),
        ("0.2.0", "1e0447cd0da0885161d0e33b16d7070253024bea640fc03bd127207c2120607c"),
    ],
)
def test_all_arguments_are_those_that_evalplus_makes(version, digest):
    """The digests were taken once of what evalplus 0.3.1 itself made of the files."""
    tasks = evalplus.read_mbpp_plus(real_folder(), version).tasks
    lines = [
        f"{task.task_id} {described([list(given) for given in inputs])}\n"
        for task in tasks
        for inputs in (task.base_inputs, task.plus_inputs)
    ]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_same_beside_evalplus_itself(version):
    peer = pytest.importorskip("evalplus.data.mbpp", reason="evalplus is not installed")
    folder = real_folder()
    lines = gzip.decompress(Path(folder, evalplus.MBPP_PLUS[version].path).read_bytes()).splitlines()
    raw = {task["task_id"]: task for task in map(json.loads, lines)}
    for task in evalplus.read_mbpp_plus(folder, version).tasks:
        for inputs, key in ((task.base_inputs, "base_input"), (task.plus_inputs, "plus_input")):
            expected = peer.mbpp_deserialize_inputs(task.task_id, raw[task.task_id][key])
            assert described([list(given) for given in inputs]) == described([list(given) for given in expected])


def test_versions_differ_where_they_should():
    folder = real_folder()
    of_paper, of_today = (
        {task.task_id: task for task in evalplus.read_humaneval_plus(folder, version).tasks}
        for version in evalplus.HUMANEVAL_PLUS
    )
    assert [name for name in of_paper if of_paper[name] != of_today[name]] == ["HumanEval/1", "HumanEval/28"]
    of_paper, of_today = (
        {task.task_id for task in evalplus.read_mbpp_plus(folder, version).tasks} for version in evalplus.MBPP_PLUS
    )
    assert of_today < of_paper
    assert len(of_paper - of_today) == 21
