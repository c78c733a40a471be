#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""An export's client that XAPI hands over: the other end of another host's NBD client.

Listens on a socket until XAPI connects and sends a descriptor with SCM_RIGHTS, and carries what
comes from there to the daemon's socket and back, until one of them ends. Another host's tapdisk
does not know our export's name and asks for one of its own, so in the negotiation it is put right.
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


class Broken(Exception):
    """Somebody has ended, or does not speak NBD."""


def take_descriptor(path):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o177)
    server.bind(path)
    server.listen(1)
    server.settimeout(PATIENCE_SECONDS)
    print("ready", flush=True)
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
    """Up to the first request, which is passed on as well."""
    server.sendall(read_exactly(client, 4))
    while True:
        head = read_exactly(client, 8)
        if head != OPTION_MAGIC:
            server.sendall(head)
            return
        option, length = struct.unpack(">II", read_exactly(client, 8))
        if length > OPTION_BYTES_MAX:
            raise Broken("an option is too long")
        data = renamed(option, read_exactly(client, length), name)
        server.sendall(OPTION_MAGIC + struct.pack(">II", option, len(data)) + data)
        if option == EXPORT_NAME:
            return


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
    path, export, name = sys.argv[1:]
    client = take_descriptor(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(export)
    client.sendall(read_exactly(server, GREETING_BYTES))
    back = threading.Thread(target=carry, args=(server, client), daemon=True)
    back.start()
    try:
        pass_options(client, server, os.fsencode(name))
    except Broken:
        server.shutdown(socket.SHUT_RDWR)
        raise
    carry(client, server)
    back.join()


if __name__ == "__main__":
    try:
        main()
    except (Broken, OSError) as error:
        sys.exit("import: {}".format(error))
