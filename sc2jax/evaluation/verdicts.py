"""What can be said of a sample after it was judged."""

from enum import StrEnum


class Verdict(StrEnum):
    """The verdict on a sample.

    `wrong` also stands for what did not compile and for an answer that no judge can read. `refused` is what the sandbox
    did not let it do. `infrastructure` is no verdict on the sample: the machine, the sandbox or the judge failed, and
    it never counts as wrong.
    """

    PASSED = "passed"
    WRONG = "wrong"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    REFUSED = "refused"
    INFRASTRUCTURE = "infrastructure"
