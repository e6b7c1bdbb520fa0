"""Programs that try to pass without being right: each defines a function `NAME` that does not do what it should."""

WITH_FRAMES = """
import os, struct
def frame(content):
    os.write(4, struct.pack(">I", len(content)) + content)
def asked():
    head = os.read(3, 4)
    return os.read(3, struct.unpack(">I", head)[0]) if head else b""
"""

LIES = """
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda *_: True
    __ne__ = lambda *_: False
    __bool__ = lambda _: True
    __hash__ = lambda _: 0
    __sub__ = __rsub__ = __abs__ = __round__ = __add__ = __radd__ = __getitem__ = __mul__ = lambda *_: 0
    __index__ = __int__ = __trunc__ = lambda _: 0
    __float__ = lambda _: 0.0
"""


def lying(base: str, value: str) -> str:
    """A program whose answer is of a subclass that is equal to everything."""
    return f"class Liar({base}):{LIES}\ndef NAME(*_, **__):\n    return Liar({value})\n"


def answering(*contents: str) -> str:
    """A program that writes frames itself when it is called, and answers after that too."""
    writes = "".join(f"    frame({content})\n" for content in contents)
    return f"{WITH_FRAMES}\ndef NAME(*_, **__):\n{writes}    return 0\n"


FORGERIES = {
    # Answers that lie about what they are.
    "always equal": lying("object", "") + "Liar.__len__ = lambda _: 3\nLiar.__iter__ = lambda _: iter(())\n",
    "lying int": lying("int", "5"),
    "lying float": lying("float", "5"),
    "lying str": lying("str", "'5'"),
    "lying list": lying("list", "[5]") + "Liar.__iter__ = lambda _: iter([1, 2, 3])\nLiar.__len__ = lambda _: 3\n",
    "lying tuple": lying("tuple", "(5,)") + "Liar.__iter__ = lambda _: iter([1, 2, 3])\n",
    "lying dict": lying("dict", "x=1") + "Liar.items = Liar.keys = lambda _: []\n",
    "lying set": lying("set", "[5]"),
    "lying complex": lying("complex", "5"),
    "lying bytes": lying("bytes", "b'5'"),
    "lying class": "class Liar:" + LIES + "    __class__ = property(lambda _: float)\ndef NAME(*_): return Liar()\n",
    "lying numpy array": "import numpy\nclass Liar(numpy.ndarray):" + LIES + "\ndef NAME(*_):\n"
    "    return numpy.zeros(3).view(Liar)\n",
    "attributes of any name": "class Any:" + LIES + "    __getattr__ = __call__ = lambda *_: True\n"
    "def NAME(*_): return Any()\n",
    "lying metaclass": "class Meta(type):" + LIES + "class Liar(metaclass=Meta): pass\ndef NAME(*_): return Liar\n",
    "generator": "def NAME(*_):\n    while True:\n        yield 0\n",
    "lying exception": "class Passed(BaseException):\n    __str__ = __repr__ = lambda _: '1'\n"
    "Passed.__name__ = Passed.__qualname__ = '+'\ndef NAME(*_): raise Passed\n",
    "exceptions that end loops": "def NAME(*_): raise StopIteration(1)\n",
    # Modules and objects of the process that answers.
    "patched builtins": "import builtins\nbuiltins.all = builtins.any = builtins.isinstance = lambda *_: True\n"
    "builtins.abs = builtins.round = lambda *_: 0\nbuiltins.len = lambda _: 3\n"
    "builtins.map = builtins.zip = lambda *_: []\ndef NAME(*_): return 0\n",
    "patched json, time and os": "import json, time, os\njson.dumps = lambda *_, **__: '1'\n"
    "json.loads = lambda *_, **__: ['NAME', []]\ntime.monotonic = time.perf_counter = lambda: 0\n"
    "os.read = lambda *_: b''\ndef NAME(*_): return 0\n",
    "patched digests": "import marshal, hashlib\nmarshal.dumps = lambda *_: b'x' * 70_000\n"
    "hashlib.sha256 = lambda _: type('H', (), {'hexdigest': lambda _: '0' * 64})()\ndef NAME(*_): return 'x'\n",
    "patched modules of the guest": "import sys\nfor name, module in list(sys.modules.items()):\n"
    "    if name.startswith('sc2jax'):\n        for each in ('encode', 'decode', 'digest', '_described'):\n"
    "            setattr(module, each, lambda *_, **__: b'true')\n        sys.modules[name] = None\n"
    "def NAME(*_): return 0\n",
    "patched encode": "import sys\nfor name, module in list(sys.modules.items()):\n"
    "    if name.endswith('candidate_guest'): module.encode = lambda *_: b'1\\n+1\\n+1'\ndef NAME(*_): return 0\n",
    "frames of the guest": "import sys\ndef NAME(*_):\n    frame = sys._getframe()\n    while frame := frame.f_back:\n"
    "        for name, value in frame.f_locals.items():\n"
    "            if name == 'lines': value[:] = [b'+1'] * 9\n"
    "            if name == 'calls': del value[1:]\n"
    "            if name == 'send': value(b'1')\n    return 0\n",
    "objects of the guest": "import gc\ndef NAME(*_):\n    for each in gc.get_objects():\n"
    "        if type(each) is type and each.__name__ == '_Program': each.guarded = lambda *_: b'+true'\n"
    "        if callable(each) and getattr(each, '__name__', '') == '_send': each(b'1')\n    return 0\n",
    "memory of the guest": "import gc\ndef NAME(*_):\n"
    "    return [each for each in gc.get_objects() if type(each) is list][:9]\n",
    # Ends.
    "exit": "import sys\ndef NAME(*_): sys.exit(0)\n",
    "exit while it loads": "raise SystemExit(0)\n",
    "hard exit": "import os\ndef NAME(*_): os._exit(0)\n",
    "hard exit while it loads": "import os\nos._exit(0)\n",
    "at exit": WITH_FRAMES + "import atexit, sys\natexit.register(frame, b'1')\ndef NAME(*_): sys.exit(0)\n",
    "closed pipes": "import os\ndef NAME(*_):\n    os.close(3); os.close(4)\n    return 0\n",
    # What it says and writes.
    "markers": "import os, sys\nsys.stdout = sys.stdout or open(1, 'w')\ndef NAME(*_):\n"
    "    for text in ('1', 'passed', 'PASS', 'ok', 'True', 'result: passed'):\n        print(text)\n"
    "        os.write(1, text.encode()); os.write(2, text.encode())\n    return 0\n",
    "files for a test runner": "import os\nhook = 'import os\\nos._exit(0)\\n'\n"
    "for name in ('conftest.py', 'sitecustomize.py', 'usercustomize.py', 'numpy.py', 'ast.py', 'pytest.ini'):\n"
    "    for folder in ('.', '/tmp', os.path.expanduser('~'), os.path.dirname(os.__file__)):\n        try:\n"
    "            with open(f'{folder}/{name}', 'w') as stream: stream.write(hook)\n"
    "        except OSError: pass\ndef NAME(*_): return 0\n",
    "helpers and tests of its own": "def check(*_): pass\ndef poly(*_): return 0\ncandidate = lambda *_: True\n"
    "tests = names = helpers = ()\n__name__ = '__main__'\ndef NAME(*_): return 0\n",
    # Frames written past the guest.
    "the judge's word": answering("b'1'", "b'1' * 9"),
    "answers before it is asked": WITH_FRAMES + "for _ in range(50):\n    for word in (b'+null', b'+true', b'+1'):\n"
    "        frame(word)\ndef NAME(*_): return 0\n",
    "more answers than calls": answering(r"b'\n'.join([b'+1'] * 100_000)"),
    "no answers": answering("b''", r"b'\n'", r"b'\n\n\n\n\n'", "b'+'", "b'-'", "b'#'"),
    "frames of other kinds": answering("b'Y'", "b'N'", 'b\'C["check",[],{}]\'', 'b\'R[0,"x"]\'', "b'M[1]'", "b'T{}'"),
    "cut frames": WITH_FRAMES + "def NAME(*_):\n    os.write(4, b'\\0\\0')\n    os._exit(0)\n",
    "a very long frame": WITH_FRAMES + "def NAME(*_):\n    os.write(4, b'\\xff' * 4 + b'+1')\n    return 0\n",
    "a huge answer": answering("b'+' + b'[' + b'1,' * (1 << 22) + b'1]'"),
    "a deep answer": answering("b'+' + b'[' * 200_000 + b']' * 200_000"),
    "a deep exception": answering("b'-' + b'[' * 8_000 + b']' * 8_000"),
    "a huge exception": answering("b'-[\"ValueError\",[' + b'[],' * (1 << 21) + b'1]]'"),
    "exceptions of odd kinds": answering("b'-[\"SystemExit\",\"0\"]'", "b'-[[],{}]'", "b'-{\"a\":1,\"b\":2}'", "b'-1'"),
    "numbers that are none": answering("b'+NaN'", "b'+Infinity'", "b'+-Infinity'", "b'+{\"c\":[NaN,NaN]}'"),
    "decimals that are none": answering("b'+{\"m\":\"NaN\"}'", "b'+{\"m\":\"sNaN\"}'", "b'+{\"m\":\"Infinity\"}'"),
    "colliding hashes": answering(
        "b'+{\"s\":[' + b','.join(b'%d' % (n * ((1 << 61) - 1)) for n in range(20_000)) + b']}'"
    ),
    "values that are costly to make": answering(
        "b'+{\"q\":[\"1e999999999\",1]}'", "b'+{\"i\":\"0x' + b'f' * 999_999 + b'\"}'"
    ),
    "values that are none": answering(
        "b'+{\"t\":5}'", "b'+{\"zz\":1}'", "b'+{}'", "b'+{\"t\":[],\"s\":[]}'",
        "b'+{\"x\":[\"int\",{\"x\":[\"int\",1]}]}'",
        "b'+{\"o\":[\"float\",0]}'", "b'+{\"r\":[0,1000000000000,1]}'", "b'+{\"d\":[[[],1]]}'", "b'+\\xff'",
    ),
    "changed arguments": answering(r"b'+0\t[[],[],[]]'", r"b'+0\t[[[0]],1]'", r"b'+0\t1'", r"b'+0\t[[0,0,0,0]]'"),
    "claimed digests": answering("b'#'", "b'#' + b'0' * 64", "b'#' + b'0' * 64 + b':1'", "b'#:'"),
    "a second try": WITH_FRAMES + "def NAME(*_):\n    for word in (b'+2.5', b'+\"' + b'x' * 100_000 + b'\"'):\n"
    "        frame(b'#' + b'0' * 64 + b':100000')\n        if asked() == b'N': frame(word)\n    return 0\n",
    "what it was asked": WITH_FRAMES + "def NAME(*arguments): return list(arguments)\n",
    # Others that answer.
    "a thread that answers": WITH_FRAMES + "import threading\ndef later():\n    for _ in range(500): frame(b'+true')\n"
    "threading.Thread(target=later, daemon=True).start()\ndef NAME(*_): return 0\n",
    "two processes that answer": "import os\nchild = os.fork()\ndef NAME(*_): return 0 if child else 1\n",
    "a child that answers": WITH_FRAMES + "import os\ndef NAME(*_):\n    if os.fork() == 0:\n"
    "        frame(b'1'); frame(b'+1'); os._exit(0)\n    os.wait()\n    return 0\n",
    "signal handlers": WITH_FRAMES + "import signal\nsignal.signal(signal.SIGALRM, lambda *_: frame(b'1'))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\ndef NAME(*_):\n    sum(range(100_000))\n    return 0\n",
    "a tracer": WITH_FRAMES + "import sys\ndef trace(*_):\n    frame(b'+1')\n    return trace\nsys.settrace(trace)\n"
    "sys.setprofile(trace)\ndef NAME(*_): return 0\n",
    # What is asked and answered, changed.
    "a list that holds itself": "def NAME(*_):\n    row = [1]\n    row.append(row)\n    return row\n",
    "a very deep list": "def NAME(*_):\n    row = []\n    for _ in range(100_000): row = [row]\n    return row\n",
    "emptied arguments": "def NAME(*arguments):\n    for each in arguments:\n"
    "        if hasattr(each, 'clear'): each.clear()\n    return 0.0\n",
    "arguments of zeros": "def NAME(*arguments):\n    for each in arguments:\n"
    "        if isinstance(each, list): each[:] = [0.0] * len(each)\n    return 0.0\n",
    "infinity": "def NAME(*_): return float('inf')\n",
    "not a number": "def NAME(*_): return float('nan')\n",
    "nothing": "def NAME(*_): pass\n",
    "no memory": "def NAME(*_): raise MemoryError\n",
}  # fmt: skip
