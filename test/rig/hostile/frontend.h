// SPDX-License-Identifier: Apache-2.0
// One blkif frontend with one ring page: the honest half, which the lies bend.
#pragma once

#include "machine.h"

enum { RING_ENTRIES = 32, ENTRY_BYTES = 112, SEGMENTS_MAX = 11, PATIENCE_MS = 15000 };
enum state { INITIALISING = 1, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };
enum operation { READ, WRITE, BARRIER, FLUSH, DISCARD = 5, INDIRECT = 6 };

struct segment {
  uint32_t ref;
  uint8_t first_sector, last_sector;
  uint16_t padding;
};

// x86_64 ABI. An indirect request lies otherwise from byte 1 on: see `indirect`.
union entry {
  struct {
    uint8_t operation, segments;
    uint16_t handle;
    uint32_t padding;
    uint64_t id, sector;
    struct segment segment[SEGMENTS_MAX];
  };
  struct {
    uint8_t operation_, imposed;
    uint16_t segments;
    uint32_t padding;
    uint64_t id, sector;
    uint16_t handle, padding2;
    uint32_t ref[8];
  } indirect;
  struct {
    uint8_t operation_, flag;
    uint16_t handle;
    uint32_t padding;
    uint64_t id, sector, sectors;
  } discard;
  struct {
    uint64_t id;
    uint8_t operation_;
    int16_t status;
  } response;
  uint8_t bytes[ENTRY_BYTES];
};

struct ring {
  volatile uint32_t request_producer, request_event, response_producer, response_event;
  uint8_t padding[48];
  union entry entry[RING_ENTRIES];
};

struct frontend {
  char directory[64];
  char backend[VALUE_BYTES];
  struct page page;
  struct ring* ring;
  uint32_t port;
  uint32_t produced, consumed;
  bool silent;  // the backend left something unanswered: nothing is waited for any more
  unsigned okay, failed, unsupported;  // answers so far
  unsigned refused, connected;         // what the backend made of an offer
};

void frontend_open(struct frontend* self, unsigned devid);
// A node of its own directory.
bool frontend_write(struct frontend* self, const char* node, const char* text);
void frontend_write_number(struct frontend* self, const char* node, uint32_t number);
void frontend_remove(struct frontend* self, const char* node);
void frontend_state(struct frontend* self, enum state state);
// Waits for the backend to be in a state; false after PATIENCE_MS.
bool backend_reaches(struct frontend* self, enum state state);

bool frontend_restart(struct frontend* self);  // closed, and the backend waits for an offer
bool frontend_offer(struct frontend* self);    // ring and port, and tells of them
// Waits until an offer is accepted or refused, and counts that; true if it is accepted.
bool count_verdict(struct frontend* self);
bool frontend_connect(struct frontend* self);  // from any state
bool frontend_close(struct frontend* self);    // to where it can connect again

// One request more in the ring, not published yet.
union entry* frontend_request(struct frontend* self, enum operation operation);
void frontend_publish(struct frontend* self);
// Counts answers until all are there, or so long.
bool frontend_settle(struct frontend* self, unsigned ms);
// Writes a page and reads it back: whether this disk works.
bool frontend_works(struct frontend* self);
