#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""Stands where `zfs`, `zpool` and `zvol_id` would be, and hands each call to model_host.ts.

One line of JSON goes to the socket beside this file, then standard input; back come frames: a
letter (o: standard output, e: standard error, x: exit status), four bytes of length, the content.
"""

import json
import os
import socket
import sys
import threading

CHUNK = 64 * 1024


def forward(connection):
    while chunk := os.read(0, CHUNK):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def receive(connection, length):
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            os._exit(1)
        content += part
    return content


def main():
    folder, program = os.path.split(os.path.abspath(sys.argv[0]))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(folder, "model.sock"))
    call = {"program": program, "args": sys.argv[1:]}
    connection.sendall(json.dumps(call).encode() + b"\n")
    threading.Thread(target=forward, args=(connection,), daemon=True).start()
    while True:
        head = receive(connection, 5)
        content = receive(connection, int.from_bytes(head[1:], "big"))
        if head[:1] == b"x":
            os._exit(content[0])
        stream = 1 if head[:1] == b"o" else 2
        while content:
            content = content[os.write(stream, content) :]


main()
