// SPDX-License-Identifier: Apache-2.0
#include "frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(union entry) == ENTRY_BYTES, "blkif_request of x86_64");
_Static_assert(sizeof(struct ring) <= PAGE_BYTES, "one page");

void frontend_open(struct frontend* self, unsigned devid) {
  memset(self, 0, sizeof *self);
  snprintf(self->directory, sizeof self->directory, "device/vbd/%u", devid);
  char path[VALUE_BYTES];
  snprintf(path, sizeof path, "%s/backend", self->directory);
  if (node_read(path, self->backend)) return;
  fprintf(stderr, "no %s\n", path);
  exit(2);
}

bool frontend_write(struct frontend* self, const char* node, const char* text) {
  char path[VALUE_BYTES];
  snprintf(path, sizeof path, "%s/%s", self->directory, node);
  return node_write(path, text, strlen(text));
}

void frontend_write_number(struct frontend* self, const char* node, uint32_t number) {
  char text[16];
  snprintf(text, sizeof text, "%u", number);
  frontend_write(self, node, text);
}

void frontend_remove(struct frontend* self, const char* node) {
  char path[VALUE_BYTES];
  snprintf(path, sizeof path, "%s/%s", self->directory, node);
  node_remove(path);
}

void frontend_state(struct frontend* self, enum state state) {
  frontend_write_number(self, "state", state);
}

static int backend_state(struct frontend* self) {
  char path[VALUE_BYTES + 8], value[VALUE_BYTES];
  snprintf(path, sizeof path, "%s/state", self->backend);
  return node_read(path, value) ? atoi(value) : 0;
}

bool backend_reaches(struct frontend* self, enum state state) {
  for (const uint64_t end = now_ms() + PATIENCE_MS; now_ms() < end; sleep_ms(10)) {
    if (backend_state(self) == (int)state) return true;
  }
  return false;
}

bool count_verdict(struct frontend* self) {
  for (const uint64_t end = now_ms() + PATIENCE_MS; now_ms() < end; sleep_ms(5)) {
    const int state = backend_state(self);
    if (state == CONNECTED) self->connected++;
    if (state == CLOSING || state == CLOSED) self->refused++;
    if (state >= CONNECTED) return state == CONNECTED;
  }
  return false;
}

bool frontend_restart(struct frontend* self) {
  frontend_close(self);
  frontend_state(self, INITIALISING);
  return backend_reaches(self, INIT_WAIT);
}

bool frontend_offer(struct frontend* self) {
  self->port = port_open();
  if (self->port == 0 || !page_grant(&self->page, DOM0, true)) return false;
  self->ring = self->page.at;
  self->ring->request_event = self->ring->response_event = 1;
  self->produced = self->consumed = 0;
  self->silent = false;
  frontend_write_number(self, "ring-ref", self->page.ref);
  frontend_write_number(self, "event-channel", self->port);
  frontend_write(self, "protocol", "x86_64-abi");
  return true;
}

bool frontend_connect(struct frontend* self) {
  frontend_state(self, INITIALISING);
  if (!backend_reaches(self, INIT_WAIT) || !frontend_offer(self)) return false;
  frontend_state(self, INITIALISED);
  if (!backend_reaches(self, CONNECTED)) return false;
  frontend_state(self, CONNECTED);
  return true;
}

static void remove_nodes(struct frontend* self) {
  static const char* const nodes[] = {"ring-ref",        "event-channel",          "protocol",
                                      "ring-page-order", "multi-queue-num-queues", "ring-ref0",
                                      "num-ring-pages",  "feature-persistent"};
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) frontend_remove(self, nodes[i]);
}

bool frontend_close(struct frontend* self) {
  frontend_state(self, CLOSING);
  frontend_state(self, CLOSED);
  const bool closed = backend_reaches(self, CLOSED);
  if (self->page.at) page_revoke(&self->page);
  if (self->port) port_close(self->port);
  self->ring = NULL;
  self->port = 0;
  remove_nodes(self);
  return closed;
}

union entry* frontend_request(struct frontend* self, enum operation operation) {
  union entry* entry = &self->ring->entry[self->produced % RING_ENTRIES];
  memset(entry, 0, sizeof *entry);
  entry->operation = (uint8_t)operation;
  entry->id = self->produced++;
  return entry;
}

void frontend_publish(struct frontend* self) {
  __atomic_store_n(&self->ring->request_producer, self->produced, __ATOMIC_RELEASE);
  port_notify(self->port);
}

static void count_answers(struct frontend* self) {
  const uint32_t end = __atomic_load_n(&self->ring->response_producer, __ATOMIC_ACQUIRE);
  for (; self->consumed != end; self->consumed++) {
    const int16_t status = self->ring->entry[self->consumed % RING_ENTRIES].response.status;
    if (status == 0) self->okay++;
    if (status == -1) self->failed++;
    if (status == -2) self->unsupported++;
  }
  self->ring->response_event = end + 1;
}

bool frontend_settle(struct frontend* self, unsigned ms) {
  for (const uint64_t end = now_ms() + ms;; sleep_ms(1)) {
    count_answers(self);
    if (self->consumed == self->produced) return true;
    if (self->silent || now_ms() >= end) break;
  }
  self->silent = true;
  return false;
}

static bool transfer(struct frontend* self, enum operation operation, uint32_t ref) {
  const unsigned okay = self->okay;
  union entry* entry = frontend_request(self, operation);
  entry->segments = 1;
  entry->segment[0] = (struct segment){ref, 0, 7, 0};
  frontend_publish(self);
  return frontend_settle(self, PATIENCE_MS) && self->okay == okay + 1;
}

bool frontend_works(struct frontend* self) {
  struct page data;
  if (!page_grant(&data, DOM0, true)) return false;
  uint8_t sent[PAGE_BYTES];
  random_fill(sent, sizeof sent);
  memcpy(data.at, sent, sizeof sent);
  bool works = transfer(self, WRITE, data.ref);
  memset(data.at, 0, sizeof sent);
  works = works && transfer(self, READ, data.ref) && memcmp(data.at, sent, sizeof sent) == 0;
  page_revoke(&data);
  return works;
}
