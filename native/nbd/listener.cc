// SPDX-License-Identifier: Apache-2.0
#include "nbd/listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace ringdisk::nbd {
namespace {

constexpr int kBacklog = 64;

[[noreturn]] void fail(int error, const std::string& path) {
  throw std::system_error(error, std::generic_category(), "cannot listen on " + path);
}

Fd make_socket(const std::string& path, int flags = 0) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) fail(errno, path);
  return fd;
}

// A file that is no socket refuses as well.
bool is_deserted(const std::string& path, const sockaddr_un& address) {
  struct stat there{};
  if (::lstat(path.c_str(), &there) != 0 || !S_ISSOCK(there.st_mode)) return false;
  const Fd probe = make_socket(path, SOCK_NONBLOCK);
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno == ECONNREFUSED;
}

// Without a privilege a file's group can only be one of our own. But in a folder with the setgid
// bit a new file has the folder's.
void let_in(gid_t group, const std::string& path) {
  struct stat made{};
  if (::lstat(path.c_str(), &made) != 0) fail(errno, path);
  if (made.st_gid != group && ::lchown(path.c_str(), static_cast<uid_t>(-1), group) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    throw std::system_error(error, std::generic_category(),
                            "cannot give " + path + " to group " + std::to_string(group) +
                                ", which is neither ours nor that of a folder with the setgid bit");
  }
  if (::chmod(path.c_str(), S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP) != 0) fail(errno, path);
}

bool is_passing(int32_t error) {
  return error == -EINTR || error == -EAGAIN || error == -ECONNABORTED || error == -EMFILE ||
         error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

}  // namespace

Fd listen_on(const std::string& path, const Group& group) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) fail(ENAMETOOLONG, path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  Fd fd = make_socket(path);
  // What bind() gives the new file.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) fail(errno, path);
  const auto bind = [&] {
    return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  };
  if (bind() != 0) {
    if (errno != EADDRINUSE) fail(errno, path);
    if (!is_deserted(path, address)) fail(EADDRINUSE, path);
    ::unlink(path.c_str());
    if (bind() != 0) fail(errno, path);
  }
  if (group) let_in(*group, path);
  if (::listen(fd.get(), kBacklog) != 0) fail(errno, path);
  return fd;
}

Listener::Listener(Uring& uring, int socket, std::function<void(Fd)> accepted,
                   std::function<void()> over)
    : uring_(uring), socket_(socket), accepted_(std::move(accepted)), over_(std::move(over)) {
  operation_.channel = &completions_;
  operation_.sink = this;
  operation_.waits_for_client = true;
  accept();
}

void Listener::accept() {
  io_uring_prep_accept(uring_.reserve_for(operation_), socket_, nullptr, nullptr, SOCK_CLOEXEC);
}

void Listener::finished(Operation& operation) {
  if (operation.result >= 0) accepted_(Fd(operation.result));
  if (operation.result < 0 && !is_passing(operation.result)) return over_();
  accept();
}

}  // namespace ringdisk::nbd
