"""Scores against figures worked by hand, byte for byte, and refusals."""

import json
import random
import subprocess
import sys
from typing import Any

import pytest
from judged_runs import facts, judge

from sc2jax.errors import UserError
from sc2jax.evaluation.published import beside
from sc2jax.evaluation.scores import judged_digest, make_scores, read_scores_json, scores_json, summary

VERDICTS = {
    "t1": ["passed/passed", "passed/wrong"],
    "t2": ["wrong/wrong", "timeout/timeout"],
    "t3": ["passed/passed", "passed/passed"],
    "t4": ["passed/crashed", "wrong/wrong"],
}


def values(metrics: Any) -> dict[str, dict[str, float]]:
    return {group: {name: one["value"] for name, one in named.items()} for group, named in metrics.items()}


def test_each_group_has_pass_at_k_and_its_verdicts():
    scores = make_scores(facts(), *judge(VERDICTS), ks=(1, 2, 10))
    assert values(scores["metrics"]) == {
        "base": {"pass@1": 2.5 / 4, "pass@2": 3 / 4},
        "plus": {"pass@1": 1.5 / 4, "pass@2": 2 / 4},
    }
    assert (scores["tasks"], scores["samples"]) == (4, 8)
    none = {"memory": 0, "refused": 0, "infrastructure": 0}
    assert scores["verdicts"] == {
        "base": none | {"passed": 5, "wrong": 2, "timeout": 1, "crashed": 0},
        "plus": none | {"passed": 3, "wrong": 3, "timeout": 1, "crashed": 1},
    }
    assert summary(scores).startswith("humaneval_plus: base pass@1 62.5% (")
    assert "in_corpus" not in scores


def test_parts_and_what_was_found_in_the_corpus():
    scores = make_scores(
        facts(),
        *judge({"a": ["passed"], "b": ["wrong"], "c": ["passed"]}),
        parts={"contamination": {"a": "clean", "b": "clean", "c": "contaminated", "not judged": "other"}},
        in_corpus={("a", 0), ("b", 1)},
    )
    parts = scores["parts"]["contamination"]
    assert {name: values(part)["all"]["pass@1"] for name, part in parts.items()} == {"clean": 0.5, "contaminated": 1.0}
    assert parts["clean"]["all"]["pass@1"]["tasks"] == 2
    assert scores.get("in_corpus") == {"completions": 3, "found": 1, "share": 1 / 3}


def test_a_measure_of_exact_match():
    samples, judged = judge({"a": ["passed", "wrong"], "b": ["wrong", "wrong"]})
    for one, text in zip(samples, ("abcd", "abxy", "  abcd ", ""), strict=True):
        one["completion"] = text
    scores = make_scores(facts(), samples, judged, references={"a": "abcd", "b": "abcd"})
    assert values(scores["metrics"]) == {"all": {"exact_match": 0.25, "edit_similarity": (0.75 + 0.5) / 2}}


def test_the_same_bytes_in_any_order_and_in_another_process(tmp_path):
    samples, judged = judge(VERDICTS)
    contamination = {"contamination": {task: "clean" if task < "t3" else "contaminated" for task in VERDICTS}}
    scores = make_scores(facts(), samples, judged, parts=contamination)
    content = scores_json(scores)
    random.Random(1).shuffle(samples)
    random.Random(2).shuffle(judged)
    assert scores_json(make_scores(facts(), samples, judged, parts=contamination)) == content
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps([facts(), samples, judged, contamination]))
    program = (
        "import json, sys; from sc2jax.evaluation.scores import make_scores, scores_json\n"
        "facts, samples, judged, parts = json.load(open(sys.argv[1]))\n"
        "sys.stdout.buffer.write(scores_json(make_scores(facts, samples, judged, parts=parts)))\n"
        "assert not {'jax', 'tensorflow', 'seqio'} & sys.modules.keys()"
    )
    again = subprocess.run([sys.executable, "-c", program, str(stored)], capture_output=True, check=True)
    assert again.stdout == content
    assert read_scores_json(content, "scores.json") == scores


def test_the_digest_of_the_verdicts_is_that_of_each_group():
    one, other = (judge({"a": [words]})[1] for words in ("passed/wrong", "wrong/wrong"))
    assert one[0]["verdict"] == other[0]["verdict"]
    assert judged_digest(one) != judged_digest(other)


def test_scores_that_are_none_are_refused():
    content = scores_json(make_scores(facts(), *judge(VERDICTS)))
    for broken in (content[:-9], b"[]", content.replace(b'"samples": 8', b'"samples": -8')):
        with pytest.raises(UserError, match=r"run/scores\.json is damaged"):
            read_scores_json(broken, "run/scores.json")


def test_samples_without_their_verdicts_are_refused():
    samples, judged = judge(VERDICTS)
    for those, verdicts in (
        (samples[1:], judged),
        (samples, judged[:-1]),
        ([*samples, samples[0]], judged),
        ([*samples, samples[0]], [*judged, judged[0]]),
    ):
        with pytest.raises(UserError, match=r"do not belong together: sample \d of t\d stands"):
            make_scores(facts(), those, verdicts)
    with pytest.raises(UserError, match="no sample to score"):
        make_scores(facts(), [], [])


@pytest.mark.parametrize("verdict", ["infrastructure", "passed/infrastructure", "infrastructure/wrong"])
def test_what_could_not_be_judged_is_no_score(verdict):
    other = "passed/passed" if "/" in verdict else "passed"
    with pytest.raises(UserError, match=r"1 samples could not be judged, such as sample 0 of b \(the disk is full\)"):
        make_scores(facts(), *judge({"a": [other], "b": [verdict]}, "the disk is full"))


def test_other_groups_than_the_others_are_a_defect():
    with pytest.raises(ValueError, match="different groups"):
        make_scores(facts(), *judge({"a": ["passed/passed"], "b": ["passed"]}))
    with pytest.raises(ValueError, match="groups of tests base, plus alone"):
        make_scores(facts(published_as={"all": "HumanEval"}), *judge(VERDICTS))


def test_published_figures_stand_beside_their_groups():
    rows = {row.model: row for row in beside({"base": "HumanEval", "plus": "HumanEval+"})}
    shares = {group: one.share for group, one in rows["StarCoder2-15B"].figures.items()}
    assert shares == pytest.approx({"base": 0.463, "plus": 0.378})
    assert len(rows) == 13
    assert rows["StarCoder2-15B"].size == "15B"
    assert not beside({})
    with pytest.raises(ValueError, match="nothing is published as HumanEvil"):
        beside({"all": "HumanEvil"})


def test_published_greedy_figures_are_whole_numbers_of_their_tasks():
    """What one sample a task can give; the one that is none stands as it was printed."""
    names = ("HumanEval", "HumanEval+", "MBPP", "MBPP+", "GSM8K (PAL)")
    odd = [
        (one.name, one.model)
        for row in beside({name: name for name in names})
        for one in row.figures.values()
        if abs(round(one.share * one.tasks) / one.tasks - one.share) > 0.00050001
    ]
    assert odd == [("HumanEval+", "CodeLlama-34B")]
