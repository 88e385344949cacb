#include "speedups/json.h"

#include <bit>

namespace speedups {

namespace {

// The number that four hexadecimal digits are; -1 = they are not.
int hex4(const Byte* at, const Byte* end) {
  if (end - at < 4) return -1;
  int code = 0;
  for (int i = 0; i < 4; ++i) {
    const Byte c = at[i], letter = static_cast<Byte>(c | 0x20);
    int digit;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (letter >= 'a' && letter <= 'f')
      digit = letter - 'a' + 10;
    else
      return -1;
    code = code * 16 + digit;
  }
  return code;
}

// Whether what follows a backslash is an escape. `low`: the backslash that an upper surrogate has
// announced, behind which the lower one stands; nowhere else may one stand.
bool escape(const Byte* at, const Byte* end, const Byte*& low) {
  switch (*at) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
      return true;
    case 'u':
      break;
    default:
      return false;
  }
  const int code = hex4(at + 1, end);
  if (code < 0) return false;
  if (code >= 0xdc00 && code <= 0xdfff) return at - 1 == low;
  if (code < 0xd800 || code > 0xdfff) return true;
  if (end - at < 7 || at[5] != '\\' || at[6] != 'u') return false;
  const int next = hex4(at + 7, end);
  low = at + 5;
  return next >= 0xdc00 && next <= 0xdfff;
}

// The bits behind backslashes that are not escaped themselves; the first one is not.
uint64_t behind(uint64_t slashes) {
  if (!(slashes & (slashes << 1))) return slashes << 1;
  uint64_t escaped = 0;
  while (slashes) {
    const uint64_t slash = slashes & (~slashes + 1);
    escaped |= slash << 1;
    slashes &= ~(slash | slash << 1);
  }
  return escaped;
}

// The quote that ends the string whose content begins `at`; null = none does, or it is wrong.
const Byte* closing(const Byte* at, const Byte* const end) {
  const Byte* low = nullptr;
  for (;;) {
    Byte rest[Block::kSize];
    const Byte* from = at;
    if (end - at < Block::kSize) {
      // Zeros are control characters, and end it.
      std::memset(rest, 0, sizeof rest);
      std::memcpy(rest, at, static_cast<size_t>(end - at));
      from = rest;
    }
    const Block block(from);
    if (!block.special()) {
      at += Block::kSize;
      continue;
    }
    const uint64_t slashes = block.equal('\\'), escaped = behind(slashes);
    const uint64_t quotes = block.equal('"'), closes = quotes & ~escaped;
    // All bits before the first quote that closes.
    const uint64_t inside = closes ? (closes & (~closes + 1)) - 1 : ~uint64_t{0};
    if (block.control() & inside) return nullptr;
    if (slashes & inside) {
      // Those that are told at a glance are nearly all.
      uint64_t others = escaped & inside & ~(quotes | slashes | block.equal('n'));
      for (; others; others &= others - 1)
        if (!escape(at + std::countr_zero(others), end, low)) return nullptr;
    }
    if (closes) return at + std::countr_zero(closes);
    // A backslash that is last comes again, with what is behind it.
    at += Block::kSize - static_cast<int>((slashes & ~escaped) >> 63);
  }
}

}  // namespace

bool Json::plain(Text name) {
  for (const Byte* at = name.begin; at != name.end; ++at)
    if (*at >= 0x80 || *at == '\\') return false;
  return true;
}

bool Json::value(int depth) {
  if (at_ == end_) return false;
  switch (*at_) {
    case '"': {
      Text content;
      return string(&content);
    }
    case '{':
      return depth < kDeepest && fields(depth + 1);
    case '[':
      return depth < kDeepest && items(depth + 1);
    case 't':
      return literal("true", 4);
    case 'f':
      return literal("false", 5);
    case 'n':
      return literal("null", 4);
    default:
      return number();
  }
}

bool Json::fields(int depth) {
  ++at_;
  skip_space();
  if (take('}')) return true;
  do {
    Text name;
    skip_space();
    if (!string(&name) || !colon() || !value(depth)) return false;
    skip_space();
  } while (take(','));
  return take('}');
}

bool Json::items(int depth) {
  ++at_;
  skip_space();
  if (take(']')) return true;
  do {
    skip_space();
    if (!value(depth)) return false;
    skip_space();
  } while (take(','));
  return take(']');
}

bool Json::string(Text* content) {
  if (!take('"')) return false;
  const Byte* const quote = closing(at_, end_);
  if (!quote) return false;
  *content = Text{at_, quote};
  at_ = quote + 1;
  return true;
}

bool Json::literal(const char* word, size_t length) {
  if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, word, length) != 0) return false;
  at_ += length;
  return true;
}

bool Json::number() {
  take('-');
  if (!take('0') && !digits()) return false;
  if (take('.') && !digits()) return false;
  if (take('e') || take('E')) {
    if (!take('+')) take('-');
    return digits();
  }
  return true;
}

bool Json::digits() {
  const Byte* const begin = at_;
  while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
  return at_ != begin;
}

}  // namespace speedups
