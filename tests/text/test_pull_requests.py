"""Pull requests against the grammar, each expected string written out by hand."""

import copy

import numpy as np
import pytest

from sc2jax.text.config import FormatConfig
from sc2jax.text.pull_requests import pull_request
from sc2jax.text.special_tokens import Special

# With this key the random numbers say: the rules are not whole, 2 lines before and 1 after what changes; the notes are
# whole; 3 lines of context for the rules and 8 for the notes in the first head, 3 for the rules in the second.
SEED = 15233

BASE = (
    "<pr_base>"
    "<pr_file>rules.txt<pr_base_code>"  # rules 5 to 38 change in one head or another
    "rule 3\nrule 4\nrule 5\nrule 6\nrule 7\nrule 8\nrule 9\nrule 10\nrule 11\nrule 12\nrule 13\nrule 14\nrule 15\n"
    "rule 16\nrule 17\nrule 18\nrule 19\nrule 20\nrule 21\nrule 22\nrule 23\nrule 24\nrule 25\nrule 26\nrule 27\n"
    "rule 28\nrule 29\nrule 30\nrule 31\nrule 32\nrule 33\nrule 34\nrule 35\nrule 36\nrule 37\nrule 38\nrule 39"
    "<pr_file>notes.md<pr_base_code># Rules\n\nAll of them.\n"
)
FIRST_DIFF = (
    "<pr_diff>"
    "<pr_file>rules.txt"
    "<pr_diff_hunk>@@ -1,6 +1,6 @@\n rule 3\n rule 4\n-rule 5\n+rule five\n rule 6\n rule 7\n rule 8\n"
    "<pr_diff_hunk>@@ -33,6 +33,5 @@\n rule 35\n rule 36\n rule 37\n-rule 38\n rule 39\n rule 40\n"
    "<pr_file>notes.md"
    "<pr_diff_hunk>@@ -1,3 +1,4 @@\n # Rules\n \n All of them.\n+Read them.\n"
)
SECOND_DIFF = (
    "<pr_diff>"
    "<pr_file>rules.txt"
    "<pr_diff_hunk>@@ -1,6 +1,6 @@\n rule 3\n rule 4\n-rule 5\n+rule 5, amended\n rule 6\n rule 7\n rule 8\n"
)
OPENED = "<pr>Title: Amend the fifth rule\nusername_0: The fifth rule says nothing.<pr_status>opened"
# Rules 1 and 2 are not shown: a hunk at line 35 is at 33 of what is, one at line 2 begins before it.
FIRST_REVIEW_COMMENT = (
    "<pr_review_comment><pr_event_id>103<pr_in_reply_to_review_id>104<pr_file>rules.txt<pr_diff_hunk_comment_line>4"
    "<pr_diff_hunk>@@ -0,7 +0,7 @@\n rule 2\n rule 3\n rule 4\n-rule 5\n+rule five"
    "<pr_comment>username_1: Figures are shorter than words."
)
REPLY = (
    "<pr_review_comment><pr_event_id>105<pr_in_reply_to_review_id>106<pr_in_reply_to_comment_id>103<pr_file>rules.txt"
    "<pr_diff_hunk_comment_line>4<pr_diff_hunk>@@ -33,6 +33,5 @@ rule 34\n rule 35\n rule 36\n rule 37\n-rule 38"
    "<pr_comment>username_0: Then this one stays as well."
)
EDITED = "<pr>Title: Amend the fifth rule again\nusername_0: The fifth rule says nothing. Now it does.<pr_status>edited"
WITHOUT_HUNK = (
    "<pr_review_comment><pr_event_id>107<pr_file>elsewhere.txt<pr_diff_hunk_comment_line>1<pr_diff_hunk>"
    "<pr_comment>username_2: And who reads this file?"
)


def test_every_kind_of_event(records, rendered) -> None:
    assert rendered("pull_request", records("pull_request")[0], SEED) == (
        "<pr_comment>username_1: I see this coming before it is open.<pr_event_id>100"
        # A review before the opening is skipped.
        "<pr>username_0<pr_status>closed<repo_name>heron/rules<pr_is_merged>False"
        f"{OPENED}<repo_name>heron/rules{BASE}{FIRST_DIFF}"
        "<pr_comment>username_1: Let me look at it this evening.<pr_event_id>102"
        f"{FIRST_REVIEW_COMMENT}"
        "<pr_review>username_1: Please keep the figure.<pr_event_id>104<pr_review_state>changes_required"
        f"{SECOND_DIFF}{REPLY}"
        f"{EDITED}"
        "<pr_diff>[DIFFS OMITTED]<pr>username_0<pr_status>synchronize"
        f"{WITHOUT_HUNK}"
        "<pr_review>username_1<pr_event_id>108<pr_review_state>approved"
        "<pr_review>username_2: Nobody needs me.<pr_event_id>109<pr_review_state>rejected"
        "<pr>username_1<pr_status>closed<pr_is_merged>True"
        "<|endoftext|>"
    )


def test_the_reference_writes_the_status_of_comments_and_the_states_of_github(records, rendered) -> None:
    assert rendered("pull_request", records("pull_request")[0], SEED, variant="reference") == (
        "<pr_comment>username_1: I see this coming before it is open.<pr_event_id>100<pr_status>created"
        "<pr>username_0<pr_status>closed<repo_name>heron/rules<pr_is_merged>False"
        f"{OPENED}<repo_name>heron/rules{BASE}{FIRST_DIFF}"
        "<pr_comment>username_1: Let me look at it this evening.<pr_event_id>102<pr_status>created"
        f"{FIRST_REVIEW_COMMENT}"
        "<pr_review>username_1: Please keep the figure.<pr_event_id>104<pr_review_state>changes_requested"
        f"{SECOND_DIFF}{REPLY}"
        f"{EDITED}"
        "<pr_diff>[DIFFS OMITTED]<pr>username_0<pr_status>synchronize"
        f"{WITHOUT_HUNK}"
        "<pr_review>username_1<pr_event_id>108<pr_review_state>approved"
        "<pr_review>username_2: Nobody needs me.<pr_event_id>109<pr_review_state>dismissed"
        "<pr>username_1<pr_status>closed<pr_is_merged>True"
        "<|endoftext|>"
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_pull_request_may_be_opened_by_being_reopened(records, rendered, seed: int) -> None:
    written = rendered("pull_request", records("pull_request")[1], seed)
    opening = (
        "<pr>Title: Count in figures\nusername_0: Figures instead of words.<pr_status>reopened<repo_name>magpie/spoon"
    )
    assert written.startswith(f"{opening}<pr_base><pr_file>count.txt<pr_base_code>")
    rest = written.removeprefix(f"{opening}<pr_base><pr_file>count.txt<pr_base_code>")
    end = "<pr>username_0<pr_status>closed<pr_is_merged>False<|endoftext|>"
    whole = "<pr_diff><pr_file>count.txt<pr_diff_hunk>@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n" + end
    below = "<pr_diff><pr_file>count.txt<pr_diff_hunk>@@ -1,2 +1,2 @@\n-two\n+2\n three\n" + end
    # By chance, the base is the whole file or the changed line with up to 31 lines before and after.
    assert rest in {
        f"one\ntwo\nthree\n{whole}",
        f"one\ntwo\nthree{whole}",
        f"one\ntwo{whole}",
        f"two\nthree{below}",
        f"two{below}",
    }


def test_a_long_hunk_of_a_review_is_omitted(records, rendered) -> None:
    record = copy.deepcopy(records("pull_request")[0])
    comment = record["events"][5]
    comment["hunk"] = "@@ -5,9 +5,9 @@\n" + "x" * 9984
    assert "<pr_diff_hunk>@@ -3,9 +3,9 @@\nxxx" in rendered("pull_request", record, SEED)
    comment["hunk"] += "x"
    assert "<pr_diff_hunk_comment_line>4<pr_diff_hunk>[OMITTED]<pr_comment>" in rendered("pull_request", record, SEED)


def test_how_often_files_are_whole_and_how_many_lines_are_shown(records) -> None:
    record = copy.deepcopy(records("pull_request")[0])
    lines = [f"line {index}\n" for index in range(200)]
    record["base_files"] = [{"path": "long.txt", "content": "".join(lines)}]
    changed = "".join([*lines[:100], "new\n", *lines[101:]])
    record["heads"] = [{"commit": "h", "files": [{"path": "long.txt", "content": changed}]}]
    record["events"] = [event | {"head_commit": "h"} for event in record["events"] if event["action"] == "opened"]
    rng = np.random.Generator(np.random.Philox(key=1))
    whole, before, after, context = 0, [], [], []
    for _ in range(2000):
        pieces = pull_request(record, rng, FormatConfig())
        shown = str(pieces[pieces.index(Special.PR_BASE_CODE) + 1])
        count = shown.count("line ")
        if count == 200:
            whole += 1
        else:
            first = int(shown.split("\n")[0].removeprefix("line "))
            before.append(100 - first)
            after.append(count - 1 - before[-1])
            context.append(str(pieces[-1]).count("\n line"))
    assert abs(whole / 2000 - 0.2) < 0.03
    for lines_around in (before, after):
        assert set(lines_around) == set(range(32))
        assert abs(np.mean(lines_around) - 15.5) < 1
    # What lies before the shown lines is no context, so the lines before are fewer where few are shown.
    assert max(context) == 18
    assert min(context) >= 3


def test_unknown_kinds_of_events_are_refused(records) -> None:
    record = records("pull_request")[1]
    record["events"][0]["kind"] = "push"
    with pytest.raises(ValueError, match="'push'"):
        pull_request(record, np.random.Generator(np.random.Philox(key=0)), FormatConfig())
