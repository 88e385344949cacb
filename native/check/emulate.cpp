// Emulates what the variants avxvnni, avx512bf16 and amx use and this CPU may lack: the kernel reports
// an unknown instruction as SIGILL, whose handler does its work and goes on behind it. So the code that
// ships is what is checked, encodings and all. After Intel's manual, volumes 1 (18) and 2.
#include "check/emulate.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <initializer_list>

namespace {

long g_count = 0;

[[noreturn]] void unknown(const uint8_t* at) {
  fprintf(stderr, "cannot emulate %02x %02x %02x %02x %02x %02x\n", at[0], at[1], at[2], at[3], at[4], at[5]);
  abort();
}

// ---- registers: what the kernel saved of them (XSAVE's format) -----------------------------------

uint32_t offset_of(int component) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid_count(13, static_cast<unsigned>(component), &a, &b, &c, &d);
  return b;
}

// Components of the saved state, and where they begin.
struct Offsets {
  uint32_t ymm = offset_of(2), zmm = offset_of(6), upper = offset_of(7);
};

Offsets g_offsets;

struct Vector {
  alignas(64) uint8_t v[64];
};

class Registers {
 public:
  explicit Registers(ucontext_t* context)
      : general_(context->uc_mcontext.gregs),
        saved_(reinterpret_cast<uint8_t*>(context->uc_mcontext.fpregs)) {}

  uint64_t general(int i) const {
    constexpr int kIndex[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return static_cast<uint64_t>(general_[kIndex[i]]);
  }
  const uint8_t* next() const { return reinterpret_cast<const uint8_t*>(general_[REG_RIP]); }
  void go_to(const uint8_t* at) { general_[REG_RIP] = reinterpret_cast<greg_t>(at); }

  Vector vector(int i) {
    Vector r;
    if (i >= 16) {
      memcpy(r.v, part(7, g_offsets.upper, 16 * 64) + 64 * (i - 16), 64);
      return r;
    }
    memcpy(r.v, part(1, 160, 256) + 16 * i, 16);
    memcpy(r.v + 16, part(2, g_offsets.ymm, 256) + 16 * i, 16);
    memcpy(r.v + 32, part(6, g_offsets.zmm, 16 * 32) + 32 * i, 32);
    return r;
  }
  void set_vector(int i, const Vector& r) {
    if (i >= 16) {
      memcpy(part(7, g_offsets.upper, 16 * 64) + 64 * (i - 16), r.v, 64);
      return;
    }
    memcpy(part(1, 160, 256) + 16 * i, r.v, 16);
    memcpy(part(2, g_offsets.ymm, 256) + 16 * i, r.v + 16, 16);
    memcpy(part(6, g_offsets.zmm, 16 * 32) + 32 * i, r.v + 32, 32);
  }

 private:
  // A component's memory. One that was not in use is not saved: then it is zero.
  uint8_t* part(int component, uint32_t offset, size_t bytes) {
    uint64_t used;
    memcpy(&used, saved_ + 512, 8);
    uint8_t* at = saved_ + offset;
    if (!(used >> component & 1)) {
      memset(at, 0, bytes);
      used |= uint64_t{1} << component;
      memcpy(saved_ + 512, &used, 8);
    }
    return at;
  }

  greg_t* general_;
  uint8_t* saved_;
};

// ---- instructions ----------------------------------------------------------------------------------

struct Instruction {
  int prefix;  // pp: 0 none, 1 66, 2 F3, 3 F2
  int opcode;
  int bytes;  // of vectors
  int reg, vvvv, rm;
  bool evex, broadcast;
  bool in_register;
  uint8_t modrm;
  const uint8_t* memory;
  uint64_t stride;  // of a tile: the index register
  const uint8_t* end;
};

void decode_memory(Registers& r, const uint8_t* at, int extend_x, int extend_b, int scale8, Instruction& i) {
  const int mod = i.modrm >> 6, low = i.modrm & 7;
  uint64_t address = 0;
  bool wide = mod == 2, relative = false;
  if (low == 4) {
    const uint8_t sib = *at++;
    const int index = (sib >> 3 & 7) | extend_x, base = sib & 7;
    if (index != 4) {
      i.stride = r.general(index) << (sib >> 6);
      address += i.stride;
    }
    if (base == 5 && mod == 0) {
      wide = true;
    } else {
      address += r.general(base | extend_b);
    }
  } else if (low == 5 && mod == 0) {
    wide = relative = true;
  } else {
    address += r.general(low | extend_b);
  }
  if (wide) {
    int32_t d;
    memcpy(&d, at, 4);
    at += 4;
    address += static_cast<uint64_t>(int64_t{d});
  } else if (mod == 1) {
    address += static_cast<uint64_t>(int64_t{static_cast<int8_t>(*at++)} * scale8);
  }
  if (relative) address += reinterpret_cast<uint64_t>(at);
  i.memory = reinterpret_cast<const uint8_t*>(address);
  i.end = at;
}

Instruction decode(Registers& r) {
  const uint8_t* p = r.next();
  Instruction i{};
  int x = 0, b = 0;
  if (p[0] == 0xC4 && (p[1] & 31) == 2) {
    i.reg = p[1] & 0x80 ? 0 : 8;
    x = p[1] & 0x40 ? 0 : 8;
    b = p[1] & 0x20 ? 0 : 8;
    i.vvvv = ~p[2] >> 3 & 15;
    i.bytes = p[2] & 4 ? 32 : 16;
    i.prefix = p[2] & 3;
    p += 3;
  } else if (p[0] == 0x62 && (p[1] & 15) == 2 && !(p[3] & 7)) {  // no masks
    i.evex = true;
    i.reg = (p[1] & 0x80 ? 0 : 8) | (p[1] & 0x10 ? 0 : 16);
    x = p[1] & 0x40 ? 0 : 8;
    b = p[1] & 0x20 ? 0 : 8;
    i.vvvv = (~p[2] >> 3 & 15) | (p[3] & 8 ? 0 : 16);
    i.bytes = 16 << (p[3] >> 5 & 3);
    i.broadcast = p[3] & 0x10;
    i.prefix = p[2] & 3;
    p += 4;
  } else {
    unknown(p);
  }
  i.opcode = p[0];
  i.modrm = p[1];
  i.reg |= i.modrm >> 3 & 7;
  i.in_register = i.modrm >> 6 == 3;
  if (i.in_register) {
    i.rm = (i.modrm & 7) | b | (i.evex ? 2 * x : 0);
    i.end = p + 2;
  } else {
    decode_memory(r, p + 2, x, b, i.evex ? (i.broadcast ? 4 : i.bytes) : 1, i);
  }
  return i;
}

// The last operand: a register, memory, or one number for all lanes.
Vector operand(Registers& r, const Instruction& i) {
  if (i.in_register) return r.vector(i.rm);
  Vector v{};
  if (i.broadcast) {
    for (int lane = 0; lane < 16; ++lane) memcpy(v.v + 4 * lane, i.memory, 4);
  } else {
    memcpy(v.v, i.memory, static_cast<size_t>(i.bytes));
  }
  return v;
}

void store(Registers& r, const Instruction& i, Vector& v) {
  memset(v.v + i.bytes, 0, static_cast<size_t>(64 - i.bytes));
  r.set_vector(i.reg, v);
}

int32_t four_products(int32_t sum, const uint8_t* a, bool a_signed, const uint8_t* b, bool b_signed) {
  for (int j = 0; j < 4; ++j) {
    const int x = a_signed ? static_cast<int8_t>(a[j]) : a[j], y = b_signed ? static_cast<int8_t>(b[j]) : b[j];
    sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(x * y));
  }
  return sum;
}

// VPDPBUSD
void add_byte_products(Registers& r, const Instruction& i) {
  Vector sum = r.vector(i.reg);
  const Vector a = r.vector(i.vvvv), b = operand(r, i);
  for (int at = 0; at < i.bytes; at += 4) {
    int32_t s;
    memcpy(&s, sum.v + at, 4);
    s = four_products(s, a.v + at, false, b.v + at, true);
    memcpy(sum.v + at, &s, 4);
  }
  store(r, i, sum);
}

// Subnormal numbers are zero to these instructions.
float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

float bf16_at(const uint8_t* p) {
  const uint32_t bits = static_cast<uint32_t>(p[0]) << 16 | static_cast<uint32_t>(p[1]) << 24;
  float x;
  memcpy(&x, &bits, 4);
  return flushed(x);
}

uint16_t to_bf16(const uint8_t* p) {
  float x;
  memcpy(&x, p, 4);
  x = flushed(x);
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// VDPBF16PS: the odd products first, each rounded once.
void add_bf16_products(Registers& r, const Instruction& i) {
  Vector sum = r.vector(i.reg);
  const Vector a = r.vector(i.vvvv), b = operand(r, i);
  for (int at = 0; at < i.bytes; at += 4) {
    float s;
    memcpy(&s, sum.v + at, 4);
    for (const int half : {2, 0})
      s = flushed(std::fma(bf16_at(a.v + at + half), bf16_at(b.v + at + half), flushed(s)));
    memcpy(sum.v + at, &s, 4);
  }
  store(r, i, sum);
}

// VCVTNE2PS2BF16: the last operand is the lower half.
void round_to_bf16(Registers& r, const Instruction& i) {
  const Vector high = r.vector(i.vvvv), low = operand(r, i);
  Vector out{};
  for (int lane = 0; lane < i.bytes / 2; ++lane) {
    const int half = i.bytes / 4;
    const uint16_t h = to_bf16(lane < half ? low.v + 4 * lane : high.v + 4 * (lane - half));
    memcpy(out.v + 2 * lane, &h, 2);
  }
  store(r, i, out);
}

// ---- tiles -----------------------------------------------------------------------------------------

struct Tiles {
  bool configured;
  uint16_t bytes[8];
  uint8_t rows[8];
  uint8_t v[8][16][64];
};

Tiles g_tiles;

void configure(const Instruction& i) {
  memset(&g_tiles, 0, sizeof g_tiles);
  const uint8_t* from = i.memory;
  bool good = from[0] == 1 && from[1] == 0;
  for (int t = 0; t < 8; ++t) {
    memcpy(&g_tiles.bytes[t], from + 16 + 2 * t, 2);
    g_tiles.rows[t] = from[48 + t];
    good = good && g_tiles.bytes[t] <= 64 && g_tiles.rows[t] <= 16;
  }
  for (int at = 2; at < 64; ++at) {
    if (at < 16 || (at >= 32 && at < 48) || at >= 56) good = good && !from[at];
  }
  if (!good) abort();  // what the CPU raises a fault for
  g_tiles.configured = true;
}

void move_tile(const Instruction& i, bool load) {
  const uint8_t* base = i.memory - i.stride;
  for (int row = 0; row < g_tiles.rows[i.reg]; ++row) {
    uint8_t* tile = g_tiles.v[i.reg][row];
    uint8_t* memory = const_cast<uint8_t*>(base) + i.stride * static_cast<uint64_t>(row);
    memcpy(load ? tile : memory, load ? memory : tile, g_tiles.bytes[i.reg]);
  }
}

// TDPB..D: rows of the second operand by columns of the third.
void multiply_tiles(const Instruction& i) {
  const int c = i.reg, a = i.rm, b = i.vvvv;
  const bool a_signed = i.prefix >= 2, b_signed = i.prefix & 1;
  if (!g_tiles.configured || g_tiles.rows[c] != g_tiles.rows[a] || g_tiles.bytes[c] != g_tiles.bytes[b] ||
      g_tiles.bytes[a] != 4 * g_tiles.rows[b] || c == a || a == b || b == c) {
    abort();
  }
  for (int m = 0; m < g_tiles.rows[c]; ++m) {
    for (int n = 0; n < g_tiles.bytes[c]; n += 4) {
      int32_t s;
      memcpy(&s, g_tiles.v[c][m] + n, 4);
      for (int k = 0; k < g_tiles.rows[b]; ++k)
        s = four_products(s, g_tiles.v[a][m] + 4 * k, a_signed, g_tiles.v[b][k] + n, b_signed);
      memcpy(g_tiles.v[c][m] + n, &s, 4);
    }
  }
}

void do_tiles(const Instruction& i) {
  if (i.opcode == 0x5E) {
    multiply_tiles(i);
  } else if (i.opcode == 0x4B && !i.in_register && (i.prefix == 3 || i.prefix == 2)) {
    move_tile(i, i.prefix == 3);
  } else if (i.opcode == 0x49 && i.prefix == 0 && !i.in_register) {
    configure(i);
  } else if (i.opcode == 0x49 && i.prefix == 0 && i.modrm == 0xC0) {
    memset(&g_tiles, 0, sizeof g_tiles);
  } else if (i.opcode == 0x49 && i.prefix == 3 && i.in_register) {
    memset(g_tiles.v[i.reg], 0, sizeof g_tiles.v[i.reg]);
  } else {
    unknown(i.end);
  }
}

void on_illegal(int, siginfo_t*, void* context) {
  Registers r(static_cast<ucontext_t*>(context));
  const Instruction i = decode(r);
  if (i.opcode == 0x50 && i.prefix == 1) {
    add_byte_products(r, i);
  } else if (i.evex && i.opcode == 0x52 && i.prefix == 2) {
    add_bf16_products(r, i);
  } else if (i.evex && i.opcode == 0x72 && i.prefix == 3) {
    round_to_bf16(r, i);
  } else if (!i.evex && (i.opcode == 0x49 || i.opcode == 0x4B || i.opcode == 0x5E)) {
    do_tiles(i);
  } else {
    unknown(r.next());
  }
  r.go_to(i.end);
  ++g_count;
}

}  // namespace

bool emulate(const char* variant) {
  __builtin_cpu_init();
  const bool base = strcmp(variant, "avxvnni") ? __builtin_cpu_supports("avx512vnni") != 0
                                               : __builtin_cpu_supports("avx2") != 0;
  if (!base || (strcmp(variant, "avxvnni") && strcmp(variant, "avx512bf16") && strcmp(variant, "amx"))) {
    return false;
  }
  struct sigaction action = {};
  action.sa_sigaction = on_illegal;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
  return true;
}

long emulated() { return g_count; }

#else

bool emulate(const char*) { return false; }

long emulated() { return 0; }

#endif
