// SPDX-License-Identifier: Apache-2.0
#include "medium/nbd_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

namespace ringdisk {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kNameMark = ":exportname=";
constexpr size_t kNameBytesMax = 256;  // so that an identity has room for it
constexpr size_t kSaidMax = 64u << 10;

int left_ms(Clock::time_point until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

[[noreturn]] void no_answer(const NbdAddress& address) {
  fail(ETIMEDOUT, "the NBD server at " + address.socket + " has not answered for " +
                      std::to_string(kNbdPatienceMs / 1000) + " s");
}

// A server that has no place in its queue says EAGAIN at once, and is asked again.
Fd connect_to(const NbdAddress& address, Clock::time_point until) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (address.socket.size() >= sizeof name.sun_path)
    throw std::invalid_argument("the path of the NBD server's socket, " + address.socket +
                                ", is longer than a socket's name may be (107 bytes)");
  address.socket.copy(name.sun_path, sizeof name.sun_path - 1);
  Fd socket = Fd::checked(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                          "cannot make a socket");
  // Nobody sends us descriptors, whose closing might wait (Linux 6.16; before, it is on trust).
  constexpr int kPassRights = 83;
  const int no = 0;
  ::setsockopt(socket.get(), SOL_SOCKET, kPassRights, &no, sizeof no);
  while (::connect(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
    if (errno != EAGAIN && errno != EINTR)
      fail(errno, "cannot reach an NBD server at " + address.socket);
    if (left_ms(until) == 0) no_answer(address);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return socket;
}

void say(const NbdAddress& address, int socket, std::vector<std::byte>& out) {
  // More than a socket takes at once is never said here.
  const ssize_t sent = ::send(socket, out.data(), out.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(out.size()))
    fail(sent < 0 ? errno : EIO, "cannot speak with the NBD server at " + address.socket);
  out.clear();
}

void hear(const NbdAddress& address, int socket, std::vector<std::byte>& in,
          Clock::time_point until) {
  pollfd ready{socket, POLLIN, 0};
  while (::poll(&ready, 1, left_ms(until)) <= 0)
    if (left_ms(until) == 0) no_answer(address);
  std::array<std::byte, 4096> more;
  const ssize_t received = ::recv(socket, more.data(), more.size(), 0);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received < 0) fail(errno, "cannot hear the NBD server at " + address.socket);
  if (received == 0)
    fail(ECONNRESET, "the NBD server at " + address.socket + " ended the negotiation");
  in.insert(in.end(), more.begin(), more.begin() + received);
  // What it says is taken whole, piece by piece, and none is as long.
  if (in.size() > kSaidMax)
    throw std::invalid_argument("the NBD server at " + address.socket + " says too much");
}

// In clock ticks since the machine started. 0: it cannot be told.
uint64_t start_time(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  // The name may hold anything, and ends with the last parenthesis.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  constexpr int kStartTime = 20;
  for (int i = 0; i < kStartTime; i++) fields >> field;
  return std::strtoull(field.c_str(), nullptr, 10);
}

}  // namespace

NbdAddress NbdAddress::parse(const std::string& text) {
  const size_t mark = text.find(kNameMark);
  if (mark == std::string::npos) return {text, ""};
  NbdAddress address{text.substr(0, mark), text.substr(mark + kNameMark.size())};
  if (address.name.size() > kNameBytesMax)
    throw std::invalid_argument("the name of an NBD export is longer than 256 bytes");
  return address;
}

NbdLink connect_nbd(const NbdAddress& address) {
  const auto until = Clock::now() + std::chrono::milliseconds(kNbdPatienceMs);
  NbdLink link{connect_to(address, until), {}};
  nbd::Handshake handshake(address.name);
  std::vector<std::byte> in;
  std::vector<std::byte> out;
  while (handshake.state() == nbd::Handshake::State::going_on) {
    hear(address, link.socket.get(), in, until);
    const size_t taken = handshake.feed(in, out);
    in.erase(in.begin(), in.begin() + static_cast<ptrdiff_t>(taken));
    if (!out.empty()) say(address, link.socket.get(), out);
  }
  if (handshake.state() == nbd::Handshake::State::refused)
    throw std::invalid_argument("the NBD server at " + address.socket + " " + handshake.why());
  // Nothing was asked yet.
  if (!in.empty())
    throw std::invalid_argument("the NBD server at " + address.socket + " answers unasked");
  link.facts = handshake.facts();
  return link;
}

uint64_t server_of(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid <= 1) return 0;
  // Hidden from a confined service, the time is left out: numbers come again, but seldom so soon.
  return start_time(peer.pid) << 22 | static_cast<uint32_t>(peer.pid);
}

bool is_quiet(int socket) {
  pollfd ready{socket, POLLIN | POLLRDHUP, 0};
  return ::poll(&ready, 1, 0) == 0;
}

}  // namespace ringdisk
