// SPDX-License-Identifier: Apache-2.0
// Lies of a frontend that connects: nodes, states, and what the nodes point to.
#include "lies.h"

#include <stdio.h>
#include <string.h>

enum { MOMENT_MS = 300, FLOOD_MS = 15000, VALUES_PER_NODE = 3 };

// Each node gets a few of the values, by the seed: every one of them takes the emulation seconds.
static void garbage_nodes(struct frontend* self) {
  static const char* const nodes[] = {
      "ring-page-order", "multi-queue-num-queues", "ring-ref",          "event-channel", "protocol",
      "state",           "num-ring-pages",         "feature-persistent"};
  static const char* const values[] = {"",   "-1",   "99", "4294967296", "18446744073709551616",
                                       "0x", "1e99", "0",  "../..",      "4294967295"};
  static char large[2000];
  memset(large, '9', sizeof large - 1);
  for (size_t node = 0; node < sizeof nodes / sizeof *nodes; node++) {
    for (unsigned i = 0; i < VALUES_PER_NODE; i++) {
      const size_t value = random_below(sizeof values / sizeof *values + 1);
      const bool is_large = value == sizeof values / sizeof *values;
      if (!frontend_restart(self) || !frontend_offer(self)) return;
      frontend_write(self, nodes[node], is_large ? large : values[value]);
      if (strcmp(nodes[node], "state") == 0) continue;
      frontend_state(self, INITIALISED);
      count_verdict(self);
    }
  }
}

static void any_state(struct frontend* self) {
  for (unsigned i = 0; i < 1500; i++) frontend_state(self, (enum state)random_below(9));
}

// As many nodes as xenstored allows this domain, or as there is time for; each fires the backend's
// watch of the state node. The disk must connect with all of them there.
static void many_nodes(struct frontend* self) {
  char node[32];
  for (const uint64_t end = now_ms() + FLOOD_MS; now_ms() < end; self->okay++) {
    // Folders: the names in one are bounded, too.
    snprintf(node, sizeof node, "state/%u/%u", self->okay / 100, self->okay % 100);
    if (!frontend_write(self, node, "junk")) break;
  }
  const unsigned nodes = self->okay;
  frontend_close(self);
  const uint64_t start = now_ms();
  if (frontend_connect(self)) self->connected++;
  printf("with %u nodes it connects in %llu ms\n", nodes, (unsigned long long)(now_ms() - start));
  frontend_remove(self, "state");
}

// Gone at each step of a connection, and in the middle of it.
static void vanishing(struct frontend* self) {
  for (unsigned step = 0; step < 6; step++) {
    if (!frontend_restart(self)) return;
    if (step == 0 || !frontend_offer(self)) continue;
    if (step == 1) port_close(self->port);
    if (step == 2) page_revoke(&self->page);
    frontend_state(self, INITIALISED);
    if (step == 3) port_close(self->port);
    if (step >= 4 && backend_reaches(self, CONNECTED)) frontend_request(self, FLUSH);
    if (step == 4) frontend_publish(self);
    if (step == 5) port_close(self->port);
    if (step == 5) page_revoke(&self->page);
    if (step < 4) count_verdict(self);
    sleep_ms(MOMENT_MS);
  }
}

static void wrong_ring_page(struct frontend* self) {
  static const uint16_t domids[] = {DOM0, 9, 7};
  for (unsigned i = 0; i < 3; i++) {
    if (!frontend_restart(self) || !frontend_offer(self)) return;
    struct page page;
    if (!page_grant(&page, domids[i], false)) return;
    frontend_write_number(self, "ring-ref", page.ref);
    frontend_state(self, INITIALISED);
    count_verdict(self);
    page_revoke(&page);
  }
}

const struct lie node_lies[] = {
    {"garbage-nodes", garbage_nodes},     {"any-state", any_state},
    {"many-nodes", many_nodes},           {"vanishing", vanishing},
    {"wrong-ring-page", wrong_ring_page}, {NULL, NULL},
};
