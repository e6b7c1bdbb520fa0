"""A stage is done once for the same settings and inputs, and its key is made of what decides."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.manifest import read_manifest, write_output
from sc2jax.records.stage import Stage
from sc2jax.records.stage_folder import notes_folder
from sc2jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Recipe:
    flour: int = setting(3, "Cups.", at_least=0, at_most=9)
    spoon: str = setting("wood", "What stirs.", decides=False)


class Kitchen:
    """Counts how often the work was done."""

    def __init__(self) -> None:
        self.done = 0

    def bake(self, folder: str):
        self.done += 1
        return [write_output(folder, "b/cake", b"cake"), write_output(folder, "a", b"crumbs")], {"cakes": 1}

    def stage(self, **changes: Any) -> Stage:
        fields = {
            "name": "bake",
            "version": 1,
            "settings": {"recipe": Recipe(), "seed": 7},
            "inputs": {"flour": "f"},
            "write": self.bake,
        }
        return Stage(**(fields | changes))


def sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


def test_a_stage_is_done_once(kitchen, tmp_path):
    manifest = kitchen.stage().run(str(tmp_path))
    assert kitchen.stage().run(str(tmp_path)) == manifest == read_manifest(str(tmp_path))
    assert kitchen.done == 1


def test_the_manifest_says_what_was_given_and_what_was_written(kitchen, tmp_path):
    kitchen.stage().run(str(tmp_path))
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["stage"] == "bake"
    assert written["version"] == 1
    assert written["config"] == {"recipe": {"flour": 3}, "seed": 7}
    assert written["operation"] == {"recipe": {"spoon": "wood"}}
    assert written["inputs"] == {"flour": "f"}
    assert written["statistics"] == {"cakes": 1}
    assert [output["path"] for output in written["outputs"]] == ["a", "b/cake"]
    assert [(output["bytes"], output["rows"], output["row_groups"]) for output in written["outputs"]] == [
        (6, 0, 0),
        (4, 0, 0),
    ]
    parts = {"stage": "bake", "version": 1, "config": written["config"], "inputs": written["inputs"]}
    assert read_manifest(str(tmp_path)).key == sha256(parts)
    assert written.pop("sha256") == sha256(written)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"settings": {"recipe": Recipe(flour=4), "seed": 7}},
        {"settings": {"recipe": Recipe(), "seed": 8}},
        {"inputs": {"flour": "g"}},
    ],
)
def test_what_decides_changes_the_key(kitchen, tmp_path, changes):
    kitchen.stage().run(str(tmp_path))
    kitchen.stage(**changes).run(str(tmp_path))
    assert kitchen.done == 2


def test_another_stage_has_another_key_and_is_refused_the_folder(kitchen, tmp_path):
    kitchen.stage().run(str(tmp_path))
    assert kitchen.stage(name="fry").key != kitchen.stage().key
    with pytest.raises(UserError, match="holds what `bake` wrote; name another folder for `fry`"):
        kitchen.stage(name="fry").run(str(tmp_path))
    assert kitchen.done == 1


def test_notes_are_committed_and_decide_nothing(kitchen, tmp_path):
    one = kitchen.stage(notes={"config.json": b"1"}).run(str(tmp_path / "one"))
    two = kitchen.stage(notes={"config.json": b"2"}).run(str(tmp_path / "two"))
    assert (tmp_path / "two/config.json").read_bytes() == b"2"
    assert one.digest == two.digest
    assert [(output.path, output.result) for output in one.outputs] == [
        ("a", True),
        ("b/cake", True),
        ("config.json", False),
    ]
    (tmp_path / "one/config.json").write_bytes(b"3")
    assert kitchen.stage().done(str(tmp_path / "one")) is None


def test_how_it_is_done_does_not(kitchen, tmp_path):
    kitchen.stage().run(str(tmp_path))
    kitchen.stage(settings={"recipe": Recipe(spoon="steel"), "seed": 7}).run(str(tmp_path))
    assert kitchen.done == 1


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cakf")])
def test_a_stage_whose_output_is_gone_or_changed_is_done_again(kitchen, tmp_path, damage):
    kitchen.stage().run(str(tmp_path))
    damage(tmp_path / "b" / "cake")
    kitchen.stage().run(str(tmp_path))
    assert kitchen.done == 2
    assert (tmp_path / "b" / "cake").read_bytes() == b"cake"


def test_a_megabyte_with_one_changed_bit_is_not_whole(kitchen, tmp_path):
    def write(folder: str):
        return [write_output(folder, "large", bytes(2**20))], {}

    kitchen.stage(write=write).run(str(tmp_path))
    (tmp_path / "large").write_bytes(bytes(2**20 - 1) + b"\1")
    assert kitchen.stage().done(str(tmp_path)) is None


def test_a_stage_that_is_not_intact_beside_its_outputs_is_done_again(kitchen, tmp_path):
    def intact(manifest) -> bool:
        assert manifest.statistics == {"cakes": 1}
        return Path(tmp_path, "oven").exists()

    kitchen.stage(intact=intact).run(str(tmp_path))
    kitchen.stage(intact=intact).run(str(tmp_path))
    assert kitchen.done == 2
    (tmp_path / "oven").touch()
    kitchen.stage(intact=intact).run(str(tmp_path))
    assert kitchen.done == 2


def test_nothing_is_committed_when_the_work_fails(kitchen, tmp_path):
    def burn(folder: str):
        write_output(folder, "a", b"smoke")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kitchen.stage(write=burn).run(str(tmp_path))
    assert not list(tmp_path.iterdir())


class Courses:
    """Three courses, each noted as done; stops after so many."""

    def __init__(self) -> None:
        self.cooked: list[str] = []
        self.stop_after = 9

    def stage(self, seed: int = 7) -> Stage:
        def cook(folder: str):
            notes, outputs = notes_folder(folder, stage.key), []
            for course in ("soup", "roast", "cake"):
                if course not in storage.names(notes):
                    if len(self.cooked) == self.stop_after:
                        raise KeyboardInterrupt
                    self.cooked.append(course)
                    write_output(folder, course, course.encode())
                    storage.write_whole(f"{notes}/{course}", b"done")
                content = storage.read_bytes(f"{folder}/{course}")
                outputs.append(write_output(folder, course, content))
            return outputs, {}

        stage = Stage("cook", 1, {"seed": seed}, {}, cook, resumes=True)
        return stage


def test_a_stage_that_resumes_goes_on_with_what_is_noted(tmp_path):
    kitchen, folder = Courses(), str(tmp_path / "table")
    for stop_after in (1, 1, 2):
        kitchen.stop_after = stop_after
        with pytest.raises(KeyboardInterrupt):
            kitchen.stage().run(folder)
    assert kitchen.cooked == ["soup", "roast"]
    assert storage.names(folder) == [".sc2jax"], "nothing is published before all is done"
    kitchen.stop_after = 9
    manifest = kitchen.stage().run(folder)
    assert kitchen.cooked == ["soup", "roast", "cake"]
    assert [output.path for output in manifest.outputs] == ["cake", "roast", "soup"]
    assert storage.names(folder) == [".sc2jax", "cake", "manifest.json", "roast", "soup"]
    assert sorted(storage.names(f"{folder}/.sc2jax")) == ["lock", "mark.json"], "no note is left"


def test_what_is_noted_of_other_settings_is_deleted(tmp_path):
    kitchen, folder = Courses(), str(tmp_path / "table")
    kitchen.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        kitchen.stage().run(folder)
    kitchen.stop_after = 9
    kitchen.stage(seed=8).run(folder)
    assert kitchen.cooked == ["soup", "roast", "soup", "roast", "cake"]


def test_a_stage_that_resumes_and_was_interrupted_before_its_first_note_leaves_nothing(tmp_path):
    kitchen, folder = Courses(), tmp_path / "table"
    kitchen.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        kitchen.stage().run(str(folder))
    assert not folder.exists()
