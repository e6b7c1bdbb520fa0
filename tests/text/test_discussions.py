"""Issues and question threads against their formats, each expected string written out by hand."""

import numpy as np
import pytest

from sc2jax.text.discussions import issue


def test_an_issue_closed_before_its_last_comment(records, rendered) -> None:
    assert rendered("issue", records("issue")[0]) == (
        "<issue_start>Title: The lantern goes out in rain\nusername_0: It burns for an hour,\nthen it is dark."
        "<issue_comment>username_1: Is the glass closed? username_0 may have left it open."
        "<issue_comment>username_0: It was open. Thank you!"
        "<issue_closed>"
        "<issue_comment>username_2: It happens with closed glass too, écoute: 🌧."
        "<|endoftext|>"
    )


def test_an_issue_without_an_answer(records, rendered) -> None:
    assert rendered("issue", records("issue")[1]) == (
        "<issue_start>Title: Forks\nusername_0: Where are the <issue_comment> forks?<|endoftext|>"
    )


def test_an_issue_without_its_end_is_a_prompt(records) -> None:
    record = records("issue")[0]
    record["events"], rest = record["events"][:1], record["events"][1:]
    prompt = issue(record)
    assert issue(record | {"events": [*record["events"], *rest]})[: len(prompt)] == prompt


def test_unknown_events_of_an_issue_are_refused(records) -> None:
    record = records("issue")[0]
    record["events"][0]["kind"] = "labeled"
    with pytest.raises(ValueError, match="'labeled'"):
        issue(record)


def test_a_question_thread(records, rendered) -> None:
    answers = [
        "<issue_comment>username_1: With a lens, at noon.\nUpvotes: 3",
        "<issue_comment>username_2: Ask the lighthouse keeper.\nHe has matches.\nUpvotes: 12 [selected answer]",
        "<issue_comment>username_3: You do not.\nUpvotes: -1",
    ]
    (record,) = records("question_thread")
    orders = set()
    for seed in range(40):
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(3).tolist()
        orders.add(tuple(order))
        assert rendered("question_thread", record, seed) == (
            "<issue_start>username_0: How do I light a lantern without matches?"
            f"{answers[order[0]]}{answers[order[1]]}{answers[order[2]]}<|endoftext|>"
        )
    assert len(orders) == 6
