#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""One method of SMAPIv3: what XAPI runs for each call, by the name of a link to this file.

Hands the call to the volume manager's socket and its answer to standard output. It knows no method
and parses nothing, for it is started several times for each thing XAPI does, and Python 3.6 is all
it may count on. It is Python at all since XAPI's tracing runs such files inside an interpreter.
"""

import os
import sys
import time

try:
    # Half of the time that this file takes is the import of what lies above it.
    import _socket as socket
except ImportError:
    import socket

# Beside this file, a link to where the manager listens.
SOCKET = "manager.sock"
# A manager that is restarted is back by then.
CONNECT_SECONDS = 30
# While it works it says so every few seconds; a manager that says nothing for so long hangs.
SILENCE_SECONDS = 60
# Not carried out twice where the manager died in the middle: what became of them is not known.
ONCE = (
    "SR.create",
    "Volume.create",
    "Volume.snapshot",
    "Volume.clone",
    "Volume.compose",
    "Data.mirror",
    "Datapath.open",
    "Datapath.import_activate",
)
ANSWER_BYTES_MAX = 256 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
# The first piece may have much of the text behind it.
HEAD_BYTES_MAX = PIECE_BYTES + 64


class Unanswered(Exception):
    """The manager is not there, or has gone; the text says how."""


class Hangs(Exception):
    """The manager is there and says nothing."""


def close_inherited():
    """XAPI's daemon leaves its own sockets open in us, which keeps its peers from seeing it die."""
    if "OBSERVER_CONFIG_DIR" in os.environ:
        return  # We are in the tracer's process, and they may be its own.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # The one that the listing itself had open.


def read_call(script, arguments):
    """The call as the manager reads it: who is called, in which style, and with what."""
    if "--json" in arguments:
        style, text = b"json", sys.stdin.buffer.read()
    else:
        # static-vdis, long before XAPI runs, with the caller's word for itself in front.
        style, text = b"argv", b"\0".join(os.fsencode(word) for word in arguments)
    return b"\n".join((b"smapi 1", os.fsencode(script), style, text))


def connect(path, deadline):
    while True:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(SILENCE_SECONDS)
        try:
            peer.connect(path)
            return peer
        except OSError as error:
            peer.close()
            if time.monotonic() > deadline:
                why = error.strerror or error
                raise Unanswered("it cannot be reached at {}: {}".format(path, why))
        time.sleep(0.1)


def ask(path, call, deadline):
    """Exit status and text of the answer. Dots before it only say that the manager is at work."""
    peer = connect(path, deadline)
    try:
        peer.sendall(call)
        peer.shutdown(socket.SHUT_WR)
        return read_answer(peer)
    except socket.timeout:
        raise Hangs("it has said nothing for {} seconds".format(SILENCE_SECONDS))
    except (OSError, ValueError) as error:
        raise Unanswered("the call broke off: {}".format(error))
    finally:
        peer.close()


def read_answer(peer):
    head = b""
    while b"\n" not in head:
        piece = peer.recv(PIECE_BYTES)
        if not piece or len(head) > HEAD_BYTES_MAX:
            raise Unanswered("it ended in the middle of the call")
        head = (head + piece).lstrip(b".")
    line, text = head.split(b"\n", 1)
    status, length = (int(word) for word in line.split())
    if not 0 <= length <= ANSWER_BYTES_MAX:
        raise Unanswered("its answer is too long")
    pieces = [text]
    left = length - len(text)
    while left > 0:
        piece = peer.recv(min(left, PIECE_BYTES))
        if not piece:
            raise Unanswered("it ended in the middle of its answer")
        pieces.append(piece)
        left -= len(piece)
    return status, b"".join(pieces)


def call_manager(script, arguments):
    # Where it is, not where the links to it are.
    # A socket's address is short, and the plugins' folders are not.
    path = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(script)), SOCKET))
    call = read_call(script, arguments)
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return ask(path, call, deadline)
        except (Unanswered, Hangs) as error:
            is_over = isinstance(error, Hangs) or time.monotonic() > deadline
            if is_over or os.path.basename(script) in ONCE:
                return 1, failure("ringdisk's volume manager does not answer: {}".format(error))
        time.sleep(0.1)


def failure(message):
    import json

    backtrace = {"error": message, "files": [], "lines": []}
    error = {"code": "SR_BACKEND_FAILURE", "params": ["", message, ""], "backtrace": backtrace}
    return json.dumps(error).encode()


def main():
    close_inherited()
    status, text = call_manager(sys.argv[0], sys.argv[1:])
    try:
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()
    except OSError:
        status = 1  # Nobody reads it: SIGPIPE is ignored below XAPI's daemon.
    if "OBSERVER_CONFIG_DIR" in os.environ:
        sys.exit(status)
    # There is nothing to tidy up, and that takes its time.
    os._exit(status)


if __name__ == "__main__":
    main()
