import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from judged_runs import compared

from sc2jax.display import PAGE_POLICY
from sc2jax.evaluation.report import render_report, shortened
from sc2jax.pages import filtered

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}</pre>\x1b[31m\u202e\u200b"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; refuses tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_the_figures_are_on_the_page(run: dict[str, Any]) -> None:
    text = words(Page(render_report(**run)))
    for figure in (
        "9,991 of 14,982 found", "43.8 MB in 15 languages", "3,245,312 parameters", "1,873 excluded extension",
        "2.012 40.3 % below the unigram code", "13.3 % 17 of 128 held-out lines", "reStructuredText",
        "700 steps, 5,734,400 tokens", "8.5 % to 20.3 %", "training.learning_rate 0.002", "4 others",
    ):  # fmt: skip
        assert figure in text


def test_scores_of_benchmarks_are_on_the_page_where_there_are_any(run: dict[str, Any]) -> None:
    assert "Benchmarks" not in words(Page(render_report(**run)))
    scores = compared("tiny", {"a": ["passed/wrong"] * 2, "b": ["passed/passed"] * 2}).scores
    text = words(Page(render_report(**run, benchmarks={"humaneval_plus": scores})))
    assert "humaneval_plus tiny base pass@1 2 100.0 %" in text
    assert "humaneval_plus tiny plus pass@1 2 50.0 % 0.0 % to 100.0 %" in text


def test_bytes_depend_on_nothing_else(run: dict[str, Any]) -> None:
    reordered = copy.deepcopy(run)
    for key in ("languages", "licenses", "split"):
        reordered["corpus"][key] = dict(reversed(reordered["corpus"][key].items()))
    settings = reordered["provenance"]["settings"]
    settings["train"] = dict(reversed(settings["train"].items()))
    assert render_report(**run) == render_report(**reordered)


def test_the_page_stands_alone(run: dict[str, Any]) -> None:
    html = render_report(**run)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "data", "action", "xlink:href"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:|//", html.replace("# http", ""))
    head = html.partition("<head>")[2].splitlines()
    assert head[1:3] == ['<meta charset="utf-8">', PAGE_POLICY]
    assert html.count("Content-Security-Policy") == 1
    assert len(html.encode()) < 200_000


def poisoned(value: Any) -> Any:
    """The same structure with hostile text in place of every string but those of a fixed set, and in keys."""
    if isinstance(value, dict):
        return {key: value[key] if key in ("kind", "finish") else poisoned(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [poisoned(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_text_is_only_text(run: dict[str, Any]) -> None:
    harmless = Page(render_report(**run))
    bad = poisoned(run)
    bad["corpus"]["funnel"][1]["dropped"] = {HOSTILE: 214, "b" + HOSTILE: 12}
    bad["corpus"]["languages"] = {
        HOSTILE + str(i): share for i, share in enumerate(run["corpus"]["languages"].values())
    }
    bad["corpus"]["licenses"] = {HOSTILE + str(i): count for i, count in enumerate(run["corpus"]["licenses"].values())}
    rates = bad["bits_per_byte"]
    rates["by_language"] = {HOSTILE + str(i): rate for i, rate in enumerate(rates["by_language"].values())}
    bad["provenance"]["manifests"] |= {HOSTILE + str(i): HOSTILE for i in range(3)}
    bad["caveats"] = {"bits_per_byte": HOSTILE, "infilling": HOSTILE}
    bad["provenance"]["settings"] = {HOSTILE: {HOSTILE + str(i): HOSTILE for i in range(8)}}
    html = render_report(**bad)
    page = Page(html)
    assert not set("\x1b\u202e\u200b") & set(html)
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == []
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert (
        page.text.count("<img src=x onerror=alert(1)>") > 30
        and "{{ 7 * 7 }}" in page.text
        and "49</pre>" not in page.text
    )
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags}


def test_what_cannot_be_seen_is_written_out() -> None:
    assert filtered("a\x00b\x1b[0m\r\nc\td\u202ee\ud800") == "a␀b␛[0m\nc\td&lt;U+202E&gt;e\ufffd"
    assert filtered("naïve 😀 \u2581") == "naïve 😀 \u2581"
    assert filtered(3) == 3


def test_isolates_are_written_out_on_the_page(run: dict[str, Any]) -> None:
    run["samples"][0]["completion"] = "if admin\u2067 # \u2066:\u2069"
    html = render_report(**run)
    assert not re.search("[\u2065-\u2069]", html)
    assert "&lt;U+2067&gt;" in html


def test_any_text_can_be_written_as_utf8(run: dict[str, Any]) -> None:
    run["samples"][0]["completion"] = "\ud800\x00"
    assert "␀" in render_report(**run).encode().decode()


def test_a_long_text_keeps_its_start_or_its_end() -> None:
    assert shortened("abcdef", 3) == "abc …"
    assert shortened("abcdef", -3) == "… def"
    assert shortened("abc", 3) == shortened("abc", -3) == "abc"


def test_long_texts_keep_the_page_small(run: dict[str, Any]) -> None:
    long = "x" * 300_000
    run["samples"] = [sample | {"completion": long, "prompt": long, "prefix": long} for sample in run["samples"]]
    for item in run["infilling"]["items"]:
        item["before"] = item["completion"] = long
    run["metrics"] *= 30
    assert len(render_report(**run).encode()) < 300_000


def test_what_was_not_measured_is_said(run: dict[str, Any]) -> None:
    run["bits_per_byte"] = {"measured": False, "reason": "no repository with text is held out"}
    run["infilling"] = {"measured": False, "reason": "no held-out file has a line to ask for"}
    text = words(Page(render_report(**run)))
    assert text.count("no repository with text is held out") == 2
    assert text.count("not measured") == 2 and text.count("Not measured: ") == 2
    assert "unigram" not in text


def test_a_higher_rate_than_the_unigram_codes_is_said(run: dict[str, Any]) -> None:
    assert "40.3 % fewer bits than the unigram code" in words(Page(render_report(**run)))
    assert verdict(run) == "verdict "
    run["bits_per_byte"]["ratio_to_unigram"] = 1.25
    assert "25.0 % more bits than the unigram code" in words(Page(render_report(**run)))
    assert verdict(run) == "verdict missed"


def verdict(run: dict[str, Any]) -> str | None:
    classes = [attributes.get("class") for tag, attributes in Page(render_report(**run)).tags if tag == "p"]
    return next(name for name in classes if name and name.startswith("verdict"))


def test_the_first_right_and_wrong_lines_are_shown(run: dict[str, Any]) -> None:
    right, wrong = run["infilling"]["items"][:2]
    run["infilling"]["items"] = [item | {"line": line} for line in range(1, 9) for item in (right, wrong)]
    text = words(Page(render_report(**run)))
    for item in (right, wrong):
        shown = re.findall(re.escape(f"{item['repository']}/{item['path']}:") + r"(\d+)", text)
        assert shown == ["1", "2", "3", "4"]


def test_no_aim_of_ours_stands_on_the_page(run: dict[str, Any]) -> None:
    text = words(Page(render_report(**run))).lower()
    assert not re.search(r"\b(goals?|aims?|targets?)\b", text)


def test_it_is_said_whose_figures_they_are(run: dict[str, Any]) -> None:
    text = words(Page(render_report(**run)))
    assert "the model it trained on it, and what that model knows of code it has not seen" in text
    assert "corpus 19c419c419c4 tokenizer 29c429c429c4 checkpoint of step 700" in text
    assert "another" not in text.partition("Held-out code")[0] and "elsewhere" not in text
    assert "Of held-out files. Given text" in text


def test_another_corpus_is_said_wherever_its_figures_stand(run: dict[str, Any]) -> None:
    run["provenance"]["trained_on"] = "7ab3" * 16
    run["caveats"] = dict.fromkeys(("bits_per_byte", "infilling", "line_count"), "measured on another one; 7 left out")
    text = words(Page(render_report(**run, others=[("line_count", "12 lines")])))
    head, corpus, training, scores = re.split(" (?:Corpus|Training|Held-out code) (?=S|This|3,245|Bits)", text)
    assert "of another corpus than it was trained on" in head and "it has not seen" not in text
    assert "corpus measured on 19c419c419c4 corpus trained on 7ab37ab37ab3" in head
    assert head.count("another corpus") == 3  # the two figures of scores, too
    assert "the corpus 19c419c419c4 that the scores below are on" in corpus and "another one, 7ab37ab37ab3 ." in corpus
    assert "5,734,400 tokens of the corpus 7ab37ab37ab3 ." in training
    assert scores.count("Measured on another one; 7 left out.") == 3


def test_of_an_imported_model_nothing_is_claimed(run: dict[str, Any]) -> None:
    run["provenance"] |= {"trained_on": "", "imported": True, "step": 0}
    run["metrics"] = []
    text = words(Page(render_report(**run)))
    assert "a model from elsewhere" in text and "is not known here" in text and "it has not seen" not in text
    assert "checkpoint of step 0" in text


def test_what_the_sources_hold_besides_is_listed(run: dict[str, Any]) -> None:
    page = render_report(**run)
    assert "2 bare git repositories, which have no files to read (a; b; name a clone with a working tree) 31 links" in (
        words(Page(page))
    )
    assert page.count("()") == page.replace("31 links ", "").count("()")
    run["left_out"] = []
    assert "Left out of the sources" not in render_report(**run)


def test_what_became_of_the_repositories_is_said(run: dict[str, Any]) -> None:
    said = (
        "12 repositories were found, and files are kept of 9. Of the others nothing is: 1 no commit, 2 non permissive"
    )
    assert said in words(Page(render_report(**run)))
    run["corpus"]["repositories"] = {"found": 1, "kept": 1, "without": {}}
    text = words(Page(render_report(**run)))
    assert "1 repository was found, and files are kept of 1. The corpus' repositories/ has" in text


def test_samples_of_what_was_trained_on_are_said_to_be(run: dict[str, Any]) -> None:
    run["samples_are_unseen"] = False
    text = words(Page(render_report(**run)))
    assert "No file is held out: these are of files that were trained on. Given text" in text


def test_a_measure_without_a_picture_is_a_sentence(run: dict[str, Any]) -> None:
    page = render_report(**run, others=[("line_count", "12 lines <counted>")])
    assert "<h3>line count</h3>\n<p>12 lines &lt;counted&gt;</p>" in page


def test_an_empty_run_still_has_a_page(run: dict[str, Any]) -> None:
    run["corpus"] = {"funnel": [], "languages": {}, "licenses": {}, "split": {}}
    run["metrics"], run["parameters"] = [], 0
    run["samples"] = []
    run["provenance"]["settings"] = {}
    text = words(Page(render_report(**run)))
    assert "Files kept unknown" in text and "No samples were written" in text and "nothing was recorded" in text


@pytest.mark.parametrize("rows", [1, 2, 13])
def test_short_runs(run: dict[str, Any], rows: int) -> None:
    run["metrics"] = run["metrics"][:rows]
    page = Page(render_report(**run))
    assert "polyline" in {tag for tag, _ in page.tags} and "last record" in words(page)


def test_a_diverged_run_has_no_final_loss(run: dict[str, Any]) -> None:
    run["metrics"][-1]["loss"] = float("nan")
    assert "no finite loss at the end" in words(Page(render_report(**run)))


def test_what_became_of_large_repositories_is_said_where_there_are_some(run: dict[str, Any]) -> None:
    assert "2 large repositories became 1,007 documents." in words(Page(render_report(**run)))
    run["corpus"]["cut"] = {"repositories": 1, "documents": 3}
    assert "1 large repository became 3 documents." in words(Page(render_report(**run)))
    run["corpus"]["cut"] = {"repositories": 0, "documents": 0}
    assert "became" not in words(Page(render_report(**run)))
