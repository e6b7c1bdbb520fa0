"""The settings on the report's page are those that the results beside them were made with."""

import html
import re
import shutil


def listed(page: str) -> dict[tuple[str, str], str]:
    """The value of each setting on the page, by its stage and key."""
    found = {}
    for group in re.findall(r"<tbody>\n<tr><th scope=\"rowgroup\".*?</tbody>", page, re.DOTALL):
        stage = re.findall(r"rowgroup\" colspan=\"2\">(.*?)</th>", group)[0]
        for key, value in re.findall(
            r"<th scope=\"row\" class=\"hash\">(.*?)</th><td class=\"hash\">(.*?)</td>", group
        ):
            found[stage, key] = html.unescape(value)
    return found


def test_each_stage_has_its_own(measured, call, tmp_path):
    """`evaluate`, `complete` and `report` are called with settings of their own, which `train` was not."""
    run = tmp_path / "run"
    shutil.copytree(measured, run)

    def report(**wanted: object) -> dict[tuple[str, str], str]:
        for verb in ("evaluate", "complete"):
            assert call(verb, run, **wanted)[0] == 0
        assert call("report", run)[0] == 0
        return listed((run / "report/index.html").read_text())

    wanted = {"evaluation.infill_samples": 3, "completion.max_new_tokens": 2, "completion.temperature": 0.3}
    page = report(**wanted)
    assert page["complete", "completion.max_new_tokens"] == "2"
    assert page["complete", "completion.temperature"] == "0.3"
    assert page["evaluate/infilling", "evaluation.infill_samples"] == "3"
    assert page["evaluate/bits per byte", "evaluation.max_bytes"] == "600"
    assert page["train", "model.window"] == "16" and page["train", "training.horizon_tokens"] == "1280"
    assert page["corpus", "corpus.heldout_fraction"] == "0.3" and page["tokenizer", "tokenizer.vocab_size"] == "340"
    assert not [key for stage, key in page if key.startswith(("evaluation.", "completion.")) and stage == "train"]

    # With a file that is shorter than this the samples are the same, and the page is made anew all the same.
    samples = (run / "complete/samples.json").read_bytes()
    page = report(**wanted, **{"completion.context_characters": 99_999})
    assert (run / "complete/samples.json").read_bytes() == samples
    assert page["complete", "completion.context_characters"] == "99999"
