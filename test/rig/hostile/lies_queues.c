// SPDX-License-Identifier: Apache-2.0
// Lies of a frontend with several queues or several ring pages.
#include "lies.h"

#include <stdio.h>
#include <string.h>

enum { QUEUES = 2, RING_PAGES_MAX = 16 };

// Each queue is a frontend of its own as far as ring and port go.
static bool offer_queues(struct frontend* self, struct frontend queues[QUEUES]) {
  frontend_write_number(self, "multi-queue-num-queues", QUEUES);
  frontend_write(self, "protocol", "x86_64-abi");
  for (unsigned i = 0; i < QUEUES; i++) {
    memset(&queues[i], 0, sizeof queues[i]);
    snprintf(queues[i].directory, sizeof queues[i].directory, "%.40s/queue-%u", self->directory, i);
    if (!frontend_offer(&queues[i])) return false;
  }
  return true;
}

static void take_back(struct frontend* self, struct frontend queues[QUEUES]) {
  frontend_close(self);
  for (unsigned i = 0; i < QUEUES; i++) {
    if (queues[i].page.at) page_revoke(&queues[i].page);
    if (queues[i].port) port_close(queues[i].port);
    node_remove(queues[i].directory);
  }
}

// The backend must refuse, or serve; a lie that gets neither is noticed as a disk that never works.
static void see_what_comes(struct frontend* self) {
  frontend_state(self, INITIALISED);
  count_verdict(self);
}

static void same_ring_twice(struct frontend* self) {
  struct frontend queues[QUEUES];
  if (!frontend_restart(self) || !offer_queues(self, queues)) return;
  frontend_write_number(&queues[1], "ring-ref", queues[0].page.ref);
  see_what_comes(self);
  take_back(self, queues);
}

static void same_port_twice(struct frontend* self) {
  struct frontend queues[QUEUES];
  if (!frontend_restart(self) || !offer_queues(self, queues)) return;
  frontend_write_number(&queues[1], "event-channel", queues[0].port);
  see_what_comes(self);
  take_back(self, queues);
}

static void missing_queue(struct frontend* self) {
  struct frontend queues[QUEUES];
  if (!frontend_restart(self) || !offer_queues(self, queues)) return;
  node_remove(queues[1].directory);
  see_what_comes(self);
  take_back(self, queues);
}

// One ring breaks; the other goes on.
static void one_broken_queue(struct frontend* self) {
  struct frontend queues[QUEUES];
  if (!frontend_restart(self) || !offer_queues(self, queues)) return;
  frontend_state(self, INITIALISED);
  if (backend_reaches(self, CONNECTED)) {
    frontend_state(self, CONNECTED);
    __atomic_store_n(&queues[0].ring->request_producer, 1u << 20, __ATOMIC_RELEASE);
    port_notify(queues[0].port);
    for (unsigned i = 0; i < 20; i++) self->okay += frontend_works(&queues[1]);
  }
  take_back(self, queues);
}

// All pages of a ring are one page.
static void ring_of_one_page(struct frontend* self) {
  if (!frontend_restart(self) || !frontend_offer(self)) return;
  frontend_write_number(self, "ring-page-order", 4);
  for (unsigned i = 0; i < RING_PAGES_MAX; i++) {
    char node[16];
    snprintf(node, sizeof node, "ring-ref%u", i);
    frontend_write_number(self, node, self->page.ref);
  }
  frontend_state(self, INITIALISED);
  if (count_verdict(self)) {
    frontend_state(self, CONNECTED);
    for (unsigned i = 0; i < RING_ENTRIES; i++) frontend_request(self, FLUSH);
    frontend_publish(self);
    sleep_ms(100);
  }
  frontend_close(self);
  for (unsigned i = 1; i < RING_PAGES_MAX; i++) {
    char node[16];
    snprintf(node, sizeof node, "ring-ref%u", i);
    frontend_remove(self, node);
  }
}

const struct lie queue_lies[] = {
    {"same-ring-twice", same_ring_twice},   {"same-port-twice", same_port_twice},
    {"missing-queue", missing_queue},       {"one-broken-queue", one_broken_queue},
    {"ring-of-one-page", ring_of_one_page}, {NULL, NULL},
};
