// SPDX-License-Identifier: Apache-2.0
#include "addon/text.h"

#include <cstdint>

namespace ringdisk {
namespace {

constexpr uint32_t kEscapeBase = 0xdc00;
constexpr uint32_t kReplacement = 0xfffd;

bool is_high(char16_t unit) { return unit >= 0xd800 && unit <= 0xdbff; }
bool is_low(char16_t unit) { return unit >= 0xdc00 && unit <= 0xdfff; }

char byte(uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); }

void append_utf8(std::string& bytes, uint32_t point) {
  if (point < 0x80) {
    bytes += byte(point);
    return;
  }
  const int tail = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  bytes += byte((0xffu << (7 - tail)) | (point >> (6 * tail)));
  for (int i = tail - 1; i >= 0; i--) bytes += byte(0x80 | ((point >> (6 * i)) & 0x3f));
}

uint8_t at(const std::string& bytes, size_t index) {
  return index < bytes.size() ? static_cast<uint8_t>(bytes[index]) : 0;
}

struct Character {
  uint32_t point = 0;
  // 0: no valid character begins here.
  size_t length = 0;
};

Character decode(const std::string& bytes, size_t index) {
  const uint8_t first = at(bytes, index);
  if (first < 0x80) return {first, 1};
  const size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (first < 0xc2 || first > 0xf4) return {};
  uint32_t point = first & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    const uint8_t next = at(bytes, index + i);
    if ((next & 0xc0) != 0x80) return {};
    point = (point << 6) | (next & 0x3f);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  if (overlong || surrogate || point > 0x10ffff) return {};
  return {point, length};
}

void append_utf16(std::u16string& text, uint32_t point) {
  if (point < 0x10000) {
    text += static_cast<char16_t>(point);
    return;
  }
  text += static_cast<char16_t>(0xd800 + ((point - 0x10000) >> 10));
  text += static_cast<char16_t>(0xdc00 + ((point - 0x10000) & 0x3ff));
}

}  // namespace

std::string to_bytes(const Napi::String& text) {
  const std::u16string units = text.Utf16Value();
  std::string bytes;
  bytes.reserve(units.size());
  for (size_t i = 0; i < units.size(); i++) {
    const char16_t unit = units[i];
    if (is_high(unit) && i + 1 < units.size() && is_low(units[i + 1])) {
      const uint32_t low = units[++i] - 0xdc00u;
      append_utf8(bytes, 0x10000 + ((unit - 0xd800u) << 10) + low);
    } else if (unit >= kEscapeBase + 0x80 && unit <= kEscapeBase + 0xff) {
      bytes += byte(unit - kEscapeBase);
    } else {
      append_utf8(bytes, is_high(unit) || is_low(unit) ? kReplacement : unit);
    }
  }
  return bytes;
}

Napi::Value from_bytes(Napi::Env env, const std::string& bytes) {
  std::u16string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const Character character = decode(bytes, i);
    append_utf16(text, character.length > 0 ? character.point : kEscapeBase + at(bytes, i));
    i += character.length > 0 ? character.length : 1;
  }
  return Napi::String::New(env, text);
}

}  // namespace ringdisk
