// SPDX-License-Identifier: Apache-2.0
// Lies of a connected frontend: indices, requests, grants, events.
#include "lies.h"

#include <pthread.h>
#include <string.h>

enum { MOMENT_MS = 300, ANSWER_MS = 2000 };

static void publish_producer(struct frontend* self, uint32_t producer) {
  __atomic_store_n(&self->ring->request_producer, producer, __ATOMIC_RELEASE);
  port_notify(self->port);
  sleep_ms(MOMENT_MS);
}

static void producer_far_ahead(struct frontend* self) { publish_producer(self, 1000000); }

static void producer_just_too_far(struct frontend* self) {
  publish_producer(self, self->consumed + RING_ENTRIES + 1);
}

static void producer_backwards(struct frontend* self) {
  publish_producer(self, self->produced - 1);
  publish_producer(self, self->produced - 5);
}

// Half the range of indices away, where signed and unsigned comparisons disagree.
static void producer_wrapped(struct frontend* self) {
  publish_producer(self, self->produced + 0x80000000u);
  publish_producer(self, 0xffffffffu);
}

static void producer_restless(struct frontend* self) {
  for (const uint64_t end = now_ms() + MOMENT_MS; now_ms() < end;) {
    self->ring->request_producer = random_below(64);
    port_notify(self->port);
  }
}

// The backend's own fields of the shared page.
static void backend_indices(struct frontend* self) {
  for (unsigned i = 0; i < 100; i++) {
    self->ring->response_producer = random_below(UINT32_MAX);
    self->ring->request_event = random_below(UINT32_MAX);
    self->ring->response_event = random_below(UINT32_MAX);
    frontend_request(self, READ)->segments = 1;
    frontend_publish(self);
    sleep_ms(1);
  }
}

static void send(struct frontend* self, enum operation operation, unsigned segments, uint32_t ref,
                 uint8_t first, uint8_t last) {
  union entry* entry = frontend_request(self, operation);
  entry->segments = (uint8_t)segments;
  for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
    entry->segment[i] = (struct segment){ref, first, last, 0xffff};
  }
  frontend_publish(self);
  frontend_settle(self, ANSWER_MS);
}

static void absent_grants(struct frontend* self) {
  // 0 and 1 exist: the toolstack grants the console and the xenstore ring.
  static const uint32_t refs[] = {6, 7, 4095, 1u << 16, 1u << 20, 0x7fffffff, 0xffffffff};
  for (size_t i = 0; i < sizeof refs / sizeof *refs; i++) {
    send(self, READ, SEGMENTS_MAX, refs[i], 0, 7);
    send(self, WRITE, 1, refs[i], 0, 7);
    send(self, INDIRECT, 1, refs[i], 0, 7);
  }
}

// Given back while the request that uses it runs.
static void revoked_grants(struct frontend* self) {
  for (unsigned round = 0; round < 50; round++) {
    struct page page[4];
    for (unsigned i = 0; i < 4; i++) {
      if (!page_grant(&page[i], DOM0, true)) return;
      union entry* entry = frontend_request(self, i % 2 ? READ : WRITE);
      entry->segments = 1;
      entry->segment[0] = (struct segment){page[i].ref, 0, 7, 0};
    }
    frontend_publish(self);
    for (unsigned i = 0; i < 4; i++) page_revoke(&page[i]);
    frontend_settle(self, ANSWER_MS);
  }
}

static void with_grant(struct frontend* self, uint16_t domid, bool writable, unsigned segments) {
  struct page page;
  if (!page_grant(&page, domid, writable)) return;
  send(self, READ, segments, page.ref, 0, 7);
  send(self, WRITE, segments, page.ref, 0, 7);
  page_revoke(&page);
}

static void read_only_grants(struct frontend* self) { with_grant(self, DOM0, false, 1); }
static void grants_used_twice(struct frontend* self) { with_grant(self, DOM0, true, SEGMENTS_MAX); }

static void grants_to_others(struct frontend* self) {
  for (uint16_t domid = 1; domid < 20; domid++) with_grant(self, domid, true, 1);
}

// The ring as the data: each read is written over the requests.
static void ring_as_data(struct frontend* self) {
  for (unsigned i = 0; i < 50; i++) {
    frontend_request(self, i % 2 ? READ : WRITE)->segments = 1;
    union entry* entry = &self->ring->entry[(self->produced - 1) % RING_ENTRIES];
    entry->segment[0] = (struct segment){self->page.ref, 0, 7, 0};
    frontend_publish(self);
    sleep_ms(2);
  }
}

static void bad_segments(struct frontend* self) {
  static const uint8_t ranges[][2] = {{0, 8}, {8, 8}, {255, 255}, {0, 255}, {5, 4}, {7, 0}};
  struct page page;
  if (!page_grant(&page, DOM0, true)) return;
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
    send(self, READ, 1, page.ref, ranges[i][0], ranges[i][1]);
    send(self, WRITE, SEGMENTS_MAX, page.ref, ranges[i][0], ranges[i][1]);
  }
  page_revoke(&page);
}

static void bad_counts(struct frontend* self) {
  static const uint8_t counts[] = {0, 12, 13, 127, 128, 255};
  struct page page;
  if (!page_grant(&page, DOM0, true)) return;
  for (unsigned operation = 0; operation < 8; operation++) {
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
      send(self, (enum operation)operation, counts[i], page.ref, 0, 7);
    }
  }
  for (unsigned operation = 7; operation < 256; operation += 31) {
    send(self, (enum operation)operation, 1, page.ref, 0, 7);
  }
  page_revoke(&page);
}

static void indirect(struct frontend* self, enum operation imposed, unsigned segments,
                     uint32_t ref) {
  union entry* entry = frontend_request(self, INDIRECT);
  entry->indirect.imposed = (uint8_t)imposed;
  entry->indirect.segments = (uint16_t)segments;
  for (unsigned i = 0; i < 8; i++) entry->indirect.ref[i] = ref;
  frontend_publish(self);
  frontend_settle(self, ANSWER_MS);
}

static void bad_indirect(struct frontend* self) {
  struct page page;
  if (!page_grant(&page, DOM0, true)) return;
  indirect(self, INDIRECT, 1, page.ref);
  indirect(self, DISCARD, 1, page.ref);
  indirect(self, READ, 0, page.ref);
  indirect(self, READ, 257, page.ref);
  indirect(self, READ, 65535, page.ref);
  for (unsigned i = 0; i < 30; i++) {
    random_fill(page.at, PAGE_BYTES);
    indirect(self, i % 2 ? READ : WRITE, 1 + random_below(256), page.ref);
  }
  // The page of segments is each segment's data, too.
  struct segment* segment = page.at;
  for (unsigned i = 0; i < PAGE_BYTES / sizeof *segment; i++) {
    segment[i] = (struct segment){page.ref, 0, 7, 0};
  }
  indirect(self, READ, 256, page.ref);
  page_revoke(&page);
}

static void bad_sectors(struct frontend* self) {
  static const uint64_t sectors[] = {~0ull, ~0ull - 7, 1ull << 63, (1ull << 55) - 1, 1ull << 40};
  struct page page;
  if (!page_grant(&page, DOM0, true)) return;
  for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
    for (unsigned operation = READ; operation <= DISCARD; operation++) {
      union entry* entry = frontend_request(self, (enum operation)operation);
      entry->segments = 1;
      entry->sector = sectors[i];
      entry->segment[0] = (struct segment){page.ref, 0, 7, 0};
      if (operation == DISCARD) entry->discard.sectors = ~0ull - i;
      frontend_publish(self);
      frontend_settle(self, ANSWER_MS);
    }
  }
  page_revoke(&page);
}

static void random_entries(struct frontend* self) {
  for (unsigned round = 0; round < 100; round++) {
    const unsigned count = 1 + random_below(RING_ENTRIES);
    for (unsigned i = 0; i < count; i++) {
      union entry* entry = frontend_request(self, READ);
      random_fill(entry, sizeof *entry);
      entry->operation = (uint8_t)random_below(8);
      if (random_below(2)) entry->segments = (uint8_t)random_below(13);
    }
    frontend_publish(self);
    frontend_settle(self, ANSWER_MS);
  }
}

struct flipper {
  volatile bool stop;
  uint8_t* at[2];
};

static void* flip(void* argument) {
  struct flipper* flipper = argument;
  for (uint32_t i = 0; !flipper->stop; i++) {
    // Odd stride: every byte of both pages, behind the ring's indices.
    const uint32_t offset = 64 + i * 7 % (PAGE_BYTES - 64);
    flipper->at[i % 2][offset] ^= (uint8_t)(1u << i % 8);
  }
  return NULL;
}

// Requests and indirect pages change while they are read.
static void double_fetch(struct frontend* self) {
  struct page page;
  if (!page_grant(&page, DOM0, true)) return;
  struct flipper flipper = {false, {(uint8_t*)self->ring, page.at}};
  pthread_t thread;
  if (pthread_create(&thread, NULL, flip, &flipper) != 0) return;
  for (unsigned i = 0; i < 200; i++) {
    if (i % 2) {
      indirect(self, i % 4 == 1 ? READ : WRITE, 64, page.ref);
    } else {
      send(self, i % 4 ? READ : WRITE, SEGMENTS_MAX, page.ref, 0, 7);
    }
  }
  flipper.stop = true;
  pthread_join(thread, NULL);
  page_revoke(&page);
}

static void event_storm(struct frontend* self) {
  for (const uint64_t end = now_ms() + 3000; now_ms() < end;) {
    for (unsigned i = 0; i < 1000; i++) port_notify(self->port);
  }
}

const struct lie request_lies[] = {
    {"producer-far-ahead", producer_far_ahead},
    {"producer-just-too-far", producer_just_too_far},
    {"producer-backwards", producer_backwards},
    {"producer-wrapped", producer_wrapped},
    {"producer-restless", producer_restless},
    {"backend-indices", backend_indices},
    {"absent-grants", absent_grants},
    {"revoked-grants", revoked_grants},
    {"read-only-grants", read_only_grants},
    {"grants-used-twice", grants_used_twice},
    {"grants-to-others", grants_to_others},
    {"ring-as-data", ring_as_data},
    {"bad-segments", bad_segments},
    {"bad-counts", bad_counts},
    {"bad-indirect", bad_indirect},
    {"bad-sectors", bad_sectors},
    {"random-entries", random_entries},
    {"double-fetch", double_fetch},
    {"event-storm", event_storm},
    {NULL, NULL},
};
