// SPDX-License-Identifier: Apache-2.0
// What the daemon and a worker say to each other over their socket (SOCK_SEQPACKET): requests by
// number, one reply each, and what the worker tells by itself. Fixed structs: both ends are of one
// build.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "medium/facts.h"

namespace ringdisk {

struct WorkerRequest {
  enum class Type : uint32_t {
    open,
    claim,
    measure,
    add_lane,
    remove_lane,
    connect,
    forget,
    close
  };
  Type type{};
  uint32_t number = 0;    // echoed by the reply; only the first three have one
  uint32_t lane = 0;      // connect, forget: who wants a connection
  uint32_t ended = 0;     // connect: first this one's other end must be closed (see UnixPeers)
  uint32_t failures = 0;  // connect: so many in a row were of no use
  bool read_only = false;
  bool share = false;
  bool take_over = false;     // claim: with what a dead worker had by O_EXCL, if anything
  bool adopt = false;         // open: as `facts` say, not anew; with a descriptor, but for NBD
  uint64_t create_bytes = 0;  // open: see MediumFacts::head
  MediumFacts facts{};        // open with adopt: what was found when it was opened
  std::array<char, 16> kind{};
  std::array<char, 4096> path{};
};

struct WorkerReply {
  enum class Type : uint32_t {
    opened,
    claimed,
    measured,
    failed,
    fence_lifted,
    warned,
    connected,    // its descriptor comes with it
    unreachable,  // none for some time; it is tried on
  };
  Type type{};
  uint32_t number = 0;
  uint32_t lane = 0;  // connected, unreachable: who wanted it
  uint32_t peer = 0;  // connected, as what follows: see Medium::Connected
  uint64_t server = 0;
  int32_t error = 0;      // failed: errno
  bool fenced = false;    // claimed; with it or with fence_lifted a claim by O_EXCL may come
  uint64_t capacity = 0;  // opened, measured: bytes
  uint64_t direct_end = 0;
  MediumFacts facts{};  // opened; a descriptor may come with it
  std::array<char, 1024> text{};
};

inline constexpr size_t kMessageFdsMax = 2;

// What does not fit is cut.
template <size_t N>
void put_text(std::array<char, N>& to, const std::string& text) {
  const size_t length = text.copy(to.data(), N - 1);
  to[length] = '\0';
}

template <typename T>
std::span<const std::byte> bytes_of(const T& message) {
  return std::as_bytes(std::span(&message, 1));
}
template <typename T>
std::span<std::byte> room_in(T& message) {
  return std::as_writable_bytes(std::span(&message, 1));
}

// 0 or -errno. Blocks unless the socket does not.
int send_message(int socket, std::span<const std::byte> message, std::span<const int> fds);
// Blocks unless the socket does not. Bytes received, 0 at the end, or -errno.
int receive_message(int socket, std::span<std::byte> message, std::vector<Fd>& fds);

}  // namespace ringdisk
