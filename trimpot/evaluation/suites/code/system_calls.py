"""A filter of system calls for the process that runs a model's program: no files written, no network, no process."""

from __future__ import annotations

import platform
import struct
import sys

# name, number on x86_64, number on aarch64 (None: the machine has no such call). Source: Linux 6.1 unistd_64.h and
# asm-generic/unistd.h; a test compares them with the headers of the machine it runs on.
REFUSED: tuple[tuple[str, int | None, int | None], ...] = (
    # network
    *(("accept", 43, 202), ("accept4", 288, 242), ("bind", 49, 200), ("connect", 42, 203), ("listen", 50, 201)),
    *(("sendmmsg", 307, 269), ("sendmsg", 46, 211), ("sendto", 44, 206), ("socket", 41, 198)),
    *(("socketpair", 53, 199),),
    # processes
    *(("clone", 56, 220), ("fork", 57, None), ("vfork", 58, None), ("execve", 59, 221), ("execveat", 322, 281)),
    *(("kill", 62, 129), ("tkill", 200, 130), ("tgkill", 234, 131), ("rt_sigqueueinfo", 129, 138)),
    *(("rt_tgsigqueueinfo", 297, 240), ("pidfd_getfd", 438, 438), ("pidfd_open", 434, 434)),
    *(("pidfd_send_signal", 424, 424), ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271)),
    *(("ptrace", 101, 117), ("setpgid", 109, 154), ("setsid", 112, 157), ("setpriority", 141, 140)),
    # files
    *(("chmod", 90, None), ("chown", 92, None), ("creat", 85, None), ("fchmod", 91, 52), ("fchmodat", 268, 53)),
    *(("fchmodat2", 452, 452), ("fchown", 93, 55), ("fchownat", 260, 54), ("ftruncate", 77, 46)),
    *(("lchown", 94, None), ("link", 86, None), ("linkat", 265, 37), ("mkdir", 83, None), ("mkdirat", 258, 34)),
    *(("mknod", 133, None), ("mknodat", 259, 33), ("rename", 82, None), ("renameat", 264, 38)),
    *(("renameat2", 316, 276), ("rmdir", 84, None), ("symlink", 88, None), ("symlinkat", 266, 36)),
    *(("truncate", 76, 45), ("unlink", 87, None), ("unlinkat", 263, 35), ("utime", 132, None)),
    *(("utimensat", 280, 88), ("utimes", 235, None), ("futimesat", 261, None), ("setxattr", 188, 5)),
    *(("lsetxattr", 189, 6), ("fsetxattr", 190, 7), ("removexattr", 197, 14), ("lremovexattr", 198, 15)),
    *(("fremovexattr", 199, 16), ("open_by_handle_at", 304, 265)),
    # shared memory and queues
    *(("mq_open", 240, 180), ("msgget", 68, 186), ("semget", 64, 190), ("shmget", 29, 194)),
    # the machine
    *(("bpf", 321, 280), ("chroot", 161, 51), ("clock_settime", 227, 112), ("delete_module", 176, 106)),
    *(("finit_module", 313, 273), ("init_module", 175, 105), ("kexec_load", 246, 104), ("mount", 165, 40)),
    *(("mount_setattr", 442, 442), ("move_mount", 429, 429), ("open_tree", 428, 428), ("fsopen", 430, 430)),
    *(("perf_event_open", 298, 241), ("personality", 135, 92), ("pivot_root", 155, 41), ("reboot", 169, 142)),
    *(("setdomainname", 171, 162), ("sethostname", 170, 161), ("setns", 308, 268), ("setrlimit", 160, 164)),
    *(("settimeofday", 164, 170), ("swapoff", 168, 225), ("swapon", 167, 224), ("umount2", 166, 39)),
    *(("unshare", 272, 97), ("userfaultfd", 323, 282), ("add_key", 248, 217), ("keyctl", 250, 219)),
    ("request_key", 249, 218),
)
ABSENT = (("clone3", 435, 435), ("io_setup", 206, 0), ("io_uring_setup", 425, 425), ("openat2", 437, 437))
"""Calls whose arguments a filter cannot read; they say that they do not exist, and callers take the older ones."""
OPENS = (("open", 2, None, 1), ("openat", 257, 56, 2))
"""name, numbers, place of the flags among the arguments: refused if the file would be written or made."""
LIMITS = ("prlimit64", 302, 261)
"""Refused if it sets a limit (its third argument is a pointer), not if it reads one."""

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column above and its number in ``linux/audit.h``."""
WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld [k], jeq, jge, jset, ret
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # places in struct seccomp_data
_X32 = 0x40000000


def filter_program(machine: str | None = None) -> bytes:
    """A BPF program for ``prctl(PR_SET_SECCOMP)``: an array of ``struct sock_filter``; empty where there is none.

    Args:
        machine: as ``platform.machine()`` names it; None: this one, and none outside Linux.
    Edge cases: calls of another architecture (32-bit ones on x86_64) end the process.
    Source: Linux ``Documentation/userspace-api/seccomp_filter.rst``; which calls are refused is ours.
    """
    if machine is None:
        machine = platform.machine() if sys.platform == "linux" else ""
    if machine not in MACHINES:
        return b""
    column, architecture = MACHINES[machine]
    program = [
        *((_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)),
        *((_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)),
    ]
    for calls, error in ((REFUSED, _EPERM), (ABSENT, _ENOSYS)):
        for _, *numbers in calls:
            number = numbers[column]
            if number is not None:
                program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | error)]
    for _, x86_64, aarch64, place in OPENS:
        number = (x86_64, aarch64)[column]
        if number is not None:
            program += _if_called(number, [(_LOAD, 0, 0, _ARGUMENTS + 8 * place), (_ANY_BIT, 0, 1, WRITING), _REFUSE])
    pointer = _ARGUMENTS + 8 * 2
    low, high = [(_LOAD, 0, 0, pointer), (_EQUAL, 1, 0, 0), _REFUSE], [(_LOAD, 0, 0, pointer + 4), (_EQUAL, 1, 0, 0)]
    _, *numbers_of_limits = LIMITS
    program += _if_called(numbers_of_limits[column], [*low, *high, _REFUSE])
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


_REFUSE = (_RETURN, 0, 0, _ERROR | _EPERM)


def _if_called(number: int, body: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Runs ``body`` for one call and allows what it does not refuse; the accumulator holds another call's number."""
    body = [*body, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]
