"""A clock that jumps, for kirschd alone: machines as containers share their computer's, which nobody may set.

A library stands in, which each kirschd loads first (ld.so(8), LD_PRELOAD): it adds the seconds in a file to
what CLOCK_REALTIME shows. CLOCK_MONOTONIC and CLOCK_BOOTTIME are let be, as they are when a clock is set.
"""

import subprocess

from tests.machines.trial import Trial, podman

from kirsch.cluster.provision.record import MachineRecord

FOLDER = "/etc/kirsch-clock"
DROP_IN = "/etc/systemd/system/kirschd.service.d"
# Forwards when the fault begins, and back when it ends.
JUMP = 3600
SOURCE = f"""\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile long *offset;

__attribute__((constructor)) static void begin(void) {{
    int file = open("{FOLDER}/offset", O_RDONLY);
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
}}

int clock_gettime(clockid_t which, struct timespec *at) {{
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = next(which, at);
    int jumps = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE;
    if (!failed && offset && jumps) at->tv_sec += *offset;
    return failed;
}}

int gettimeofday(struct timeval *at, void *zone) {{
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return failed;
}}

time_t time(time_t *at) {{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}}
"""


def install(trial: Trial) -> None:
    """Have every kirschd load the library, from its next start on, which is now."""
    trial.write("clock.c", SOURCE)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", "clock.so", "clock.c"], cwd=trial.folder, check=True
    )
    for machine in trial.machines:
        trial.shell(machine, f"mkdir -p {FOLDER} {DROP_IN}")
        podman("cp", str(trial.folder / "clock.so"), f"{machine.container}:{FOLDER}/clock.so")
        jump(trial, machine, 0)
        trial.shell(
            machine,
            f"printf '[Service]\\nEnvironment=LD_PRELOAD={FOLDER}/clock.so\\n' > {DROP_IN}/clock.conf; "
            "systemctl daemon-reload; systemctl restart kirschd; "
            f"grep -q {FOLDER}/clock.so /proc/$(systemctl show --property=MainPID --value kirschd)/maps",
        )
    trial.until_present()


def remove(trial: Trial) -> None:
    """Have every kirschd go by the true clock again."""
    for machine in trial.machines:
        trial.shell(
            machine,
            f"rm -r {FOLDER} {DROP_IN}/clock.conf; systemctl daemon-reload; systemctl restart kirschd",
        )
    trial.until_present()


def jump(trial: Trial, machine: MachineRecord, seconds: int) -> None:
    """Set the clock of a machine's kirschd so many seconds ahead of the true one."""
    # In place: the library has mapped the file.
    write = f"open('{FOLDER}/offset', 'r+b').write(({seconds}).to_bytes(8, 'little'))"
    trial.shell(machine, f'touch {FOLDER}/offset; /usr/bin/python3 -c "{write}"')
