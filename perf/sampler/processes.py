"""Processes on chosen CPUs that end when this one does, whatever ends it, and what the kernel
knows of them."""

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

_running = []
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """Something outside of the measurement went wrong; the message is for the user."""


def end_with_this_process():
    """Signals unwind, so that every `finally` runs; SIGINT too if the shell has it ignored."""

    def leave(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    atexit.register(end_all)


def end_all():
    """Ends what was started and still runs."""
    for process in list(_running):
        process.kill()


class Process:
    """A started program. What it says goes to the file `out` or is kept for reading, else to where
    its complaints go: the file `log`."""

    def __init__(self, command, cpus, log=None, out=None, read=False):
        self.command = [str(part) for part in command]
        self.log = log
        cpus = set(cpus)

        def prepare():
            # The kernel ends it even if this process is killed outright.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, cpus)

        stderr = open(log, "wb") if log else subprocess.DEVNULL
        stdout = open(out, "wb") if out else subprocess.PIPE if read else stderr
        try:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=prepare,
                # Ctrl-C is for this process; it ends the others in order.
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed(f"{self.command[0]} cannot be started: {error}") from None
        finally:
            for file in (stdout, stderr):
                if not isinstance(file, int):
                    file.close()
        self.pid = self.child.pid
        _running.append(self)

    def ended(self):
        return self.child.poll() is not None

    def line(self):
        """The next line that it says."""
        text = self.child.stdout.readline().decode()
        if not text:
            raise Failed(f"{self.name()} ended without a word{self.said()}")
        return text

    def rest(self):
        """All that it says until it ends."""
        text = self.child.stdout.read().decode()
        self.child.wait()
        self._forget()
        return text

    def stop(self, number=signal.SIGINT, patience=15):
        """Asks it to end, and waits; then ends it."""
        if not self.ended():
            self.child.send_signal(number)
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self):
        if not self.ended():
            self.child.kill()
        self.child.wait()
        self._forget()

    def _forget(self):
        if self in _running:
            _running.remove(self)

    def name(self):
        return os.path.basename(self.command[0])

    def said(self):
        """The end of its log, for messages."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()[-8:]
        except (OSError, TypeError):
            return ""
        return ":\n" + "\n".join(line[:400] for line in lines)

    def cpu_ns(self):
        """CPU time of all live threads."""
        total = 0
        tasks = f"/proc/{self.pid}/task"
        for task in _listed(tasks):
            try:
                with open(f"{tasks}/{task}/schedstat", encoding="ascii") as file:
                    total += int(file.read().split()[0])
            except (OSError, ValueError, IndexError):
                continue  # The thread has ended between listing and reading.
        return total

    def rss(self):
        """Resident bytes, now."""
        return self._status("VmRSS:")

    def rss_max(self):
        """Resident bytes, the most there ever were."""
        return self._status("VmHWM:")

    def _status(self, key):
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
                for row in file:
                    if row.startswith(key):
                        return int(row.split()[1]) << 10
        except OSError:
            pass
        return 0


def _listed(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def busy_seconds(cpu):
    """Time that a CPU was not idle, stolen time included."""
    with open("/proc/stat", encoding="ascii") as file:
        for row in file:
            if row.startswith(f"cpu{cpu} "):
                ticks = [int(n) for n in row.split()[1:]]
                return sum(ticks[i] for i in (0, 1, 2, 5, 6, 7)) / _TICKS
    return 0.0


def memory_available():
    """Bytes that could be had without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for row in file:
            if row.startswith("MemAvailable:"):
                return int(row.split()[1]) << 10
    return 0


def free_ports(count):
    """Ports of loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_for_port(port, process, patience=20):
    """Returns when somebody accepts there."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            pass
        if process.ended() or time.monotonic() > until:
            raise Failed(f"{process.name()} does not listen on port {port}{process.said()}")
        time.sleep(0.02)
