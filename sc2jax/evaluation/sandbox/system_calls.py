"""Which system calls a contained process may make, as two seccomp programs for this machine.

What is not named fails as in a kernel that has no such call, so what a newer kernel adds is refused too. What a program
has no honest use for kills it; what it may try and go on without fails with EPERM.
"""

import errno
import os
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sc2jax.errors import UserError

if TYPE_CHECKING:
    import pyseccomp

OWN_PROCESS_MARK = 0x5C2A0B57
"""Stands in the programs for the number of the contained process, which is put there when it is known."""

_FILES = """
access chdir close close_range copy_file_range dup dup2 dup3 faccessat faccessat2 fadvise64 fchdir fdatasync flock
fstat fstatfs fsync ftruncate getcwd getdents getdents64 lseek lstat newfstatat open openat openat2 pipe pipe2 pread64
preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv sendfile stat statfs statx
sync_file_range umask write writev
"""
_ATTRIBUTES = "fgetxattr flistxattr getxattr lgetxattr listxattr llistxattr"
_CHANGES = """
chmod chown creat fallocate fchmod fchmodat fchmodat2 fchown fchownat fremovexattr fsetxattr futimesat lchown link
linkat lremovexattr lsetxattr mkdir mkdirat mknod mknodat removexattr rename renameat renameat2 rmdir setxattr symlink
symlinkat syncfs truncate unlink unlinkat utime utimensat utimes
"""
_MEMORY = """
brk get_mempolicy madvise mbind membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall
munmap pkey_alloc pkey_free pkey_mprotect set_mempolicy
"""
_WAITING = """
alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2
epoll_wait eventfd eventfd2 futex futex_waitv getitimer gettimeofday nanosleep pause poll ppoll pselect6 select
setitimer signalfd signalfd4 time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime times
"""
_PROCESS = """
arch_prctl capget exit exit_group get_robust_list getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid gettid getuid restart_syscall rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_yield set_robust_list set_tid_address setfsgid setfsuid setgid setpgid setregid setresgid
setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo uname wait4 waitid
"""
_SOCKET_PAIRS = """
accept accept4 getpeername getsockname getsockopt recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt
shutdown
"""
_OTHER_PROCESSES = (
    "execve execveat fork vfork kill pidfd_open pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo tgkill tkill"
)

_KILLED = """
_sysctl acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module fsconfig fsmount fsopen
fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl mount mount_setattr move_mount open_by_handle_at
open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev
ptrace query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday swapoff
swapon umount umount2 unshare uselib userfaultfd vhangup
"""
_REFUSED = """
adjtimex bind capset chroot connect fanotify_init fanotify_mark inotify_add_watch inotify_init inotify_init1 io_cancel
io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioprio_set
landlock_add_rule landlock_create_ruleset landlock_restrict_self listen lookup_dcookie memfd_create memfd_secret
migrate_pages modify_ldt move_pages mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl
msgget msgrcv msgsnd name_to_handle_at nfsservctl personality sched_setattr sched_setparam sched_setscheduler seccomp
semctl semget semop semtimedop setgroups shmat shmctl shmdt shmget socket sync syslog
"""

_KILLS = ("kill", "tgkill")

_CLONE_THREAD = 0x00010000
_CLONE_NEW = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_PRCTL = (2, 3, 7, 14, 15, 16, 21, 23, 27, 30, 38, 39, 41, 42, 0x53564D41)
"""Names, what only asks, and no new privileges: never the parent's death, dumping, capabilities, or memory layout."""
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2: nothing changes a file, or tells of networks."""
_FCNTL = (*range(8), 9, 36, 37, 38, 1030, 1031, 1032)
"""Descriptors, flags, locks and the size of pipes: never leases, notices of others' accesses, or signals to others."""
_RLIMIT_CORE = 4
_AF_UNIX = 1
_CONNECTED = (1, 5)  # SOCK_STREAM, SOCK_SEQPACKET
_SOCK_NONBLOCK, _SOCK_CLOEXEC = 0x800, 0x80000
_LOW = 0xFFFFFFFF  # the kernel looks at these bits of an int alone


def compile_filters(*, own_container: bool) -> list[bytes]:
    """The programs in the order in which they are installed.

    Args:
        own_container: whether the contained process is alone in its namespaces: it may start others, signal them, and
            write files. Elsewhere it may do nothing of that, since Landlock leaves some changes of files free.

    Raises:
        UserError: libseccomp is not installed.
    """
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"the sandbox's filter of system calls cannot be made ({error}); install pyseccomp and libseccomp2"
        ) from error
    more = [] if own_container else [_alone()]
    return [_refusals(), *more, _allowed(own_container)]


def _allowed(own_container: bool) -> bytes:
    """What is possible at all."""
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    allowed, refused = _FILES + _MEMORY + _WAITING + _PROCESS + _SOCKET_PAIRS, _REFUSED
    if own_container:
        allowed += _CHANGES + _ATTRIBUTES + " " + _OTHER_PROCESSES
    else:
        refused += _CHANGES + _ATTRIBUTES + " " + _OTHER_PROCESSES
    for action, names in ((seccomp.ALLOW, allowed), (seccomp.ERRNO(errno.EPERM), refused)):
        for name in _known(names.split()):
            if own_container or name not in _KILLS:
                rules.add_rule(action, name)
    rules.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, sum(_CLONE_NEW), 0))
    for kind in _CONNECTED:  # one of datagrams can send to any name, and no rule sees the name
        for flags in (0, _SOCK_NONBLOCK, _SOCK_CLOEXEC, _SOCK_NONBLOCK | _SOCK_CLOEXEC):
            pair = seccomp.Arg(0, seccomp.EQ, _AF_UNIX), seccomp.Arg(1, seccomp.EQ, kind | flags)
            rules.add_rule(seccomp.ALLOW, "socketpair", *pair)
    for name in ("prlimit64", "sched_setaffinity"):
        rules.add_rule(seccomp.ALLOW, name, seccomp.Arg(0, seccomp.EQ, 0))
    rules.add_rule(seccomp.ALLOW, "setpriority", seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(1, seccomp.EQ, 0))
    for name, commands in (("ioctl", _IOCTL), ("fcntl", _FCNTL)):
        for command in commands:
            rules.add_rule(seccomp.ALLOW, name, seccomp.Arg(1, seccomp.MASKED_EQ, _LOW, command))
    for option in _PRCTL:
        rules.add_rule(seccomp.ALLOW, "prctl", seccomp.Arg(0, seccomp.EQ, option))
    if not own_container:
        for name in _KILLS:  # to whom, the program before says
            rules.add_rule(seccomp.ALLOW, name)
    return _export(rules)


def _refusals() -> bytes:
    """What kills, and what is refused by its arguments although the call is allowed."""
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _known(_KILLED.split()):
        rules.add_rule(seccomp.KILL_PROCESS, name)
    for flag in _CLONE_NEW:
        rules.add_rule(seccomp.KILL_PROCESS, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # A limit of 0 would send a core dump to the machine's crash handler, a limit of 1 does not: coredump.c.
    rules.add_rule(refuse, "setrlimit", seccomp.Arg(0, seccomp.MASKED_EQ, _LOW, _RLIMIT_CORE))
    core, new = seccomp.Arg(1, seccomp.MASKED_EQ, _LOW, _RLIMIT_CORE), seccomp.Arg(2, seccomp.NE, 0)
    rules.add_rule(refuse, "prlimit64", core, new)
    return _export(rules)


def _alone() -> bytes:
    """Refuses new processes, and signals to others."""
    import pyseccomp as seccomp

    rules, refuse = seccomp.SyscallFilter(seccomp.ALLOW), seccomp.ERRNO(errno.EPERM)
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    rules.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    for name in _KILLS:
        rules.add_rule(refuse, name, seccomp.Arg(0, seccomp.NE, OWN_PROCESS_MARK))
    return _export(rules)


def _known(names: Iterable[str]) -> list[str]:
    """Those that this processor has, and that the installed libseccomp knows."""
    import pyseccomp as seccomp

    return [name for name in names if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0]


def _export(rules: "pyseccomp.SyscallFilter") -> bytes:
    with tempfile.TemporaryFile() as stream:
        rules.export_bpf(stream)
        return os.pread(stream.fileno(), 1 << 20, 0)
