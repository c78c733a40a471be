// SPDX-License-Identifier: Apache-2.0
#include "protocol/nbd_handshake.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace ringdisk::nbd {
namespace {

constexpr size_t kGreetingBytes = 18;
constexpr size_t kReplyHeaderBytes = 20;
constexpr uint64_t kOldstyleMagic = 0x0000420281861253;
constexpr size_t kTextMax = 200;

void ask(std::vector<std::byte>& out, Option option, std::span<const std::byte> data) {
  Writer(out).number(kOptionMagic).number(static_cast<uint32_t>(option));
  Writer(out).number(static_cast<uint32_t>(data.size()));
  out.insert(out.end(), data.begin(), data.end());
}

void ask_to_go(std::vector<std::byte>& out, const std::string& name) {
  std::vector<std::byte> data;
  Writer(data).number(static_cast<uint32_t>(name.size())).text(name);
  Writer(data).number(uint16_t{1}).number(static_cast<uint16_t>(Info::block_size));
  ask(out, Option::go, data);
}

bool is_error(OptionReply type) { return (static_cast<uint32_t>(type) & 0x80000000) != 0; }

// The kernel and others count offsets with a sign.
constexpr uint64_t kSizeMax = uint64_t{1} << 62;

}  // namespace

std::string printable(std::span<const std::byte> text) {
  std::string result;
  for (const std::byte byte : text.first(std::min(text.size(), kTextMax))) {
    const char letter = static_cast<char>(byte);
    result += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return result;
}

size_t Handshake::feed(std::span<const std::byte> in, std::vector<std::byte>& out) {
  size_t taken = 0;
  while (state_ == State::going_on) {
    const auto rest = in.subspan(taken);
    const size_t now = greeted_ ? option_reply(rest, out) : greeting(rest, out);
    if (now == 0) break;
    taken += now;
  }
  return taken;
}

size_t Handshake::greeting(std::span<const std::byte> in, std::vector<std::byte>& out) {
  if (in.size() < kGreetingBytes) return 0;
  const auto style = get<uint64_t>(in.data() + 8);
  const auto flags = get<uint16_t>(in.data() + 16);
  if (get<uint64_t>(in.data()) != kGreeting)
    refuse("does not speak NBD");
  else if (style == kOldstyleMagic)
    refuse("speaks the protocol's old style, which knows no names of exports");
  else if (style != kOptionMagic)
    refuse("does not speak NBD as it is known");
  else if ((flags & kFixedNewstyle) == 0)
    refuse("is too old: it does not know the fixed new style");
  if (state_ == State::refused) return kGreetingBytes;
  greeted_ = true;
  Writer(out).number(static_cast<uint32_t>(flags & (kFixedNewstyle | kNoZeroes)));
  ask(out, asked_, {});
  return kGreetingBytes;
}

size_t Handshake::option_reply(std::span<const std::byte> in, std::vector<std::byte>& out) {
  if (in.size() < kReplyHeaderBytes) return 0;
  const auto length = get<uint32_t>(in.data() + 16);
  const bool sound = get<uint64_t>(in.data()) == kOptionReplyMagic &&
                     get<uint32_t>(in.data() + 8) == static_cast<uint32_t>(asked_) &&
                     length <= kReplyBytesMax && replies_++ < kRepliesMax;
  if (!sound) {
    refuse("answers an option with what is no answer to it");
    return kReplyHeaderBytes;
  }
  if (in.size() < kReplyHeaderBytes + length) {
    replies_--;
    return 0;
  }
  const auto type = static_cast<OptionReply>(get<uint32_t>(in.data() + 12));
  const auto data = in.subspan(kReplyHeaderBytes, length);
  if (asked_ == Option::structured_reply)
    structured_reply(type, out);
  else
    go_reply(type, data);
  return kReplyHeaderBytes + length;
}

void Handshake::structured_reply(OptionReply type, std::vector<std::byte>& out) {
  if (type != OptionReply::ack && !is_error(type)) return refuse("answers an option wrongly");
  facts_.structured = type == OptionReply::ack;
  asked_ = Option::go;
  ask_to_go(out, name_);
}

void Handshake::go_reply(OptionReply type, std::span<const std::byte> data) {
  if (type == OptionReply::ack) return accept();
  if (type == OptionReply::info) return info(data);
  if (type == OptionReply::unknown) {
    const std::string which = "\"" + printable(std::as_bytes(std::span(name_))) + "\"";
    return refuse("has no export " + (name_.empty() ? "without a name" : which));
  }
  if (!is_error(type)) return refuse("answers an option wrongly");
  refuse("refuses the export" + (data.empty() ? "" : ": " + printable(data)));
}

void Handshake::info(std::span<const std::byte> data) {
  if (data.size() < 2) return refuse("tells nothing where it should tell of the export");
  const auto type = static_cast<Info>(get<uint16_t>(data.data()));
  if (type == Info::block_size) return block_sizes(data);
  if (type != Info::export_) return;
  if (data.size() != 12) return refuse("tells of the export in a wrong length");
  knows_export_ = true;
  facts_.size = get<uint64_t>(data.data() + 2);
  facts_.flags = get<uint16_t>(data.data() + 10);
}

void Handshake::block_sizes(std::span<const std::byte> data) {
  if (data.size() != 14) return refuse("tells the sizes of blocks in a wrong length");
  const auto least = get<uint32_t>(data.data() + 2);
  const auto preferred = get<uint32_t>(data.data() + 6);
  const auto most = get<uint32_t>(data.data() + 10);
  if (!std::has_single_bit(least) || !std::has_single_bit(preferred) || preferred < least ||
      most < preferred)
    return refuse("tells sizes of blocks that cannot be");
  facts_.block_min = least;
  facts_.block_preferred = preferred;
  facts_.block_max = most;
}

void Handshake::accept() {
  if (!knows_export_) return refuse("does not tell the size of the export");
  if ((facts_.flags & kHasFlags) == 0) return refuse("does not tell what the export can");
  if (facts_.size > kSizeMax) return refuse("tells a size that cannot be");
  state_ = State::agreed;
}

void Handshake::refuse(std::string why) {
  state_ = State::refused;
  why_ = std::move(why);
}

}  // namespace ringdisk::nbd
