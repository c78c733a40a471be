// SPDX-License-Identifier: Apache-2.0
#include "nbd/negotiation.h"

#include <algorithm>
#include <array>

#include "protocol/nbd_wire.h"

namespace ringdisk::nbd {
namespace {

constexpr size_t kGreetingZeroes = 124;  // behind NBD_OPT_EXPORT_NAME's answer

void reply(std::vector<std::byte>& out, uint32_t option, OptionReply type,
           std::string_view text = {}) {
  Writer(out)
      .number(kOptionReplyMagic)
      .number(option)
      .number(static_cast<uint32_t>(type))
      .number(static_cast<uint32_t>(text.size()))
      .text(text);
}

// Reads off the front of an option's data; false where there is not so much.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> data) : left_(data) {}
  template <std::unsigned_integral T>
  bool number(T& value) {
    if (left_.size() < sizeof value) return false;
    value = get<T>(left_.data());
    left_ = left_.subspan(sizeof value);
    return true;
  }
  bool text(std::string_view& text) {
    uint32_t length = 0;
    if (!number(length) || length > left_.size()) return false;
    text = {reinterpret_cast<const char*>(left_.data()), length};
    left_ = left_.subspan(length);
    return true;
  }
  std::span<const std::byte> rest() const { return left_; }

 private:
  std::span<const std::byte> left_;
};

// "base:" and "qemu:dirty-bitmap:" ask what there is; only a list may be asked for so.
bool answers(const Context& context, std::string_view query, bool is_list) {
  if (context.name == query) return true;
  return is_list && query.ends_with(':') && std::string_view(context.name).starts_with(query);
}

}  // namespace

Negotiation::Negotiation(std::span<const ExportFacts> exports, Out& out) : exports_(exports) {
  Writer(out)
      .number(kGreeting)
      .number(kOptionMagic)
      .number(static_cast<uint16_t>(kFixedNewstyle | kNoZeroes));
}

size_t Negotiation::feed(std::span<const std::byte> in, Out& out) {
  size_t taken = 0;
  while (state_ == State::options) {
    const auto left = in.subspan(taken);
    const size_t step = greeted_ ? take_option(left, out) : take_flags(left);
    if (step == 0) break;
    taken += step;
  }
  return taken;
}

size_t Negotiation::take_flags(std::span<const std::byte> in) {
  uint32_t flags = 0;
  if (!Reader(in).number(flags)) return 0;
  // A client of a kind that we do not know; one without fixed newstyle could only use the old way.
  if ((flags & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0 || !(flags & kFixedNewstyle))
    state_ = State::over;
  no_zeroes_ = flags & kNoZeroes;
  greeted_ = true;
  return sizeof flags;
}

size_t Negotiation::take_option(std::span<const std::byte> in, Out& out) {
  if (skip_ > 0) {
    const size_t skipped = std::min<size_t>(skip_, in.size());
    skip_ -= static_cast<uint32_t>(skipped);
    return skipped;
  }
  Reader reader(in);
  uint64_t magic = 0;
  uint32_t option = 0;
  uint32_t length = 0;
  if (!reader.number(magic) || !reader.number(option) || !reader.number(length)) return 0;
  if (magic != kOptionMagic || ++options_ > kOptionsMax) {
    state_ = State::over;
    return in.size();
  }
  if (length > kOptionBytesMax) {
    reply(out, option, OptionReply::too_big, "an option of more than 16 KiB");
    skip_ = length;
    return kOptionBytes;
  }
  if (reader.rest().size() < length) {
    options_--;  // it is looked at once more
    return 0;
  }
  answer(option, reader.rest().first(length), out);
  return kOptionBytes + length;
}

void Negotiation::answer(uint32_t option, std::span<const std::byte> data, Out& out) {
  const bool has_data = !data.empty();
  switch (static_cast<Option>(option)) {
    case Option::export_name:
      return export_name(data, out);
    case Option::abort:
      reply(out, option, OptionReply::ack);
      state_ = State::over;
      return;
    case Option::list:
      return list(data, out);
    case Option::info:
    case Option::go:
      return info(option, data, out);
    case Option::structured_reply:
      if (has_data) return reply(out, option, OptionReply::invalid, "it has no data");
      if (agreement_.extended) return reply(out, option, OptionReply::extended_headers_required);
      agreement_.structured = true;
      return reply(out, option, OptionReply::ack);
    case Option::extended_headers:
      if (has_data) return reply(out, option, OptionReply::invalid, "it has no data");
      agreement_.structured = agreement_.extended = true;
      return reply(out, option, OptionReply::ack);
    case Option::list_meta_context:
    case Option::set_meta_context:
      return meta_context(option, data, out);
    case Option::starttls:
      break;
  }
  reply(out, option, OptionReply::unsupported);
}

// The old way to choose: whoever is refused finds the connection closed.
void Negotiation::export_name(std::span<const std::byte> data, Out& out) {
  const auto index = find({reinterpret_cast<const char*>(data.data()), data.size()});
  // Extended headers need to be told what they come with.
  if (!index || agreement_.extended) {
    state_ = State::over;
    return;
  }
  const ExportFacts& facts = exports_[*index];
  Writer(out).number(facts.size).number(facts.flags).zeroes(no_zeroes_ ? 0 : kGreetingZeroes);
  agree(*index);
}

void Negotiation::list(std::span<const std::byte> data, Out& out) const {
  constexpr auto kOption = static_cast<uint32_t>(Option::list);
  if (!data.empty()) return reply(out, kOption, OptionReply::invalid, "it has no data");
  for (const ExportFacts& facts : exports_) {
    Writer(out)
        .number(kOptionReplyMagic)
        .number(kOption)
        .number(static_cast<uint32_t>(OptionReply::server))
        .number(
            static_cast<uint32_t>(sizeof(uint32_t) + facts.name.size() + facts.description.size()))
        .number(static_cast<uint32_t>(facts.name.size()))
        .text(facts.name)
        .text(facts.description);
  }
  reply(out, kOption, OptionReply::ack);
}

void Negotiation::info(uint32_t option, std::span<const std::byte> data, Out& out) {
  Reader reader(data);
  std::string_view name;
  uint16_t wishes = 0;
  if (!reader.text(name) || name.size() > kNameBytesMax || !reader.number(wishes) ||
      reader.rest().size() != sizeof(uint16_t) * wishes)
    return reply(out, option, OptionReply::invalid, "its lengths contradict each other");
  const auto index = find(name);
  if (!index) return reply(out, option, OptionReply::unknown, "there is no such export");
  tell(option, exports_[*index], reader.rest(), out);
  reply(out, option, OptionReply::ack);
  if (static_cast<Option>(option) == Option::go) agree(*index);
}

// What was asked for, each once, and what is always said.
void Negotiation::tell(uint32_t option, const ExportFacts& facts, std::span<const std::byte> wishes,
                       Out& out) const {
  const auto begin = [&](Info info, size_t more) {
    return Writer(out)
        .number(kOptionReplyMagic)
        .number(option)
        .number(static_cast<uint32_t>(OptionReply::info))
        .number(static_cast<uint32_t>(sizeof(uint16_t) + more))
        .number(static_cast<uint16_t>(info));
  };
  const auto wishes_for = [&](Info info) {
    for (size_t at = 0; at < wishes.size(); at += sizeof(uint16_t))
      if (get<uint16_t>(wishes.data() + at) == static_cast<uint16_t>(info)) return true;
    return false;
  };
  begin(Info::export_, 10).number(facts.size).number(facts.flags);
  if (wishes_for(Info::name)) begin(Info::name, facts.name.size()).text(facts.name);
  if (wishes_for(Info::description))
    begin(Info::description, facts.description.size()).text(facts.description);
  begin(Info::block_size, 12)
      .number(facts.block_min)
      .number(facts.block_preferred)
      .number(facts.block_max);
}

void Negotiation::meta_context(uint32_t option, std::span<const std::byte> data, Out& out) {
  const bool is_list = static_cast<Option>(option) == Option::list_meta_context;
  const auto invalid = [&](std::string_view why) { reply(out, option, OptionReply::invalid, why); };
  // A new choice, also one that fails, ends the one before.
  if (!is_list) {
    agreement_.contexts.clear();
    contexts_of_.reset();
  }
  if (!agreement_.structured) return invalid("it needs structured replies");
  Reader reader(data);
  std::string_view name;
  uint32_t count = 0;
  if (!reader.text(name) || name.size() > kNameBytesMax || !reader.number(count))
    return invalid("its lengths contradict each other");
  // No query takes less than its length does.
  if (count > reader.rest().size() / sizeof(uint32_t)) return invalid("it has fewer queries");
  std::vector<std::string_view> queries(count);
  for (std::string_view& query : queries)
    if (!reader.text(query)) return invalid("its lengths contradict each other");
  if (!reader.rest().empty()) return invalid("it has more data than queries");
  const auto index = find(name);
  if (!index) return reply(out, option, OptionReply::unknown, "there is no such export");
  for (const Context& context : exports_[*index].contexts) {
    const auto is_it = [&](std::string_view query) { return answers(context, query, is_list); };
    if (!(is_list && count == 0) && std::ranges::none_of(queries, is_it)) continue;
    if (!is_list && agreement_.contexts.size() >= kContextsMax) break;
    Writer(out)
        .number(kOptionReplyMagic)
        .number(option)
        .number(static_cast<uint32_t>(OptionReply::meta_context))
        .number(static_cast<uint32_t>(sizeof context.id + context.name.size()))
        .number(is_list ? 0 : context.id)
        .text(context.name);
    if (!is_list) agreement_.contexts.push_back(context.id);
  }
  if (!is_list) contexts_of_ = index;
  reply(out, option, OptionReply::ack);
}

void Negotiation::agree(size_t index) {
  agreement_.index = index;
  if (contexts_of_ != index) agreement_.contexts.clear();
  state_ = State::agreed;
}

// The empty name asks for the default: the only one, where there is one only.
std::optional<size_t> Negotiation::find(std::string_view name) const {
  if (name.empty() && exports_.size() == 1) return 0;
  const auto found = std::ranges::find(exports_, name, &ExportFacts::name);
  if (found == exports_.end()) return std::nullopt;
  return static_cast<size_t>(found - exports_.begin());
}

}  // namespace ringdisk::nbd
