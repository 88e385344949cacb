// A strict reader of JSON (RFC 8259) that keeps nothing: it finds where things are.
#pragma once

#include <cstddef>
#include <cstring>

#include "speedups/block.h"

namespace speedups {

// Bytes [begin, end).
struct Text {
  const Byte* begin;
  const Byte* end;

  size_t size() const { return static_cast<size_t>(end - begin); }
  bool is(const char* other, size_t length) const {
    return size() == length && std::memcmp(begin, other, length) == 0;
  }
};

// Reads [begin, end), whatever is in there. Bytes from 0x80 on are not looked at within strings.
class Json {
 public:
  // Objects and arrays within each other.
  static constexpr int kDeepest = 128;

  Json(const Byte* begin, const Byte* end) : begin_(begin), at_(begin), end_(end) {}

  // Whether all of it is one object, and `field(name, value)` was true for each field of it. The
  // name comes without its quotes; one with a backslash or with a byte from 0x80 on is refused.
  template <class Field>
  bool object(Field field) {
    skip_space();
    if (!take('{')) return false;
    skip_space();
    if (!take('}')) {
      do {
        Text name;
        skip_space();
        if (!string(&name) || !plain(name) || !colon()) return false;
        const Byte* const begin = at_;
        if (!value(1) || !field(name, Text{begin, at_})) return false;
        skip_space();
      } while (take(','));
      if (!take('}')) return false;
    }
    skip_space();
    return at_ == end_;
  }

 private:
  bool take(char wanted) {
    if (at_ == end_ || *at_ != static_cast<Byte>(wanted)) return false;
    ++at_;
    return true;
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool colon() {
    skip_space();
    if (!take(':')) return false;
    skip_space();
    return true;
  }

  static bool plain(Text name);
  bool value(int depth);
  bool fields(int depth);
  bool items(int depth);
  bool string(Text* content);
  bool literal(const char* word, size_t length);
  bool number();
  bool digits();

  const Byte* const begin_;
  const Byte* at_;
  const Byte* const end_;
};

}  // namespace speedups
