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
  if (at == end) return false;
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

// The bits behind backslashes that are not escaped themselves. `carry`: 1 where the first byte is
// escaped from before, and then where the first one after these is.
uint64_t behind(uint64_t slashes, uint64_t& carry) {
  slashes &= ~carry;
  uint64_t escaped = carry;
  if (!(slashes & (slashes << 1))) {
    escaped |= slashes << 1;
    carry = slashes >> 63;
    return escaped;
  }
  carry = 0;
  while (slashes) {
    const uint64_t slash = slashes & (~slashes + 1);
    escaped |= slash << 1;
    carry = slash >> 63;
    slashes &= ~(slash | slash << 1);
  }
  return escaped;
}

// A string that is being read.
struct Reading {
  // Of the text around it.
  const Byte* end;
  // As `behind` and `escape` leave them.
  uint64_t carry = 0;
  const Byte* low = nullptr;
  bool wrong = false;

  // The quote that ends it in `block`, whose first `past` bytes stand before `at`; null = none does.
  const Byte* step(const Block& block, const Byte* at, int past) {
    const uint64_t slashes = block.equal('\\') >> past, escaped = behind(slashes, carry);
    const uint64_t quotes = block.equal('"') >> past, closes = quotes & ~escaped;
    // All bits before the first quote that closes.
    const uint64_t inside = closes ? (closes & (~closes + 1)) - 1 : ~uint64_t{0};
    wrong = (block.control() >> past & inside) != 0;
    // Those escapes that are told at a glance are nearly all.
    uint64_t others = escaped & inside;
    if (others) others &= ~(quotes | slashes | block.equal('n') >> past);
    for (; others && !wrong; others &= others - 1)
      wrong = !escape(at + std::countr_zero(others), end, low);
    return closes ? at + std::countr_zero(closes) : nullptr;
  }
};

// The quote that ends the string whose content begins `at`, in a text that begins at `begin`; null =
// none does, or it is wrong.
const Byte* closing(const Byte* const begin, const Byte* at, const Byte* const end) {
  // Most names are short.
  for (int i = 0; i < 2 && end - at >= 8; ++i) {
    const int first = first_special(at);
    at += first;
    if (first == 8) continue;
    if (*at == '"') return at;
    break;
  }
  Reading reading{end};
  for (; end - at >= Block::kSize; at += Block::kSize) {
    const Block block(at);
    if (!reading.carry && !block.special()) continue;
    const Byte* const quote = reading.step(block, at, 0);
    if (reading.wrong) return nullptr;
    if (quote) return quote;
  }
  if (at == end) return nullptr;
  const Byte* quote;
  if (end - begin >= Block::kSize) {
    // What the last 64 bytes have before `at` is shifted out.
    const Byte* const from = end - Block::kSize;
    quote = reading.step(Block(from), at, static_cast<int>(at - from));
  } else {
    Byte rest[Block::kSize] = {};
    std::memcpy(rest, at, static_cast<size_t>(end - at));
    quote = reading.step(Block(rest), at, 0);
  }
  return quote && !reading.wrong ? quote : nullptr;
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
  const Byte* const quote = closing(begin_, at_, end_);
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
