// SPDX-License-Identifier: Apache-2.0
// A frontend that lies, from a guest's user space. usage: hostile DEVID SEED [LIE...]
// Each lie starts connected, does its worst for a bounded time, and ends with the disk closed and
// connected again: then an honest write must be read back. Exit status 1 if it ever is not.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend.h"
#include "lies.h"

static bool is_chosen(const char* name, int count, char** names) {
  for (int i = 0; i < count; i++) {
    if (strcmp(name, names[i]) == 0) return true;
  }
  return count == 0;
}

static bool recovers(struct frontend* self) {
  // A backend that was told nonsense may be closing already, or waiting for sense. What it does
  // about the last of it may cross with this: its Closed was about an earlier Closed of ours, its
  // InitWait is about to be taken back. Who waits in vain then closes and starts again, once.
  for (unsigned attempt = 0; attempt < 2; attempt++) {
    if (frontend_close(self) && frontend_connect(self)) return frontend_works(self);
  }
  return false;
}

// Whether the disk worked afterwards.
static bool tell(const struct lie* lie, struct frontend* self) {
  const uint64_t start = now_ms();
  self->okay = self->failed = self->unsupported = self->refused = self->connected = 0;
  lie->tell(self);
  const struct frontend after = *self;
  const uint64_t told = now_ms();
  const bool works = recovers(self);
  printf(
      "%s: %u okay, %u failed, %u unsupported; refused %u, connected %u; %llu ms; %s after %llu "
      "ms\n",
      lie->name, after.okay, after.failed, after.unsupported, after.refused, after.connected,
      (unsigned long long)(told - start), works ? "works again" : "DOES NOT WORK",
      (unsigned long long)(now_ms() - told));
  return works;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: hostile DEVID SEED [LIE...]\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  open_machine();
  random_seed((uint64_t)atoll(argv[2]));
  struct frontend frontend;
  frontend_open(&frontend, (unsigned)atoi(argv[1]));
  if (!frontend_connect(&frontend) || !frontend_works(&frontend)) {
    printf("the disk does not work before the first lie\n");
    return 1;
  }
  bool works = true;
  const struct lie* const tables[] = {request_lies, node_lies, queue_lies};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    for (const struct lie* lie = tables[i]; lie->name; lie++) {
      if (is_chosen(lie->name, argc - 3, argv + 3)) works = tell(lie, &frontend) && works;
    }
  }
  frontend_close(&frontend);
  return works ? 0 : 1;
}
