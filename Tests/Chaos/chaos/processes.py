"""Child processes that end with this one, however it ends, and the tools that the harness compiles."""

import ctypes
import os
import signal
import subprocess

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools")
# `setpriv` is part of util-linux: what it starts gets SIGKILL when the thread that started it ends. Start only from the main thread.
TIED = ["setpriv", "--pdeathsig", "KILL", "--"]
PR_SET_CHILD_SUBREAPER = 36
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


def run(*command, check=True, **options):
    """Runs a command to its end; what it says becomes part of the failure."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    if check and result.returncode != 0:
        said = (result.stderr + result.stdout).strip()
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}: {said[-800:]}")
    return result


def adopt_orphans():
    """Makes grandchildren ours when their parents end, so that none can hide."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children():
    """The processes that descend from this one."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(name)] = int(fields[1])
    found, added = set(), True
    while added:
        added = [child for child, parent in parents.items() if child not in found and (parent == os.getpid() or parent in found)]
        found.update(added)
    return found


def may(capability):
    """Whether this process has a capability; root in a container may lack it."""
    with open("/proc/self/status") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return int(effective, 16) >> capability & 1 == 1


def stop_on_signals():
    """Turns SIGTERM, SIGHUP and SIGALRM into the exception that Ctrl-C raises, so that everything is tidied up."""
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    signal.signal(signal.SIGALRM, interrupt)


def compile_disk_faults(directory):
    """Compiles the library for LD_PRELOAD."""
    path = os.path.join(directory, "disk_faults.so")
    source = os.path.join(TOOLS, "disk_faults.c")
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", path, source)
    return path


def compile_power_cut(directory):
    """Compiles the file system."""
    path = os.path.join(directory, "power_cut")
    flags = run("pkg-config", "--cflags", "--libs", "fuse3").stdout.split()
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, os.path.join(TOOLS, "power_cut.c"), *flags)
    return path
