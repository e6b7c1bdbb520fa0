"""Event files as another reader of the two formats finds them: one written here with protobuf's own parser."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sc2jax.training.tensorboard import EventFile, crc32c, scalars


def message_types() -> dict[str, Any]:
    """The messages of tensorboard/compat/proto/{event,summary}.proto, with the fields that matter here."""
    field = descriptor_pb2.FieldDescriptorProto
    kinds = {
        "Value": [("tag", 1, field.TYPE_STRING, ""), ("simple_value", 2, field.TYPE_FLOAT, "")],
        "Summary": [("value", 1, field.TYPE_MESSAGE, "Value")],
        "SessionLog": [("status", 1, field.TYPE_INT32, "")],
        "SourceMetadata": [("writer", 1, field.TYPE_STRING, "")],
        "Event": [
            ("wall_time", 1, field.TYPE_DOUBLE, ""),
            ("step", 2, field.TYPE_INT64, ""),
            ("file_version", 3, field.TYPE_STRING, ""),
            ("summary", 5, field.TYPE_MESSAGE, "Summary"),
            ("session_log", 7, field.TYPE_MESSAGE, "SessionLog"),
            ("source_metadata", 10, field.TYPE_MESSAGE, "SourceMetadata"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="sc2jax_test_events.proto", package="sc2jax_test", syntax="proto3")
    for name, fields in kinds.items():
        message = file.message_type.add(name=name)
        for label, number, kind, of in fields:
            repeated = field.LABEL_REPEATED if label == "value" else field.LABEL_OPTIONAL
            about = {"type_name": f".sc2jax_test.{of}"} if of else {}
            message.field.add(name=label, number=number, type=kind, label=repeated, **about)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"sc2jax_test.{name}")) for name in kinds}


Event = message_types()["Event"]


def crc_bit_by_bit(content: bytes) -> int:
    """Long division by the polynomial, bits of each byte from the lowest on."""
    register = 0xFFFFFFFF
    for byte in content:
        for bit in range(8):
            odd = (register ^ byte >> bit) & 1
            register = register >> 1 ^ (0x82F63B78 if odd else 0)
    return register ^ 0xFFFFFFFF


def records(path: Path) -> list[bytes]:
    content, found = path.read_bytes(), []
    while content:
        (length,), body = struct.unpack("<Q", content[:8]), content[12:]
        for checked, stored in ((content[:8], content[8:12]), (body[:length], body[length : length + 4])):
            checksum = crc_bit_by_bit(checked)
            masked = (((checksum >> 15) | (checksum << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32
            assert struct.unpack("<I", stored) == (masked,)
        found.append(body[:length])
        content = body[length + 4 :]
    return found


def events(folder: Path) -> list[Any]:
    (path,) = [path for path in folder.iterdir() if path.name.endswith(".sc2jax")]
    return [Event.FromString(record) for record in records(path)]


def found_scalars(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in events(folder)
        if event.HasField("summary")
    ]


@pytest.mark.parametrize(
    ("content", "checksum"),
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
     (bytes(range(32)), 0x46DD794E), (bytes(range(31, -1, -1)), 0x113FDB5C)],
)  # fmt: skip
def test_the_checksum_is_that_of_rfc_3720(content, checksum):
    assert crc32c(content) == checksum == crc_bit_by_bit(content)


def test_a_file_says_what_was_logged(tmp_path):
    now = iter([50.0, 60.0, 70.0])
    file = EventFile(str(tmp_path / "new"), [(2, {"loss": 4.5}), (300, {})], lambda: next(now))
    file.add(2**40, {"loss": 0.1, "feed/épochs": -2.0})
    file.add(2**40 + 1, {"inf": 1e300, "nan": float("nan")})
    first, second, *others = events(tmp_path / "new")
    assert (first.wall_time, first.step, first.file_version) == (50.0, 0, "brain.Event:2")
    assert first.source_metadata.writer == "sc2jax.training.tensorboard"
    assert second.session_log.status == 1
    assert [event.wall_time for event in others] == [50.0, 50.0, 60.0, 70.0]
    *exact, (step, last) = found_scalars(tmp_path / "new")
    assert exact == [
        (2, {"loss": 4.5}),
        (300, {}),
        (2**40, {"loss": float(np.float32(0.1)), "feed/épochs": -2.0}),
    ]
    assert step == 2**40 + 1 and last["inf"] == float("inf") and np.isnan(last["nan"])


def test_after_a_resume_no_step_stands_twice_and_each_keeps_its_time(tmp_path):
    file = EventFile(str(tmp_path), [], lambda: 10.0)
    file._clock = iter([11.0, 12.0, 13.0]).__next__
    for step in (5, 256, 20_000):
        file.add(step, {"loss": float(step)})
    again = EventFile(str(tmp_path), [(5, {"loss": 5.0}), (256, {"loss": 256.0}), (257, {})], lambda: 99.0)
    again.add(20_000, {"loss": 7.0})
    assert found_scalars(tmp_path) == [(5, {"loss": 5.0}), (256, {"loss": 256.0}), (257, {}), (20_000, {"loss": 7.0})]
    assert [event.wall_time for event in events(tmp_path)] == [10.0, 10.0, 11.0, 12.0, 99.0, 99.0]
    EventFile(str(tmp_path), [(257, {}), (20_000, {})], lambda: 200.0)
    assert [event.wall_time for event in events(tmp_path)] == [10.0, 10.0, 99.0, 99.0]


def test_a_damaged_file_gives_no_times(tmp_path):
    EventFile(str(tmp_path), [(1, {"loss": 1.0})], lambda: 10.0)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    first = 16 + int.from_bytes(whole[:8], "little")
    for length in (0, 8, 2**63):
        path.write_bytes(whole[:first] + length.to_bytes(8, "little") + bytes(40))
        EventFile(str(tmp_path), [(1, {"loss": 1.0})], lambda: 50.0)
        (path,) = tmp_path.iterdir()
        assert [event.wall_time for event in events(tmp_path)] == [10.0, 10.0, 50.0]


def test_a_file_that_was_cut_off_is_no_obstacle(tmp_path):
    EventFile(str(tmp_path), [(1, {"loss": 1.0}), (2, {"loss": 2.0})], lambda: 10.0)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        EventFile(str(tmp_path), [(1, {"loss": 1.0}), (2, {"loss": 2.0})], lambda: 10.0)
        newest = max(tmp_path.iterdir())
        assert newest.read_bytes() == whole and newest != path
        newest.unlink()


def test_new_files_come_after_the_old_ones(tmp_path):
    names = []
    for _ in range(12):
        EventFile(str(tmp_path), [])
        (path,) = tmp_path.iterdir()
        names.append(path.name)
    assert names == sorted(names) and len(set(names)) == 12


def test_files_of_others_stay_whatever_their_names(tmp_path):
    EventFile(str(tmp_path), [(1, {"loss": 1.0})])
    (own,) = tmp_path.iterdir()
    record = own.read_bytes()
    own.unlink()
    others = {
        "events.out.tfevents.0000000000.sc2jax": b"mine",
        "events.out.tfevents.0000000007.sc2jax": b"",
        "zzz.tfevents.sc2jax": b"mine",
        "events.out.tfevents.1700000000.host": record.replace(b"sc2jax", b"SC2JAX"),
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "events.out.tfevents.folder").mkdir()
    (tmp_path / "elsewhere").write_bytes(record)
    (tmp_path / "events.out.tfevents.link").symlink_to("elsewhere")
    before = set(tmp_path.iterdir())
    for _ in range(2):
        EventFile(str(tmp_path), [(1, {"loss": 1.0})])
        (own,) = set(tmp_path.iterdir()) - before
        assert own.name > "events.out.tfevents.0000000007"
    assert {name: (tmp_path / name).read_bytes() for name in others} == others
    assert (tmp_path / "elsewhere").read_bytes() == record and before <= set(tmp_path.iterdir())


def test_scalars_are_the_numbers_of_a_line():
    row = {"step": 3, "loss": 1.5, "feed": {"step": 4, "sources": {"a b": {"epochs": 1}}, "names": ["x"]}, "on": True}
    assert scalars(row) == {"loss": 1.5, "feed/step": 4.0, "feed/sources/a b/epochs": 1.0}
