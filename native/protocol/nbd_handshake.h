// SPDX-License-Identifier: Apache-2.0
// The client's half of an NBD negotiation: what a server says goes in, what is to be said comes
// out. Pure: knows no socket. A server is believed nothing that was not checked here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {

// What a server says of an export.
struct ServerFacts {
  uint64_t size = 0;  // bytes, as told
  uint16_t flags = 0;
  bool structured = false;  // replies
  // Where it tells none, what the protocol says is to be assumed.
  uint32_t block_min = 512;
  uint32_t block_preferred = 4096;
  uint32_t block_max = 32u << 20;
};

class Handshake {
 public:
  enum class State : uint8_t { going_on, agreed, refused };

  explicit Handshake(std::string name) : name_(std::move(name)) {}

  // Takes off the front of `in` what is whole and adds to `out` what is to be answered. Returns the
  // bytes taken.
  size_t feed(std::span<const std::byte> in, std::vector<std::byte>& out);
  State state() const { return state_; }
  const ServerFacts& facts() const { return facts_; }
  // Refused: the rest of a sentence that begins with the server.
  const std::string& why() const { return why_; }

 private:
  static constexpr size_t kReplyBytesMax = 16u << 10;
  static constexpr int kRepliesMax = 64;

  size_t greeting(std::span<const std::byte> in, std::vector<std::byte>& out);
  size_t option_reply(std::span<const std::byte> in, std::vector<std::byte>& out);
  void structured_reply(OptionReply type, std::vector<std::byte>& out);
  void go_reply(OptionReply type, std::span<const std::byte> data);
  void info(std::span<const std::byte> data);
  void block_sizes(std::span<const std::byte> data);
  void accept();
  void refuse(std::string why);

  const std::string name_;
  State state_ = State::going_on;
  bool greeted_ = false;
  Option asked_ = Option::structured_reply;
  bool knows_export_ = false;
  int replies_ = 0;
  ServerFacts facts_;
  std::string why_;
};

// Bytes that a server wrote, fit for a sentence.
std::string printable(std::span<const std::byte> text);

}  // namespace ringdisk::nbd
