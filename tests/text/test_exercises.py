"""The LHQ sets against their layouts, each expected string written out by hand."""


def test_layouts(records, rendered) -> None:
    written = {record["id"]: rendered("lhq", record) for record in records("lhq")}
    assert written == {
        "lhq/apps/1": (
            "\nQUESTION:\nPrint the number that is read, doubled.\nUse Standard Input format\nANSWER:\n"
            "print(2 * int(input()))<|endoftext|>"
        ),
        "lhq/apps/2": (
            "\nQUESTION:\nWrite a function that doubles.\ndef double(n):\n\nUse Call-Based format\nANSWER:\n"
            "def double(n):\n    return 2 * n<|endoftext|>"
        ),
        "lhq/code_contests/1": (
            "Double the number.\n"
            "Solution (CPP):int main() { int n; std::cin >> n; std::cout << 2 * n; }\n"
            "Solution (Python 3):print(2 * int(input()))<|endoftext|>"
        ),
        "lhq/rosetta_code/1": (
            "Doubling\nDouble a number.\n\nLanguage: Lua\nreturn 2 * n\n\nLanguage: Forth\n: double 2 * ;<|endoftext|>"
        ),
        "lhq/gsm8k/1": (
            "A heron sees two boats, then as many again. How many are they?\n2 + 2 = 4\n#### 4<|endoftext|>"
        ),
    }
