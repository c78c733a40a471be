// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef uint16_t domid_t;  // which the kernel's header expects
#include <xen/evtchn.h>
#include <xen/gntalloc.h>

// xs_wire.h
enum { XS_READ = 2, XS_WRITE = 11, XS_RM = 13, XS_ERROR = 16, XS_BODY_MAX = 4096 };
struct xs_header {
  uint32_t type, request, transaction, bytes;
};

static int store, grants, ports;
static uint64_t random_state = 1;

static int open_or_end(const char* path) {
  const int fd = open(path, O_RDWR);
  if (fd >= 0) return fd;
  perror(path);
  exit(2);
}

void open_machine(void) {
  store = open_or_end("/dev/xen/xenbus");
  grants = open_or_end("/dev/xen/gntalloc");
  ports = open_or_end("/dev/xen/evtchn");
}

static bool read_all(void* at, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t part = read(store, (char*)at + done, bytes - done);
    if (part <= 0) return false;
    done += (size_t)part;
  }
  return true;
}

// One request and its answer; the answer's text lands in `value` if there is one.
static bool store_call(uint32_t type, const char* path, const char* data, size_t bytes,
                       char* value) {
  static char body[XS_BODY_MAX + 1];
  const size_t path_bytes = strlen(path) + 1;
  if (path_bytes + bytes > XS_BODY_MAX) return false;
  const struct xs_header header = {type, 0, 0, (uint32_t)(path_bytes + bytes)};
  char request[sizeof header + XS_BODY_MAX];
  memcpy(request, &header, sizeof header);
  memcpy(request + sizeof header, path, path_bytes);
  if (bytes > 0) memcpy(request + sizeof header + path_bytes, data, bytes);
  const size_t length = sizeof header + header.bytes;
  if (write(store, request, length) != (ssize_t)length) return false;
  struct xs_header answer;
  if (!read_all(&answer, sizeof answer) || answer.bytes > XS_BODY_MAX) return false;
  if (!read_all(body, answer.bytes)) return false;
  body[answer.bytes] = 0;
  if (value) {
    const size_t length = answer.bytes < VALUE_BYTES ? answer.bytes : VALUE_BYTES - 1;
    memcpy(value, body, length);
    value[length] = 0;
  }
  return answer.type != XS_ERROR;
}

bool node_read(const char* path, char value[VALUE_BYTES]) {
  return store_call(XS_READ, path, NULL, 0, value);
}

bool node_write(const char* path, const char* value, size_t bytes) {
  return store_call(XS_WRITE, path, value, bytes, NULL);
}

bool node_remove(const char* path) { return store_call(XS_RM, path, NULL, 0, NULL); }

bool page_grant(struct page* page, uint16_t domid, bool writable) {
  struct ioctl_gntalloc_alloc_gref request = {0};
  request.domid = domid;
  request.flags = writable ? GNTALLOC_FLAG_WRITABLE : 0;
  request.count = 1;
  if (ioctl(grants, IOCTL_GNTALLOC_ALLOC_GREF, &request) != 0) return false;
  page->ref = request.gref_ids[0];
  page->index = request.index;
  page->at =
      mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, grants, (off_t)request.index);
  if (page->at != MAP_FAILED) return true;
  page->at = NULL;
  page_revoke(page);
  return false;
}

void page_revoke(struct page* page) {
  if (page->at) munmap(page->at, PAGE_BYTES);
  struct ioctl_gntalloc_dealloc_gref request = {page->index, 1};
  ioctl(grants, IOCTL_GNTALLOC_DEALLOC_GREF, &request);
  page->at = NULL;
}

uint32_t port_open(void) {
  struct ioctl_evtchn_bind_unbound_port request = {DOM0};
  const int port = ioctl(ports, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &request);
  return port > 0 ? (uint32_t)port : 0;
}

void port_notify(uint32_t port) {
  struct ioctl_evtchn_notify request = {port};
  ioctl(ports, IOCTL_EVTCHN_NOTIFY, &request);
}

void port_close(uint32_t port) {
  struct ioctl_evtchn_unbind request = {port};
  ioctl(ports, IOCTL_EVTCHN_UNBIND, &request);
}

uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms) {
  const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&pause, NULL);
}

void random_seed(uint64_t seed) { random_state = seed * 2 + 1; }

// xorshift64*
static uint32_t random_next(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (uint32_t)((random_state * 0x2545F4914F6CDD1Dull) >> 32);
}

uint32_t random_below(uint32_t bound) { return random_next() % bound; }

void random_fill(void* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) ((uint8_t*)at)[i] = (uint8_t)random_next();
}
