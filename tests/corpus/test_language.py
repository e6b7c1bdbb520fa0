import pytest

from sc2jax.corpus.language import is_excluded, language_of_interpreter, language_of_name


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("core.py", "Python"),
        ("types.pyi", "Python"),
        ("Makefile", "Makefile"),
        ("CMakeLists.txt", "CMake"),
        ("Dockerfile", "Dockerfile"),
        ("go.mod", "Go Module"),
        ("INDEX.HTML", "HTML"),
        ("widget.tar.rs", "Rust"),
        ("archive.x.unknown", ""),
        ("LICENSE", "Text"),
        ("README.md", "Markdown"),
        (".bashrc", "Shell"),
        ("noextension", ""),
        ("ends.with.", ""),
        # names that several languages claim
        ("stdio.h", "C"),
        ("view.m", "Objective-C"),
        ("index.ts", "TypeScript"),
        ("schema.sql", "SQL"),
        ("script.pl", "Perl"),
        ("Program.cs", "C#"),
        ("page.php", "PHP"),
        ("config.yml", "YAML"),
        ("data.json", "JSON"),
        ("notes.txt", "Text"),
        ("tool.1", "Roff Manpage"),
        ("theory.v", "Verilog"),
    ],
)
def test_name_tells_the_language(name: str, language: str) -> None:
    assert language_of_name(name) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        (b"#!/bin/sh\necho", "Shell"),
        (b"#! /usr/bin/env python3.11\n", "Python"),
        (b"#!/usr/bin/python3.12 -u\n", "Python"),
        (b"#!/usr/bin/env -S node --flag\n", "JavaScript"),
        (b"#!/usr/bin/env LANG=C perl\n", "Perl"),
        (b"#!/opt/unheard-of\n", ""),
        (b"#!\n", ""),
        (b"\n#!/bin/sh\n", ""),
        (b"plain", ""),
    ],
)
def test_interpreter_tells_the_language(line: bytes, language: str) -> None:
    assert language_of_interpreter(line) == language


def test_excluded_pairs_are_pairs() -> None:
    assert is_excluded("CSV", "table.csv")
    assert is_excluded("Ignore List", ".gitignore")
    assert is_excluded("XML", "Strings.RESX")
    assert not is_excluded("XML", "layout.xml")
    assert not is_excluded("Python", "table.csv")
