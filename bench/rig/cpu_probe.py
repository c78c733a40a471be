#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time of dom0, of a guest and of dom0's processes, at the moments that the guest marks.

usage: cpu_probe.py DOMID

The guest writes its node data/rig/mark; each time a line of JSON says the mark, the nanoseconds
that Xen ran dom0 and the guest (exact, unlike the kernel's ticks), and those of every process of
dom0 by its scheduler's count, keyed "pid name". Python, because Xen ships its bindings for it.
"""
import glob
import json
import os
import sys

sys.path[:0] = glob.glob("/usr/lib/xen-*/lib/python")
from xen.lowlevel import xc, xs  # noqa: E402 (the path comes first)


def domain_ns(control, domid):
    return control.domain_getinfo(domid, 1)[0]["cpu_time"]


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:  # it ended meanwhile
        return ""


def task_ns(path):
    return int((read(path).split() or ["0"])[0])


def process_ns():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        tasks = glob.glob(f"/proc/{pid}/task/*/schedstat")
        used = sum(task_ns(task) for task in tasks)
        if used:
            found[f"{pid} {read(f'/proc/{pid}/comm')}"] = used
    return found


def main():
    domid = int(sys.argv[1])
    control, store = xc.xc(), xs.xs()
    node = f"/local/domain/{domid}/data/rig/mark"
    store.watch(node, "mark")
    while True:
        store.read_watch()
        # Taken on both sides of looking at the processes, which costs dom0 time by itself.
        first = domain_ns(control, 0), domain_ns(control, domid)
        mark = store.read("", node)
        processes = process_ns()
        last = domain_ns(control, 0), domain_ns(control, domid)
        if mark:
            line = {"mark": mark.decode(), "first": first, "last": last, "processes": processes}
            print(json.dumps(line), flush=True)


main()
