#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""Copies the sectors that are marked in a file from one volume to another: see ringdisk_import.py.

Both are closed. Done a second time it does the same. Prints how many bytes it has copied.
"""

import errno
import os
import re
import sys

SECTOR_BYTES = 512
SECTORS_OF_BYTE = 8
MARKS_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
# Whole bytes are found by the engine: they are nearly all that there is.
MARKED = re.compile(b"\xff+|[^\x00\xff]")


def marks_in(marks):
    """Where the file has any, in pieces; what was never marked takes no place in it."""
    size = os.fstat(marks).st_size
    at = 0
    while at < size:
        try:
            at = os.lseek(marks, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(marks, at, os.SEEK_HOLE)
        while at < end:
            piece = os.pread(marks, min(MARKS_BYTES, end - at), at)
            yield at, piece
            at += len(piece)


def sectors_in(piece):
    """Runs of marked sectors: the first, and the one behind the last."""
    for found in MARKED.finditer(piece):
        first = found.start() * SECTORS_OF_BYTE
        byte = found.group()[0]
        if byte == 0xFF:
            yield first, found.end() * SECTORS_OF_BYTE
        else:
            for bit in range(SECTORS_OF_BYTE):
                if byte >> bit & 1:
                    yield first + bit, first + bit + 1


def joined(runs):
    """Neighbours as one."""
    last = None
    for first, end in runs:
        if last and last[1] == first:
            last = (last[0], end)
        else:
            if last:
                yield last
            last = (first, end)
    if last:
        yield last


def copy(source, target, offset, end):
    while offset < end:
        piece = os.pread(source, min(PIECE_BYTES, end - offset), offset)
        if not piece:
            raise OSError(errno.EIO, "it ends at {}".format(offset))
        view = memoryview(piece)
        while view:
            written = os.pwrite(target, view, offset)
            view = view[written:]
            offset += written


def main():
    marks = os.open(sys.argv[1], os.O_RDONLY)
    # For itself: with a device that somebody has it fails.
    source = os.open(sys.argv[2], os.O_RDONLY | os.O_EXCL)
    target = os.open(sys.argv[3], os.O_RDWR | os.O_EXCL)
    copied = 0
    for at, piece in marks_in(marks):
        base = at * SECTORS_OF_BYTE
        for first, end in joined(sectors_in(piece)):
            copy(source, target, (base + first) * SECTOR_BYTES, (base + end) * SECTOR_BYTES)
            copied += (end - first) * SECTOR_BYTES
    os.fsync(target)
    print(copied)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit("compose: {}".format(error))
