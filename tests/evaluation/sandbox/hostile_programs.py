"""Programs that try to get out of the sandbox, to harm the machine, or to learn what they must not know.

Each runs inside with `attempt(what, call)`, which notes a call that succeeded where none should; a program that is
contained notes nothing. `canary` is a file of the machine that everybody may read and write, in a folder that everybody
may change; `hidden` are other files that the machine has, `host` is the number of the process that opened the sandbox,
`rung` is the sandbox's.
"""

PRELUDE = """
import ctypes, errno, os, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
escapes = []

def attempt(what, call, *arguments):
    try:
        value = call(*arguments)
    except (OSError, ValueError):
        return None
    escapes.append(f"{what}: {value!r}"[:200])
    return value

def system_call(number, *arguments):
    libc.syscall.restype = ctypes.c_long
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def run_code(code):
    import mmap
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long)(address)()
"""

# What only names a file's content, if it can be read.
_READ = """
for path in [canary, *hidden, "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/machine-id", "/proc/self/environ"]:
    attempt(f"read {path}", lambda: open(path, "rb").read(100))
"""

PROGRAMS = {
    # Too much of something.
    "fork bomb": """
made = 0
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        if os.fork() == 0:
            time.sleep(100)
        made += 1
    except OSError:
        time.sleep(0.01)
if made > limits["processes"]:
    escapes.append(f"{made} processes")
""",
    "fork bomb without end": """
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "thread bomb": """
import threading
made = 0
try:
    while made < 100_000:
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        made += 1
except BaseException:
    pass
if made > 5 * limits["processes"]:
    escapes.append(f"{made} threads")
""",
    "memory of one process": """
held = []
try:
    while True:
        held.append(bytearray(16 << 20))
except MemoryError:
    pass
if len(held) * 16 << 20 > limits["memory_bytes"]:
    escapes.append("memory")
""",
    "memory of many processes": """
for _ in range(6):
    if os.fork() == 0:
        try:
            held = bytearray(limits["memory_bytes"] // 2)
        except MemoryError:
            pass
        time.sleep(100)
time.sleep(20)
escapes.append("three times the memory")
""",
    "memory that hides behind short-lived siblings": """
if os.fork() == 0:
    if os.fork() == 0:
        for _ in range(3):
            if os.fork() == 0:
                held = bytearray(limits["memory_bytes"] // 2)
                time.sleep(100)
    os._exit(0)
end = time.monotonic() + 20
while time.monotonic() < end:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
escapes.append("one and a half times the memory")
""",
    "memory of a file without a name": """
attempt("memfd", os.memfd_create, "x")
attempt("memfd_secret", system_call, 447, 0)
""",
    "shared memory and queues": """
import mmap
attempt("shmget", system_call, 29, 0, 1 << 20, 0o1600)
attempt("semget", system_call, 64, 0, 4, 0o1600)
attempt("msgget", system_call, 68, 0, 0o1600)
attempt("mq_open", system_call, 240, b"queue", 0o102, 0o600, None)
attempt("/dev/shm", open, "/dev/shm/x", "wb")
""",
    "disk": """
written = 0
try:
    for number in range(1000):
        with open(f"big{number}", "wb", buffering=0) as stream:
            for _ in range(64):
                written += stream.write(bytes(1 << 20))
except OSError:
    pass
if written > limits["disk_bytes"]:
    escapes.append(f"{written} bytes")
""",
    "files without end": """
made = 0
try:
    for number in range(200_000):
        os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError:
    pass
if made > 10_000:
    escapes.append(f"{made} files")
""",
    "a file with a hole": """
def with_a_hole(grow, *arguments):
    descriptor = os.open("hole", os.O_CREAT | os.O_RDWR)
    grow(descriptor, *arguments)

attempt("truncate", with_a_hole, os.ftruncate, 1 << 40)
attempt("fallocate", with_a_hole, os.posix_fallocate, 0, 1 << 34)

""",
    "descriptors": """
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
if len(opened) > limits["open_files"]:
    escapes.append(f"{len(opened)} descriptors")
""",
    "output without end": """
block = b"x" * (1 << 16)
end = time.monotonic() + 1
while time.monotonic() < end:
    os.write(1, block)
    os.write(2, block)
""",
    "frames without end": """
while True:
    os.write(4, b"\\0\\0\\0\\1x" * 1000)
""",
    "a frame of 4 GiB": """
os.write(4, b"\\xff\\xff\\xff\\xff")
while True:
    os.write(4, bytes(1 << 16))
""",
    "half a frame": """
os.write(4, b"\\0\\0\\0\\x10half")
time.sleep(100)
""",
    "never reads": "time.sleep(100)",
    "closes its pipes": """
os.close(3)
os.close(4)
time.sleep(100)
""",
    "exits at once": "os._exit(0)",
    "zombies": """
for _ in range(1000):
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError:
        time.sleep(0.001)
""",
    "timers and pending signals": """
made = 0
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
try:
    while made < 100_000:
        system_call(222, 1, None, ctypes.create_string_buffer(8))
        made += 1
except OSError:
    pass
if made > 1000:
    escapes.append(f"{made} timers")
""",
    # To learn something.
    "secrets in the environment": """
if os.environ:
    escapes.append(repr(dict(os.environ)))
environment = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
if environment and environment[0]:
    escapes.append(repr(environment[0]))
attempt("environ", lambda: open("/proc/self/environ").read())
attempt("environ of 1", lambda: open("/proc/1/environ").read())
""",
    "files of the machine": _READ,
    "files by other names": """
import glob
for path in ("/..", "/../..", "/tmp/../..", "."):
    attempt(path, lambda: open(path + canary, "rb").read())
for pattern in ("/home/*", "/var/*", "/root/.bash*", "/*/*.jsonl", "/sys/*", "/proc/*", "/run/*", "/mnt/*"):
    if found := glob.glob(pattern):
        escapes.append(f"{found[:3]}")
""",
    "the machine's processes": """
attempt("/proc", os.listdir, "/proc")
attempt("/sys", os.listdir, "/sys")
for name in ("self/maps", "1/root/etc/passwd", f"{host}/mem", f"{host}/fd", "kcore", "sys/kernel/core_pattern"):
    attempt(name, os.open, f"/proc/{name}", os.O_RDONLY)
""",
    "inherited descriptors": """
for descriptor in range(5, 4096):
    attempt(f"descriptor {descriptor}", os.fstat, descriptor)
for descriptor in range(5):
    attempt(f"from {descriptor}", lambda: os.open("..", os.O_RDONLY, dir_fd=descriptor))
    attempt(f"entry from {descriptor}", lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=descriptor))
    attempt(f"socket {descriptor}", lambda: socket.socket(fileno=os.dup(descriptor)).getpeername())
""",
    "the judge in its own memory": """
import gc
def texts():
    for each in gc.get_objects():
        if isinstance(each, dict):
            yield from (value for value in list(each.values()) if isinstance(value, (str, bytes)))
for text in list(texts()):
    if ("the secret " + "of the judge" if isinstance(text, str) else b"the secret " + b"of the judge") in text:
        escapes.append("a secret of the host's process")
""",
    "watching files": """
attempt("inotify", system_call, 253)
attempt("fanotify", system_call, 300, 0, 0)
""",
    "keyrings": "attempt('keyctl', system_call, 250, 0, -3, 0)",
    "kernel log": "attempt('syslog', system_call, 103, 3, ctypes.create_string_buffer(100), 100)",
    # The network.
    "network": """
streams = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_VSOCK]
kinds = [(family, socket.SOCK_STREAM) for family in streams] + [(socket.AF_INET, socket.SOCK_DGRAM)]
kinds += [(socket.AF_NETLINK, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW)]
for family, kind in [*kinds, (socket.AF_ALG, socket.SOCK_SEQPACKET)]:
    attempt(f"socket {family}", socket.socket, family, kind)
""",
    "sockets with abstract names": """
def connect():
    ours, _ = socket.socketpair()
    ours.connect(abstract)
attempt("connect", connect)
attempt("bind", lambda: socket.socketpair()[0].bind("\\0mine"))
def datagram():
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendto(b"out", abstract + "-datagrams")
attempt("send", datagram)
attempt("pair of datagrams", socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
""",
    "name service": "attempt('resolve', socket.getaddrinfo, 'localhost', 80)",
    # Other processes.
    "kills its parents": """
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGINT):
    for process in (1, os.getppid()):
        try:
            os.kill(process, number)
        except OSError:
            pass
time.sleep(0.05)
attempt("host", os.kill, host, 0)
""",
    "kills everything": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for process in (-1, 0, host, -host):
    if process or rung < 3:
        try:
            os.kill(process, signal.SIGTERM)
        except OSError:
            pass
for process in range(3, 40_000) if rung < 3 else range(2, 40_000):
    if process != os.getpid():
        attempt(f"kill {process}", os.kill, process, signal.SIGKILL)
""",
    "signals by other ways": """
import fcntl
reading, writing = os.pipe()
attempt("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(host), 0))
attempt("sigqueue", system_call, 129, host, 0, ctypes.create_string_buffer(128))
attempt("tkill", system_call, 200, host, 0)
attempt("tgkill", system_call, 234, host, host, 0)
attempt("owner", fcntl.fcntl, reading, fcntl.F_SETOWN, host)
attempt("signal", fcntl.fcntl, reading, 10, signal.SIGKILL)
attempt("owner by ioctl", fcntl.ioctl, socket.socketpair()[0], 0x8901, struct.pack("i", host))
""",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(100)",
    "kills itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "ignores every signal": """
for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
time.sleep(100)
""",
    "daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(0.05)
            try:
                open(canary, "a").write("x")
            except OSError:
                pass
    os._exit(0)
os._exit(0)
""",
    "ptrace": "attempt('ptrace', system_call, 101, 16, os.getppid(), 0, 0)",
    "ptrace of itself": "attempt('ptrace', system_call, 101, 0, 0, 0, 0)",
    "memory of other processes": """
buffer = ctypes.create_string_buffer(16)
vector = struct.pack("QQ", ctypes.addressof(buffer), 16)
attempt("process_vm_readv", system_call, 310, os.getppid(), vector, 1, vector, 1, 0)
""",
    "writes into other processes": "attempt('process_vm_writev', system_call, 311, 1, None, 0, None, 0, 0)",
    "descriptors of other processes": "attempt('pidfd_getfd', system_call, 438, system_call(434, 1, 0), 0, 0)",
    "limits of other processes": """
attempt("prlimit of the first", system_call, 302, 1, 7, struct.pack("QQ", 0, 0), None)
attempt("prlimit of the parent", system_call, 302, os.getppid(), 9, struct.pack("QQ", 0, 0), None)
attempt("cores of the parent", os.sched_setaffinity, os.getppid(), {0})
attempt("priority", os.setpriority, os.PRIO_PROCESS, 1, 19)
attempt("priority of all", os.setpriority, os.PRIO_USER, 0, 19)
""",
    # More rights.
    "becomes root": """
for call in (os.setuid, os.setgid, os.seteuid):
    attempt(call.__name__, call, 0)
attempt("groups", os.setgroups, [0])
attempt("capset", system_call, 126, struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 1 << 21, 1 << 21, 0, 0, 0, 0))
if os.getuid() == 0 or os.geteuid() == 0:
    escapes.append("is root")
""",
    "capabilities": """
header, sets = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
system_call(125, header, sets)
if any(sets.raw):
    escapes.append(f"capabilities {sets.raw!r}")
if libc.prctl(39, 0, 0, 0, 0) != 1:
    escapes.append("may gain privileges")
""",
    "setuid files": """
for path in ("/bin/su", "/usr/bin/sudo", "/usr/bin/passwd", "/usr/bin/bwrap", "/usr/bin/newuidmap"):
    attempt(path, os.execv, path, [path])
def setuid_file():
    with open("own", "wb") as stream:
        stream.write(open(sys.executable, "rb").read(1 << 16))
    os.chmod("own", 0o6755)
    if os.statvfs(".").f_flag & os.ST_NOSUID:
        raise OSError("nosuid")
attempt("own", setuid_file)
""",
    "mount": "attempt('mount', system_call, 165, b'x', b'/tmp', b'tmpfs', 0, None)",
    "unmount": "attempt('umount', system_call, 166, b'/tmp', 2)",
    "new mounts": "attempt('open_tree', system_call, 428, -100, b'/', 1)",
    "file handles": """
attempt("name_to_handle_at", system_call, 303, -100, b"/", ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 200),
        ctypes.create_string_buffer(8), 0)
attempt("open_by_handle_at", system_call, 304, 3, ctypes.create_string_buffer(200), 0)
""",
    "new namespaces": "attempt('unshare', system_call, 272, 0x10000000)",
    "other namespaces": "attempt('setns', system_call, 308, 3, 0)",
    "new namespaces by clone": "attempt('clone', system_call, 56, 0x10000000 | 17, 0, 0, 0, 0)",
    "new namespaces by clone3": """
attempt("clone3", system_call, 435, struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
""",
    "chroot": "attempt('chroot', os.chroot, '/tmp')",
    "pivot_root": "attempt('pivot_root', system_call, 155, b'/tmp', b'/tmp')",
    "devices": """
attempt("mknod", os.mknod, "disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))
attempt("mknod of memory", os.mknod, "mem", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
for name in ("vda", "sda", "mem", "kvm", "fuse", "tty", "ptmx", "console", "kmsg", "net/tun"):
    attempt(name, os.open, f"/dev/{name}", os.O_RDONLY)
""",
    "terminal input": """
import fcntl
for descriptor in range(5):
    attempt(f"TIOCSTI {descriptor}", fcntl.ioctl, descriptor, 0x5412, b"x")
    attempt(f"TIOCSTI with more bits {descriptor}", system_call, 16, descriptor, 0x1_0000_5412, b"x")
""",
    "i386 system calls": """
run_code(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # getpid by int 0x80
escapes.append("int 0x80")
""",
    "x32 system calls": "attempt('x32', system_call, 0x40000000 | 39)",
    "io_uring": "attempt('io_uring', system_call, 425, 8, ctypes.create_string_buffer(120))",
    "bpf": "attempt('bpf', system_call, 321, 0, ctypes.create_string_buffer(72), 72)",
    "userfaultfd": "attempt('userfaultfd', system_call, 323, 1)",
    "perf": "attempt('perf', system_call, 298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "kexec": "attempt('kexec', system_call, 246, 0, 0, None, 0)",
    "modules": "attempt('module', system_call, 175, b'', 0, b'')",
    "clock": "attempt('clock', time.clock_settime, time.CLOCK_REALTIME, 0)",
    "personality": "attempt('personality', system_call, 135, 0x0040000)",
    "reboot": "attempt('reboot', system_call, 169, 0xfee1dead, 672274793, 0x89abcdef, 0)",
    "host name": "attempt('host name', socket.sethostname, 'owned')",
    "raises limits": """
import resource
for name in ("RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_MEMLOCK"):
    number = getattr(resource, name)
    soft, hard = resource.getrlimit(number)
    attempt(name, resource.setrlimit, number, (hard + 1, hard + 1))
attempt("no limit of core", resource.setrlimit, resource.RLIMIT_CORE, (0, 0))
attempt("no limit of core, newer call", system_call, 302, 0, 4, struct.pack("QQ", 0, 0), None)
""",
    "priority": """
attempt("nice", os.nice, -5)
attempt("real time", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
attempt("ioprio", system_call, 251, 1, 0, 1 << 13)
""",
    "outlives its parent": """
attempt("no death with the parent", system_call, 157, 1, 0, 0, 0, 0)
attempt("dumpable", system_call, 157, 4, 0, 0, 0, 0)
""",
    "core dump": """
os.chdir("/tmp" if rung < 3 else "/")
os.abort()
""",
    # Changing files.
    "writes outside": """
for folder in ("/", "/usr", "/usr/lib", "/etc", "/dev", "/root", os.path.dirname(canary), os.path.dirname(os.__file__)):
    attempt(folder, open, folder + "/written", "w")
    attempt(f"folder {folder}", os.mkdir, folder + "/made")
for mode in ("w", "a", "r+"):
    attempt(f"canary {mode}", open, canary, mode)
attempt("truncate", os.truncate, canary, 0)
attempt("interpreter", open, os.__file__, "a")
""",
    "rights and times of files": """
for path in (canary, os.path.dirname(canary), "/", os.__file__, "/dev/null"):
    attempt(f"chmod {path}", os.chmod, path, 0o777)
    attempt(f"utime {path}", os.utime, path, (0, 0))
    attempt(f"chown {path}", os.chown, path, os.getuid(), os.getgid())
    attempt(f"setxattr {path}", os.setxattr, path, "user.x", b"x")
""",
    "removes and renames": """
attempt("unlink", os.unlink, canary)
attempt("rename", os.rename, canary, canary + ".moved")
attempt("rmdir", os.rmdir, os.path.dirname(canary))
attempt("rename of the root", os.rename, "/usr", "/tmp/usr")
""",
    "symbolic links": """
def through(path):
    try:
        os.symlink(path, "link")
    except OSError:
        return
    try:
        attempt(f"read through a link to {path}", lambda: open("link", "rb").read(10))
        attempt(f"write through a link to {path}", open, "link", "a")
    finally:
        os.unlink("link")
for path in (canary, "../../../.." + canary, "/proc/1/root", "/proc/self/exe", os.__file__ + "x"):
    through(path) if path != os.__file__ + "x" else None
""",
    "hard links": """
for path in (canary, "/etc/passwd", os.__file__, "/dev/null"):
    attempt(f"link to {path}", os.link, path, "hard")
    attempt(f"link beside {path}", os.link, path, os.path.dirname(canary) + "/hard")
""",
    "replaces the interpreter": """
import importlib
folder = os.path.dirname(os.__file__)
attempt("module", open, folder + "/json/__init__.py", "w")
attempt("bytecode", open, folder + "/__pycache__/os.cpython-311.pyc", "wb")
attempt("executable", open, sys.executable, "r+b")
attempt("package", os.mkdir, folder + "/site-packages/fake")
""",
}
