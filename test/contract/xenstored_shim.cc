// SPDX-License-Identifier: Apache-2.0
// Preloaded into Xen's C xenstored, so that it runs where there is no hypervisor: what it asks of
// Xen's libraries is answered here, for a machine whose only domain is dom0, reached by the socket.
// Arguments that nobody looks at are left out: the caller passes them in registers all the same.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kPageBytes = 4096;
int events = -1;

void* handle() { return &events; }

void* page() {
  void* memory = std::aligned_alloc(kPageBytes, kPageBytes);
  if (memory) std::memset(memory, 0, kPageBytes);
  return memory;
}

// The two files by which dom0's kernel tells where its own ring to xenstored is; -1: another file.
int kernel_file(const char* path) {
  if (!path || !std::strstr(path, "xsd_")) return -1;
  const int fd = ::memfd_create("xsd", MFD_CLOEXEC);
  if (std::strstr(path, "xsd_kva")) return ::ftruncate(fd, kPageBytes) == 0 ? fd : -1;
  const bool written = ::write(fd, "1", 1) == 1 && ::lseek(fd, 0, SEEK_SET) == 0;
  return written ? fd : -1;
}

int open_by(const char* name, const char* path, int flags, mode_t mode) {
  const int fd = kernel_file(path);
  if (fd >= 0) return fd;
  using Open = int (*)(const char*, int, ...);
  return reinterpret_cast<Open>(::dlsym(RTLD_NEXT, name))(path, flags, mode);
}

}  // namespace

extern "C" {

void* xc_interface_open() { return handle(); }
int xc_interface_close() { return 0; }
int xc_get_hvm_param(void*, uint32_t, uint32_t, unsigned long* value) { return *value = 0, 0; }
int xc_hvm_param_get(void*, uint32_t, uint32_t, uint64_t* value) { return *value = 0, 0; }
int xc_domain_getinfo(void*, uint32_t first, unsigned, uint32_t* info) { return *info = first, 1; }

void* xenevtchn_open() { return events = ::eventfd(0, EFD_NONBLOCK), handle(); }
void* xenevtchn_fdopen(void*, int fd) { return events = fd, handle(); }
int xenevtchn_fd() { return events; }
int xenevtchn_close() { return 0; }
int xenevtchn_bind_virq() { return 1; }
int xenevtchn_bind_interdomain() { return 2; }
int xenevtchn_unbind() { return 0; }
int xenevtchn_notify() { return 0; }
int xenevtchn_pending() { return -1; }
int xenevtchn_unmask() { return 0; }

void* xengnttab_open() { return handle(); }
void* xengnttab_map_grant_ref() { return page(); }
int xengnttab_set_max_grants() { return 0; }
int xengnttab_unmap() { return 0; }
int xengnttab_close() { return 0; }

void* xenforeignmemory_open() { return handle(); }
void* xenforeignmemory_map() { return page(); }
int xenforeignmemory_unmap() { return 0; }
int xenforeignmemory_close() { return 0; }

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return open_by("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return open_by("open64", path, flags, mode);
}
}
