"""The pages of scores: what stands on them, that links lead somewhere, and that texts of others are only text."""

import re
from html.parser import HTMLParser

import pytest
from judged_runs import facts, judge

from sc2jax.display import PAGE_POLICY
from sc2jax.evaluation.score_page import render_pages
from sc2jax.evaluation.scores import make_scores, natural, read_scores_json, scores_json

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}\x1b[31m\u202e"
ANSWERS = ["passed/passed", "passed/wrong", "wrong/wrong", "refused/refused"]
LINK = re.compile(r"(index|tasks-\d{3})\.html(#\w+)?")


class Page(HTMLParser):
    """Tags, ids, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def pages_of(verdicts, detail="", withheld="", **changes):
    samples, judged = judge(verdicts, detail)
    scores = make_scores(facts(**changes), samples, judged)
    return dict(render_pages(scores, samples, judged, withheld=withheld))


def one_each(tasks: int) -> dict[str, list[str]]:
    return {f"HumanEval/{number}": [ANSWERS[number % 4]] for number in range(tasks)}


def test_the_index_names_scores_neighbours_verdicts_and_facts():
    text = Page(pages_of(one_each(164), published_as={"base": "HumanEval", "plus": "HumanEval+"})["index.html"]).text
    for said in (
        "base pass@1 50.0 % 42.", "StarCoder2-15B 15B 46.3 % 37.8 %", "wrong 41 25.0 % 82 50.0 %",
        "refused by the sandbox 41 25.0 %", "base passed, plus wrong 41 tasks", "greedy (arXiv 2402.19173, table 9)",
        "sandbox.name namespaces", "sampling.temperature 0.2", "a" * 64, "b" * 64, "evaluate:humaneval_plus",
    ):  # fmt: skip
        assert said in text
    assert "was published" not in text and "The published" not in text


def test_a_figure_of_other_tasks_is_said_to_be_one():
    text = Page(pages_of(one_each(8), published_as={"plus": "MBPP+"})["index.html"]).text
    assert "The published MBPP+ is of 399 tasks, this run of 8." in text


def test_links_lead_to_what_is_there():
    pages = {name: Page(html) for name, html in pages_of(one_each(60)).items()}
    assert list(pages) == ["index.html", "tasks-001.html", "tasks-002.html", "tasks-003.html"]
    for name, page in pages.items():
        assert len(set(page.ids)) == len(page.ids)
        for link in page.links:
            assert LINK.fullmatch(link), link
            other, _, anchor = link.partition("#")
            assert not anchor or anchor in pages[other].ids, (name, link)
    assert len({link for link in pages["index.html"].links if "#t" in link}) == 60
    assert "HumanEval/25 base passed, plus wrong Prompt def HumanEval/25():" in pages["tasks-002.html"].text
    assert "HumanEval/24 passed" not in pages["tasks-002.html"].text


def test_pages_have_the_same_bytes_in_any_order():
    samples, judged = judge({task: of_task * 10 for task, of_task in one_each(30).items()})
    parts = {"contamination": {one["task_id"]: "abc"[len(one["task_id"]) % 3] for one in samples}}
    scores = make_scores(facts(published_as={"base": "HumanEval"}), samples, judged, ks=(1, 5, 10), parts=parts)
    index = Page(dict(render_pages(scores, samples, judged))["index.html"]).text
    assert re.findall(r"base pass@(\d+)", index)[:3] == ["1", "5", "10"]
    read = read_scores_json(scores_json(scores), "")
    assert dict(render_pages(scores, samples, judged)) == dict(render_pages(read, samples[::-1], judged[::-1]))


def test_hostile_text_is_only_text():
    samples, judged = judge({HOSTILE: ["passed/passed", "wrong/wrong"]}, HOSTILE)
    for one in samples:
        one["prompt"] = one["completion"] = HOSTILE
    changed = facts(model=HOSTILE, command=HOSTILE, tools={HOSTILE: HOSTILE}, sandbox={"a": {HOSTILE: HOSTILE}})
    scores = make_scores(changed, samples, judged, parts={HOSTILE: {HOSTILE: HOSTILE}})
    harmless = [Page(html) for html in pages_of(one_each(4)).values()]
    for html in dict(render_pages(scores, samples, judged, withheld="")).values():
        page = Page(html)
        assert "script" not in page.tags and "img" not in page.tags
        assert not {"onerror", "src"} & page.attributes
        assert not {"\x1b", "\u202e"} & set(html)
        assert html.partition("<head>")[2].splitlines()[1:3] == ['<meta charset="utf-8">', PAGE_POLICY]
        assert "{{ 7 * 7 }}" in page.text
    assert all(Page(html).tags <= set().union(*(page.tags for page in harmless)) | {"h3"} for html in
               dict(render_pages(scores, samples, judged)).values())  # fmt: skip


def test_withheld_texts_are_nowhere():
    samples, judged = judge({"a": ["wrong", "passed"]}, detail="SECRET-DETAIL")
    for one in samples:
        one["prompt"], one["completion"] = "SECRET-PROMPT", "SECRET-COMPLETION"
    scores = make_scores(facts(), samples, judged)
    shown = "".join(html for _, html in render_pages(scores, samples, judged))
    assert all(f"SECRET-{what}" in shown for what in ("DETAIL", "PROMPT", "COMPLETION"))
    for name, html in render_pages(scores, samples, judged, withheld="Its authors ask not to show its texts."):
        assert "SECRET" not in html, name
        assert "Its authors ask not to show its texts." in html


def test_many_samples_make_no_longer_pages():
    long = {"t1": ["wrong"] * 300 + ["passed"] * 50 + ["timeout"] * 50, "t2": ["passed"] * 400}
    samples, judged = judge(long, detail="x" * 50_000)
    for one in samples:
        one["completion"] = f"{one['sample'] % 200}" + "<" * 100_000
        one["prompt"] = "p" * 100_000
    scores = make_scores(facts(), samples, judged)
    page = dict(render_pages(scores, samples, judged))["tasks-001.html"]
    assert len(page) < 8 * 5 * 6000
    text = Page(page).text
    # The first two of each verdict, but one that passed; 0 and 200, 1 and 201 wrote the same.
    assert re.findall(r"Sample (\d+)", text) == ["0", "350", "1", "351", "300", "0"]
    assert text.count("and 1 other that wrote the same") == 3
    assert "393 more samples of this task are not shown." in text
    assert "350 of 400" not in text and "50 of 400" in text


def test_a_completion_of_nothing_is_said_to_be():
    samples, judged = judge({"a": ["wrong"]})
    samples[0]["completion"] = " \n"
    scores = make_scores(facts(sampling=None), samples, judged)
    pages = dict(render_pages(scores, samples, judged))
    assert "wrong nothing" in Page(pages["tasks-001.html"]).text
    assert "samples made elsewhere" in Page(pages["index.html"]).text


@pytest.mark.parametrize(
    "names",
    [["a/2", "a/10", "b"], ["x1y2", "x1y10", "x2", "1", "2", "10"], ["", "0", "00a"], ["9" * 5000, "1" + "0" * 5000]],
)
def test_tasks_stand_in_the_order_of_their_numbers(names):
    assert sorted(set(names), key=natural) == names
