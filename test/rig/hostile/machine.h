// SPDX-License-Identifier: Apache-2.0
// What a guest's user space has of Xen: xenstore, grants and event channels, through the devices of
// the kernel. Every call may fail when what it is told is a lie: then it returns false or 0.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE_BYTES = 4096, VALUE_BYTES = 256, DOM0 = 0 };

struct page {
  void* at;
  uint32_t ref;
  uint64_t index;  // the kernel's handle
};

// Opens the devices; ends the process where there are none.
void open_machine(void);

bool node_read(const char* path, char value[VALUE_BYTES]);
bool node_write(const char* path, const char* value, size_t bytes);
bool node_remove(const char* path);

// A zeroed page that `domid` may use; `writable` or read only.
bool page_grant(struct page* page, uint16_t domid, bool writable);
// Takes it back, whether it is in use or not.
void page_revoke(struct page* page);

// An unbound port for dom0; 0: none left.
uint32_t port_open(void);
void port_notify(uint32_t port);
void port_close(uint32_t port);

uint64_t now_ms(void);
void sleep_ms(unsigned ms);
// The same sequence for the same seed.
void random_seed(uint64_t seed);
uint32_t random_below(uint32_t bound);
void random_fill(void* at, size_t bytes);
