"""Runs opened in a notebook: what is read is what stands in the files, and what is drawn is that."""

import json
import shutil
from pathlib import Path

import pytest

import sc2jax
from sc2jax.errors import UserError
from sc2jax.notebook import run as run_module
from sc2jax.notebook.run import Run


def edited(folder: Path, name: str, change) -> None:
    """Writes a JSON file of the run anew, as `change` makes it."""
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def own(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the run's small files, to be changed."""
    kept = shutil.ignore_patterns("checkpoints", "*.parquet", "tokens", "tensorboard")
    return Path(shutil.copytree(whole_run, tmp_path / "own", ignore=kept))


def test_the_loss_is_that_of_the_log(whole_run: Path) -> None:
    run = Run(whole_run)
    lines = (whole_run / "train/metrics.jsonl").read_text().splitlines()
    assert [row["step"] for row in run.log()] == [1, 2, 3, 4]
    curve = run.loss_curve()
    assert list(curve.y) == [json.loads(line)["loss"] for line in lines]
    assert list(curve.x) == [json.loads(line)["tokens"] for line in lines]
    (line,) = run.plot_loss().axes[0].get_lines()
    assert list(line.get_xdata()) == list(curve.x)  # type: ignore[arg-type]


def test_scores_are_those_of_the_measures(whole_run: Path) -> None:
    run = Run(whole_run)
    total = json.loads((whole_run / "evaluate/bits_per_byte/scores.json").read_text())["total"]
    assert run.bits_per_byte() == total["model"]
    bars = {
        label.get_text(): bar.get_width()  # type: ignore[attr-defined]
        for label, bar in zip(
            run.plot_scores().axes[0].get_yticklabels(), run.plot_scores().axes[0].patches, strict=True
        )
    }
    assert bars == {"model": total["model"], "gzip": total["gzip"], "unigram tokens": total["unigram"]}
    assert run.scores("infilling")["model"]["samples"] == 2


def names_and_widths(figure) -> dict[str, float]:
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))


def test_the_corpus_is_drawn_by_language_and_by_stage(whole_run: Path) -> None:
    run = Run(whole_run)
    assert run.corpus()["funnel"][0]["files_in"] == 17
    languages = names_and_widths(run.plot_languages())
    assert list(languages) == ["Python", "C"], "the most bytes first"
    assert languages["C"] == run.corpus()["languages"]["C"]["bytes"]
    funnel = names_and_widths(run.plot_funnel())
    assert list(funnel)[:2] == ["read", "decoding"] and "exact dedup" in funnel
    assert (funnel["read"], funnel["decoding"]) == (17, 16)


def test_many_languages_are_summed(own: Path) -> None:
    def many(manifest) -> None:
        manifest["statistics"]["languages"] = {f"L{n:02}": {"bytes": 100 - n, "files": 1} for n in range(15)}

    edited(own, "corpus/manifest.json", many)
    drawn = names_and_widths(Run(own).plot_languages())
    assert len(drawn) == 13
    assert drawn["L11"] == 89 and drawn["3 others"] == 88 + 87 + 86


def test_a_stage_elsewhere_is_found_by_the_config(own: Path, tmp_path: Path) -> None:
    shutil.move(own / "corpus", tmp_path / "shared")
    edited(own, "train/config.json", lambda config: config["paths"].update(corpus=str(tmp_path / "shared")))
    assert Run(own).corpus()["funnel"][0]["files_in"] == 17


def test_it_is_read_with_the_config_of_its_last_stage(own: Path) -> None:
    run = Run(own)
    for stage in ("train", "tokenize", "tokenizer", "corpus"):
        assert run._reading() == [f"--config={own}/{stage}/config.json", f"--workdir={own}"]
        shutil.rmtree(own / stage)
    with pytest.raises(UserError, match="holds no run"):
        run._reading()


@pytest.mark.usefixtures("in_this_process")
def test_a_row_is_shown_as_a_page(whole_run: Path) -> None:
    page = Run(whole_run).show_row(step=1, row=3)
    assert "batch 1, row 3" in page.html
    shown = page._repr_html_()
    assert shown.startswith("<iframe sandbox ") and "<script" not in shown and shown.count("<iframe") == 1


@pytest.mark.usefixtures("in_this_process")
def test_a_gap_is_filled_and_a_prompt_continued(whole_run: Path) -> None:
    run = Run(whole_run)
    gap = run.complete("def value", "return \u27e7", max_new_tokens=2, temperature=0)
    assert (gap.prompt, gap.suffix) == ("def value", "return \u27e7")
    assert str(gap) == f"def value{gap.text}return \u27e7"
    assert "\u27e6" not in gap.text
    assert run.complete("def value", max_new_tokens=2, temperature=0).suffix == ""


@pytest.mark.parametrize(
    ("said", "prompt", "suffix", "text", "finish"),
    [
        ("--- left to right\na\u27e6b\u27e7\n--- stopped by itself\n", "a", "", "b", "stop"),
        ("--- left to right\na\u27e6\u27e7\n--- cut at completion.max_new_tokens\n", "a", "", "", "length"),
        ("--- fill in the middle\n\u27e6x\u27e6y\u27e7z\u27e7w\n--- stopped\n", "\u27e6x", "w", "y\u27e7z", "stop"),
        ("--- left to right\na\n--- b\u27e6c\nd\u27e7\n--- stopped by itself\n", "a\n--- b", "", "c\nd", "stop"),
        ("--- fill in the middle\na\u27e6y\u27e7w\n--- z\u27e7w\n--- cut\n", "a", "w", "y\u27e7w\n--- z", "length"),
        ("--- left to right\na\u27e6b\na\u27e6c\u27e7\n--- stopped\n", "a", "", "b\na\u27e6c", "stop"),
        ("--- left to right\n\u241ba\u27e6b\u27e7\n--- stopped by itself\n", "\x1ba", "", "b", "stop"),
    ],
)  # fmt: skip
def test_a_completion_is_what_stands_between_the_marks(said, prompt, suffix, text, finish) -> None:
    found = run_module._completion(said, prompt, suffix)
    assert (found.text, found.finish) == (text, finish)


@pytest.mark.parametrize(("prompt", "suffix"), [("", ""), ("", "x"), ("a\0b", ""), ("a", "\0")])
def test_what_is_no_prompt_is_refused(whole_run: Path, prompt: str, suffix: str) -> None:
    with pytest.raises(UserError, match="a prompt needs at least one character"):
        Run(whole_run).complete(prompt, suffix)


def test_a_completion_is_marked_and_escaped() -> None:
    shown = sc2jax.Completion("<b>", "&\x1b", "</b>", "length")._repr_html_()
    assert shown == "<pre>&lt;b&gt;<mark>&amp;\u241b…</mark>&lt;/b&gt;</pre>"


def test_the_report_is_shown(whole_run: Path) -> None:
    assert Run(whole_run).report().html == (whole_run / "report/index.html").read_text()


def of_an_ablation(whole_run: Path, workdir: Path, losses: dict[str, float]) -> None:
    """Runs with the layout of `sc2jax ablate`; `losses` are the bits per byte by folder."""
    for name, rate in losses.items():
        for file in ("train/config.json", "train/metrics.jsonl", "evaluate/bits_per_byte/scores.json"):
            (workdir / "runs" / name / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(whole_run / file, workdir / "runs" / name / file)
        edited(
            workdir / "runs" / name,
            "evaluate/bits_per_byte/scores.json",
            lambda scores, rate=rate: scores["total"].update(model=rate),
        )


def test_runs_of_an_ablation_are_compared_by_label(whole_run: Path, tmp_path: Path) -> None:
    of_an_ablation(whole_run, tmp_path, {"a-seed-x-seed0": 2.0, "a-seed-x-seed1": 3.0, "b-seed0": 1.0})
    (tmp_path / "runs" / "failed-seed0").mkdir()
    runs = sc2jax.ablation_runs(tmp_path)
    assert {label: len(group) for label, group in runs.items()} == {"a-seed-x": 2, "b": 1}
    drawn = [list(line.get_xdata()) for line in sc2jax.compare_scores(runs).axes[0].get_lines()]  # type: ignore[arg-type]
    assert drawn == [[2.0, 1.0], [3.0, 1.0], [2.5, 1.0]], "lowest, highest and mean"
    lines = sc2jax.compare_losses(runs).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["a-seed-x", "b"]


@pytest.mark.parametrize("compare", [sc2jax.compare_scores, sc2jax.compare_losses])
def test_a_label_without_runs_is_named(compare) -> None:
    with pytest.raises(UserError, match="no run to compare of 'a'"):
        compare({"a": []})
    with pytest.raises(UserError, match="no run to compare;"):
        compare({})


def test_what_is_not_there_is_said_with_what_to_do(whole_run: Path, own: Path, tmp_path: Path) -> None:
    for call, message in {
        lambda: Run(tmp_path / "nowhere"): "there is no folder",
        lambda: Run(tmp_path): "holds no run",
        lambda: sc2jax.ablation_runs(whole_run): "holds no runs of an ablation",
        lambda: Run(own).scores("reasoning"): "`sc2jax evaluate` was not run",
    }.items():
        with pytest.raises(UserError, match=message):
            call()
    shutil.rmtree(own / "report")
    with pytest.raises(UserError, match=r"report/index.html is not there: `sc2jax report` was not run"):
        Run(own).report()


@pytest.mark.parametrize(
    "content",
    [
        '{"step": 1',
        "[1]",
        '{"step": 1}',
        '{"tokens": 1, "loss": ""}',
        '{"tokens": 1, "loss": null}',
        "[" * 99999,
        "\xff",
    ],
)
def test_a_damaged_log_is_named(own: Path, content: str) -> None:
    (own / "train/metrics.jsonl").write_text(content, "latin-1")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        Run(own).plot_loss()


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{}", "\xff", '{"measured": true, "total": "x"}', '{"measured": true, "total": {"model": "x"}}'],
)
def test_damaged_scores_are_named(own: Path, content: str) -> None:
    (own / "evaluate/bits_per_byte/scores.json").write_text(content, "latin-1")
    for draw in (Run(own).plot_scores, Run(own).bits_per_byte):
        with pytest.raises(UserError, match="bits"):
            draw()


@pytest.mark.parametrize(
    "statistics",
    ["x", {}, {"languages": [], "funnel": {}}, {"languages": {"C": {"bytes": "x"}}, "funnel": [{"files_in": 1}]}],
)
def test_a_damaged_corpus_is_named(own: Path, statistics: object) -> None:
    edited(own, "corpus/manifest.json", lambda manifest: manifest.update(statistics=statistics))
    for draw in (Run(own).plot_languages, Run(own).plot_funnel):
        with pytest.raises(UserError, match="corpus"):
            draw()


@pytest.mark.parametrize("paths", [None, [], {"train": 5}])
def test_a_damaged_config_is_named(own: Path, paths: object) -> None:
    edited(own, "train/config.json", lambda config: config.update(paths=paths))
    with pytest.raises(UserError, match=r"config\.json"):
        Run(own).log()


def test_scores_that_were_not_measured_say_why(own: Path) -> None:
    (own / "evaluate/bits_per_byte/scores.json").write_text('{"measured": false, "reason": "nothing is held out"}')
    with pytest.raises(UserError, match="nothing is held out"):
        Run(own).plot_scores()
