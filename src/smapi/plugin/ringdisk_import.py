#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""An export's client that XAPI hands over: the other end of another host's NBD client.

Listens on a socket until XAPI connects and sends a descriptor with SCM_RIGHTS, and carries what
comes from there to the daemon's socket and back, until one of them ends. Another host's tapdisk
does not know our export's name and asks for one of its own, so in the negotiation it is put right.
What is written it marks in a file before it is written, a bit for each sector: Volume.compose needs
to know, and only whoever sees the requests can tell a zero that was written from none.
"""

import array
import os
import socket
import struct
import sys
import threading

# XAPI connects as soon as it has been told of the socket.
PATIENCE_SECONDS = 60
PIECE_BYTES = 256 * 1024
OPTION_MAGIC = b"IHAVEOPT"
OPTION_BYTES_MAX = 16 * 1024
GREETING_BYTES = 18
EXPORT_NAME = 1
# Begin with the length of the name, and the name.
NAMED = (6, 7, 9, 10)

REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
WRITE = 1
# Trim, and write zeroes: the content changes, and nothing comes with them.
CHANGING = (WRITE, 4, 6)
SECTOR_BYTES = 512


class Broken(Exception):
    """Somebody has ended, or does not speak NBD."""


def take_descriptor(path):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o177)
    server.bind(path)
    server.listen(1)
    server.settimeout(PATIENCE_SECONDS)
    print("ready", flush=True)
    # Whoever has asked need not wait for our end.
    sys.stdout.close()
    os.close(1)
    try:
        control = server.accept()[0]
    finally:
        os.unlink(path)
        server.close()
    control.settimeout(PATIENCE_SECONDS)
    found = array.array("i")
    _, ancillary, _, _ = control.recvmsg(4096, socket.CMSG_SPACE(8 * found.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    control.close()
    for other in found[1:]:
        os.close(other)
    if not found:
        raise Broken("no descriptor has come")
    # Of whatever family it is: what is done with it is the same.
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=found[0])
    client.setblocking(True)
    return client


def read_exactly(peer, length):
    pieces = []
    while length > 0:
        piece = peer.recv(min(length, PIECE_BYTES))
        if not piece:
            raise Broken("the end came too early")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def renamed(option, data, name):
    if option == EXPORT_NAME:
        return name
    if option not in NAMED or len(data) < 4:
        return data
    rest = data[4 + struct.unpack(">I", data[:4])[0] :]
    return struct.pack(">I", len(name)) + name + rest


def pass_options(client, server, name):
    """Up to the first request; what has been read of that."""
    server.sendall(read_exactly(client, 4))
    while True:
        head = read_exactly(client, 8)
        if head != OPTION_MAGIC:
            return head
        option, length = struct.unpack(">II", read_exactly(client, 8))
        if length > OPTION_BYTES_MAX:
            raise Broken("an option is too long")
        data = renamed(option, read_exactly(client, length), name)
        server.sendall(OPTION_MAGIC + struct.pack(">II", option, len(data)) + data)
        if option == EXPORT_NAME:
            return b""


class Written:
    """Which sectors of the volume were written: the first is the lowest bit of the first byte."""

    def __init__(self, path, size):
        self.size = size
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self.file, (size + 8 * SECTOR_BYTES - 1) // (8 * SECTOR_BYTES))

    def mark(self, offset, length):
        # What lies beyond the end the server refuses.
        if length == 0 or offset + length > self.size:
            return
        first, last = offset // SECTOR_BYTES, (offset + length - 1) // SECTOR_BYTES
        bits = bytearray(b"\xff" * ((last >> 3) - (first >> 3) + 1))
        bits[0] &= 0xFF << (first & 7) & 0xFF
        bits[-1] &= 0xFF >> (7 - (last & 7))
        for index in {0, len(bits) - 1}:
            if bits[index] != 0xFF:
                bits[index] |= os.pread(self.file, 1, (first >> 3) + index)[0]
        # Throws where there is no room: then nothing is written either.
        os.pwrite(self.file, bits, first >> 3)


def carry_requests(client, server, written, begun):
    """Until the client ends; each is marked before it is passed on."""
    stream = client.makefile("rb", PIECE_BYTES)
    while True:
        head = begun + stream.read(REQUEST.size - len(begun))
        begun = b""
        if len(head) < REQUEST.size:
            break
        magic, _, kind, _, offset, length = REQUEST.unpack(head)
        if magic != REQUEST_MAGIC:
            raise Broken("what comes from the client is no request")
        if kind in CHANGING:
            written.mark(offset, length)
        left = length if kind == WRITE else 0
        piece = stream.read(min(left, PIECE_BYTES))
        server.sendall(head + piece)
        while piece and left > len(piece):
            left -= len(piece)
            piece = stream.read(min(left, PIECE_BYTES))
            server.sendall(piece)
    server.shutdown(socket.SHUT_WR)


def carry(source, target):
    try:
        while True:
            piece = source.recv(PIECE_BYTES)
            if not piece:
                break
            target.sendall(piece)
    except OSError:
        pass  # The other direction sees it, too.
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def main():
    # As a service it is told on its standard input, which is a socket.
    words = sys.argv[1:] or sys.stdin.readline().rstrip("\n").split("\0")
    path, export, name, marks, size = words
    written = Written(marks, int(size))
    client = take_descriptor(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(export)
    client.sendall(read_exactly(server, GREETING_BYTES))
    back = threading.Thread(target=carry, args=(server, client), daemon=True)
    back.start()
    try:
        begun = pass_options(client, server, os.fsencode(name))
        carry_requests(client, server, written, begun)
    except Broken:
        server.shutdown(socket.SHUT_RDWR)
        raise
    back.join()


if __name__ == "__main__":
    try:
        main()
    except (Broken, OSError) as error:
        sys.exit("import: {}".format(error))
