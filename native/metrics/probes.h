// SPDX-License-Identifier: Apache-2.0
// USDT probes at the stages of a request, for bpftrace, perf and SystemTap. One that nobody listens
// to is a nop: arguments are numbers that are at hand anyway. Provider "ringdisk"; names and
// arguments are an interface (test/integration/probes.test.ts compares this table with the built
// addon).
//
//   probe              arg0  arg1   arg2  arg3       arg4    arg5
//   request_taken      vbd   queue  slot  kind       sector  sectors
//   request_submitted  vbd   queue  slot  operation  offset  length
//   request_completed  vbd   queue  slot  operation  result
//   request_answered   vbd   queue  slot  kind       status  latency
//   ring_broken        vbd   queue  reason
//   ring_recovered     vbd   queue  replayed  redelivered
//
// vbd: domid << 32 | devid. vbd, queue and slot together name a request from taken to answered;
// rejected requests are answered without having been taken, with a kind that means nothing. kind:
// 0 read, 1 write, 2 barrier, 3 flush, 4 discard. operation, of the target: 0 read, 1 write,
// 2 flush, 3 discard; one request may need several, one after the other (a barrier, a write of part
// of a block). sector, sectors: of 512 bytes. offset, length: bytes on the target. result: 0 or
// -errno. status: 0, -1 error, -2 not supported. latency: nanoseconds since the request was first
// seen in the ring; 0 where that is not known. reason: a string. replayed, redelivered: how many
// requests of a dead process are carried out again, and how many of its answers are shown.
//
// No more than six arguments: bpftrace 0.17 can't read a seventh.
#pragma once

#define SDT_USE_VARIADIC
#include <sys/sdt.h>

#define RD_PROBE(name, ...) STAP_PROBEV(ringdisk, name, __VA_ARGS__)
