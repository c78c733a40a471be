# SPDX-License-Identifier: Apache-2.0
"""A reader of the files that XAPI's rrdd reads, by protocol 2's description and nothing of ours.

Reads one from standard input, checks all of it as rrdd does, and prints what it holds as JSON. What
rrdd would refuse ends it with a message and status 1.
"""

import json
import struct
import sys
import zlib

TYPES = ("gauge", "absolute", "derive")


def fail(message):
    sys.exit("rrdd refuses it: " + message)


def pairs_in_order(pairs):
    return pairs


def is_owner(text):
    words = text.lower().split(" ")
    return words == ["host"] or (len(words) == 2 and words[0] in ("vm", "sr"))


def read_source(pair, raw):
    name, fields = pair
    about = dict(fields)
    if not all(isinstance(value, str) for value in about.values()):
        fail("a field of {} is no text".format(name))
    if about.get("type", "absolute") not in TYPES or not is_owner(about.get("owner", "host")):
        fail("type or owner of " + name)
    if about.get("default", "false") not in ("true", "false"):
        fail("default of " + name)
    bounds = [float(about.get("min", "-infinity")), float(about.get("max", "infinity"))]
    formats = {"int64": ">q", "float": ">d"}
    if about.get("value_type") not in formats:
        fail("value_type of " + name)
    value = struct.unpack(formats[about["value_type"]], raw)[0]
    if not bounds[0] <= value <= bounds[1]:
        fail("{} is {}".format(name, value))
    return dict(about, name=name, value=value)


def main():
    content = sys.stdin.buffer.read()
    if content[:11] != b"DATASOURCES":
        fail("header")
    data_crc, metadata_crc, count = struct.unpack_from(">III", content, 11)
    timestamp = struct.unpack_from(">d", content, 23)[0]
    end = 31 + 8 * count
    if zlib.crc32(content[23:end]) != data_crc:
        fail("checksum of the values")
    length = struct.unpack_from(">I", content, end)[0]
    metadata = content[end + 4 : end + 4 + length]
    if zlib.crc32(metadata) != metadata_crc:
        fail("checksum of the JSON")
    described = dict(json.loads(metadata.decode(), object_pairs_hook=pairs_in_order))
    sources = described["datasources"]
    if len(sources) != count:
        fail("{} values, {} names".format(count, len(sources)))
    raws = [content[31 + 8 * n : 39 + 8 * n] for n in range(count)]
    read = [read_source(pair, raw) for pair, raw in zip(sources, raws)]
    print(json.dumps({"timestamp": timestamp, "dataCrc": data_crc, "sources": read}))


main()
