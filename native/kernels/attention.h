// Attention over a cache in blocks: flash-style, in tiles of 64 positions at absolute places.
//
// Up to 64 queries (rows times the heads that share a kv head) go through the tiles together; rows
// whose block numbers agree over a tile read it once. What happens to one query depends on its own
// scores alone: in each tile a new maximum, one rescaling, sums in the order of positions.
#pragma once

#include "layout.h"
#include "vector.h"

namespace tl {
namespace TL_ISA {

constexpr int64_t kTile = 64;
constexpr int64_t kGroups = kTile / 16;
constexpr int64_t kQueries = 64;

struct KvF16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  TL_ALWAYS F get(const uint8_t* p) { return load_f16(p); }
};
struct KvBf16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  TL_ALWAYS F get(const uint8_t* p) { return load_bf16(p); }
};
struct KvInt8 {
  static constexpr int kBytes = 1;
  static constexpr bool kScaled = true;
  TL_ALWAYS F get(const uint8_t* p) { return load_i8(p); }
};

// The state of up to kQueries queries, in the scratch.
struct Queries {
  float* q;     // [queries, dim], scaled
  float* acc;   // [queries, dim]
  float* sums;  // [queries, 16]: sums of exp(score - top), by lane
  float* tops;  // [queries]
  float* p;     // [queries, kTile]: scores, then exp(score - top)
};

// One tile's memory: for each group of 16 positions its keys, values, scales.
struct Tile {
  int64_t begin;  // first position
  int64_t count;  // positions that any of its rows attends to, counted from begin
  const uint8_t* keys[kGroups];
  const uint8_t* values[kGroups];
  const float* key_scales[kGroups];
  const float* value_scales[kGroups];
  // The tile after it: each block of a head lies elsewhere, so it is asked for meanwhile. Once for
  // many queries, with those that are left over when registers have been filled.
  const uint8_t* next_keys[kGroups];
  const uint8_t* next_values[kGroups];
};

static inline int64_t first_position(const Attention& a, const AttnRow& r) {
  return a.window > 0 && r.pos >= a.window ? r.pos - a.window + 1 : 0;
}

static inline bool reaches(const Attention& a, const AttnRow& r, int64_t begin) {
  return r.pos >= begin && first_position(a, r) < begin + kTile;
}

// Whether two rows have the same blocks from `begin` to the end of the tile or of the shorter row.
static inline bool same_blocks(const Attention& a, const AttnRow& r, const AttnRow& s, int64_t begin) {
  if (r.table == s.table) return true;
  int64_t last = r.pos < s.pos ? r.pos : s.pos;
  if (last > begin + kTile - 1) last = begin + kTile - 1;
  for (int64_t b = begin / a.kv.block; b <= last / a.kv.block; ++b) {
    if (r.table[b] != s.table[b]) return false;
  }
  return true;
}

static inline bool find_tile(const Attention& a, const AttnRow& lead, int32_t head, Tile& t) {
  const int64_t element = kv_element(a.kv.type), dim = a.kv.head_dim, block = a.kv.block;
  t.count = lead.pos - t.begin + 1 < kTile ? lead.pos - t.begin + 1 : kTile;
  for (int64_t g = 0; 16 * g < t.count; ++g) {
    const int64_t pos = t.begin + 16 * g, inside = pos % block;
    const int32_t number = lead.table[pos / block];
    if (number < 0 || number >= a.n_blocks) return false;
    const uint8_t* base = static_cast<const uint8_t*>(a.cache) +
                          static_cast<size_t>(number) * a.stride + head * kv_head_bytes(a.kv);
    const uint8_t* keys = base + kv_scale_bytes(a.kv);
    t.key_scales[g] = reinterpret_cast<const float*>(base) + inside;
    t.value_scales[g] = reinterpret_cast<const float*>(base) + block + inside;
    t.keys[g] = keys + inside * dim * element;
    t.values[g] = keys + (block + inside) * dim * element;
  }
  return true;
}

// Scores of N queries with `Groups` groups of positions: lanes are positions.
template <class KV, int Groups, int N>
TL_ALWAYS void score(const Tile& t, int64_t g, const float* q, int64_t dim, float* p) {
  F s[Groups][N];
  TL_UNROLL for (int j = 0; j < Groups; ++j) TL_UNROLL for (int i = 0; i < N; ++i) s[j][i] = zero();
  for (int64_t d = 0; d < dim; d += 2) {
    if constexpr (N < kScoreRows) {
      TL_UNROLL for (int j = 0; j < Groups; ++j) prefetch(t.next_keys[g + j] + 16 * d * KV::kBytes);
    }
    TL_UNROLL for (int64_t e = d; e < d + 2; ++e) {
      F keys[Groups];
      TL_UNROLL for (int j = 0; j < Groups; ++j) keys[j] = KV::get(t.keys[g + j] + 16 * e * KV::kBytes);
      TL_UNROLL for (int i = 0; i < N; ++i) {
        const F one = set1(q[i * dim + e]);
        TL_UNROLL for (int j = 0; j < Groups; ++j) s[j][i] = fma(keys[j], one, s[j][i]);
      }
    }
  }
  TL_UNROLL for (int j = 0; j < Groups; ++j) TL_UNROLL for (int i = 0; i < N; ++i) {
    if constexpr (KV::kScaled) s[j][i] = mul(s[j][i], load(t.key_scales[g + j]));
    store(p + i * kTile + 16 * (g + j), s[j][i]);
  }
}

template <class KV, int N>
TL_ALWAYS void score_groups(const Tile& t, const float* q, int64_t dim, float* p) {
  const int64_t groups = (t.count + 15) / 16;
  int64_t g = 0;
  for (; g + kScoreGroups <= groups; g += kScoreGroups) score<KV, kScoreGroups, N>(t, g, q, dim, p);
  for (; g < groups; ++g) score<KV, 1, N>(t, g, q, dim, p);
}

// Adds N queries' share of the values' lanes [16 lane, 16 (lane + Lanes)).
template <class KV, int N, int Lanes>
TL_ALWAYS void mix(const Tile& t, int64_t lane, int64_t dim, const float* p, float* acc) {
  F sum[N][Lanes];
  acc += 16 * lane;
  TL_UNROLL for (int i = 0; i < N; ++i) TL_UNROLL for (int l = 0; l < Lanes; ++l)
      sum[i][l] = load(acc + i * dim + 16 * l);
  for (int64_t g = 0; 16 * g < t.count; ++g) {
    const uint8_t* row = t.values[g] + 16 * lane * KV::kBytes;
    const uint8_t* next = t.next_values[g] + 16 * lane * KV::kBytes;
    const int64_t count = t.count - 16 * g < 16 ? t.count - 16 * g : 16;
    for (int64_t j = 0; j < count; ++j, row += dim * KV::kBytes, next += dim * KV::kBytes) {
      if constexpr (N < kMixRows) {
        TL_UNROLL for (int at = 0; at < 16 * Lanes * KV::kBytes; at += 64) prefetch(next + at);
      }
      F values[Lanes];
      TL_UNROLL for (int l = 0; l < Lanes; ++l) values[l] = KV::get(row + 16 * l * KV::kBytes);
      TL_UNROLL for (int i = 0; i < N; ++i) {
        const F one = set1(p[i * kTile + 16 * g + j]);
        TL_UNROLL for (int l = 0; l < Lanes; ++l) sum[i][l] = fma(values[l], one, sum[i][l]);
      }
    }
  }
  TL_UNROLL for (int i = 0; i < N; ++i) TL_UNROLL for (int l = 0; l < Lanes; ++l)
      store(acc + i * dim + 16 * l, sum[i][l]);
}

template <class KV, int N>
TL_ALWAYS void mix_lanes(const Tile& t, int64_t dim, const float* p, float* acc) {
  int64_t lane = 0;
  for (; 16 * (lane + kMixLanes) <= dim; lane += kMixLanes) mix<KV, N, kMixLanes>(t, lane, dim, p, acc);
  for (; 16 * lane < dim; ++lane) mix<KV, N, 1>(t, lane, dim, p, acc);
}

// Scores of one query to weights: masks, new maximum, rescaling.
template <class KV>
static inline void weigh(const Attention& a, const AttnRow& row, const Tile& t, float* p, float* acc,
                         float* sums, float* top) {
  const F lowest = set1(-__builtin_inff());
  const int64_t groups = (t.count + 15) / 16;
  const int64_t begin = first_position(a, row) - t.begin, end = row.pos + 1 - t.begin;
  F s[kGroups];
  F most = lowest;
  for (int64_t g = 0; g < groups; ++g) {
    F v = load(p + 16 * g);
    if (a.softcap > 0) v = soft_cap(v, set1(a.softcap));
    s[g] = select_lanes(static_cast<int>(begin - 16 * g), static_cast<int>(end - 16 * g), v, lowest);
    most = max(most, s[g]);
  }
  const float here = reduce_max(most);
  const F old_sums = load(sums);
  F sum = old_sums;
  if (here > *top) {
    const F factor = exp(set1(*top - here));
    *top = here;
    sum = mul(old_sums, factor);
    for (int64_t d = 0; d < a.kv.head_dim; d += 16) store(acc + d, mul(load(acc + d), factor));
  }
  const F shift = set1(*top);
  for (int64_t g = 0; g < groups; ++g) {
    F e = exp(sub(s[g], shift));
    sum = add(sum, e);
    if constexpr (KV::kScaled) {
      // Scales of slots that nobody wrote are not numbers to rely on.
      e = select_ge(zero(), e, zero(), mul(e, load(t.value_scales[g])));
    }
    store(p + 16 * g, e);
  }
  store(sums, sum);
}

template <class KV>
static void attend_tile(const Attention& a, const AttnRow* rows, int64_t n, const Tile& t,
                        int64_t sharers, const Queries& s) {
  const int64_t dim = a.kv.head_dim, queries = n * sharers;
  for (int64_t i = 0; i < queries;) {
    const int64_t left = queries - i;
    const int64_t size = left < kScoreRows ? left : kScoreRows;
    with_rows<kScoreRows>(size, [&]<int N>() { score_groups<KV, N>(t, s.q + i * dim, dim, s.p + i * kTile); });
    i += size;
  }
  for (int64_t i = 0; i < queries; ++i) {
    weigh<KV>(a, rows[i / sharers], t, s.p + i * kTile, s.acc + i * dim, s.sums + i * 16, s.tops + i);
  }
  for (int64_t i = 0; i < queries;) {
    const int64_t left = queries - i;
    const int64_t size = left < kMixRows ? left : kMixRows;
    with_rows<kMixRows>(size, [&]<int N>() { mix_lanes<KV, N>(t, dim, s.p + i * kTile, s.acc + i * dim); });
    i += size;
  }
}

static inline Queries from(const Queries& s, int64_t first, int64_t dim) {
  return {s.q + first * dim, s.acc + first * dim, s.sums + first * 16, s.tops + first,
          s.p + first * kTile};
}

// One tile and the rows that read it together.
struct Step {
  Tile tile;
  int64_t first, end;  // rows
};

// Goes through the tiles of one kv head in order, and in each through the rows that attend to it.
class Walk {
 public:
  Walk(const Attention& a, const AttnRow* rows, int64_t n, int32_t head, int64_t begin, int64_t last)
      : a_(a), rows_(rows), n_(n), head_(head), begin_(begin / kTile * kTile), last_(last) {}

  // 1: `s` is the next one. 0: there is none. Less: an error.
  int next(Step& s) {
    for (; begin_ <= last_; begin_ += kTile, row_ = 0) {
      while (row_ < n_ && !reaches(a_, rows_[row_], begin_)) ++row_;
      if (row_ == n_) continue;
      int64_t lead = row_, end = row_ + 1;
      while (end < n_ && reaches(a_, rows_[end], begin_) &&
             same_blocks(a_, rows_[lead], rows_[end], begin_)) {
        if (rows_[end].pos > rows_[lead].pos) lead = end;
        ++end;
      }
      s.tile.begin = begin_;
      s.first = row_;
      s.end = row_ = end;
      return find_tile(a_, rows_[lead], head_, s.tile) ? 1 : kBadRange;
    }
    return 0;
  }

 private:
  const Attention& a_;
  const AttnRow* rows_;
  int64_t n_;
  int32_t head_;
  int64_t begin_, last_, row_ = 0;
};

// What a step asks for: nothing that it does not read itself, where there is no further one.
static inline void look_ahead(Tile& t, const Tile& next) {
  for (int64_t g = 0; g < kGroups; ++g) {
    const bool there = 16 * g < next.count;
    t.next_keys[g] = there ? next.keys[g] : next.keys[0];
    t.next_values[g] = there ? next.values[g] : next.values[0];
  }
}

// Rows that fit the scratch, one kv head, all tiles.
template <class KV>
static int attend_rows(const Attention& a, const AttnRow* rows, int64_t n, int32_t head,
                       const Queries& s) {
  const int64_t sharers = a.heads / a.kv.kv_heads, dim = a.kv.head_dim;
  int64_t begin = rows[0].pos, last = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float* q = rows[i].q + head * sharers * dim;
    for (int64_t d = 0; d < sharers * dim; d += 16) {
      store(s.q + i * sharers * dim + d, mul(load(q + d), set1(a.scale)));
      store(s.acc + i * sharers * dim + d, zero());
    }
    for (int64_t g = i * sharers; g < (i + 1) * sharers; ++g) {
      store(s.sums + 16 * g, zero());
      s.tops[g] = -__builtin_inff();
    }
    const int64_t first = first_position(a, rows[i]);
    begin = first < begin ? first : begin;
    last = rows[i].pos > last ? rows[i].pos : last;
  }
  Walk walk(a, rows, n, head, begin, last);
  Step steps[2];
  int more = walk.next(steps[0]);
  for (int64_t i = 0; more > 0; ++i) {
    Step &now = steps[i % 2], &then = steps[(i + 1) % 2];
    more = walk.next(then);
    if (more < 0) break;
    look_ahead(now.tile, more ? then.tile : now.tile);
    attend_tile<KV>(a, rows + now.first, now.end - now.first, now.tile, sharers, from(s, now.first * sharers, dim));
  }
  if (more < 0) return more;
  for (int64_t i = 0; i < n * sharers; ++i) {
    float* out = rows[i / sharers].out + (head * sharers + i % sharers) * dim;
    const F sum = set1(reduce_add(load(s.sums + 16 * i)));
    for (int64_t d = 0; d < dim; d += 16) store(out + d, div(load(s.acc + i * dim + d), sum));
  }
  return kOk;
}

static int attend(const Attention& a, const AttnRow* rows, int64_t n, int32_t head_begin,
                  int32_t head_end, void* scratch) {
  if (!kv_possible(a.kv) || a.heads < 1 || a.heads % a.kv.kv_heads ||
      a.stride < kv_block_bytes(a.kv)) {
    return kBadShape;
  }
  if (head_begin < 0 || head_begin > head_end || head_end > a.kv.kv_heads || n < 0) return kBadRange;
  if (!a.cache || !rows || !scratch || reinterpret_cast<uintptr_t>(scratch) % 64) return kBadPointer;
  for (int64_t i = 0; i < n; ++i) {
    if (!rows[i].q || !rows[i].out || !rows[i].table) return kBadPointer;
    if (rows[i].pos < 0) return kBadRange;
  }
  const int64_t sharers = a.heads / a.kv.kv_heads, dim = a.kv.head_dim;
  const int64_t queries = sharers > kQueries ? sharers : kQueries;
  const int64_t at_once = queries / sharers;
  float* p = static_cast<float*>(scratch);
  const Queries s{p, p + queries * dim, p + 2 * queries * dim, p + queries * (2 * dim + 16 + kTile),
                  p + queries * (2 * dim + 16)};
  for (int32_t head = head_begin; head < head_end; ++head) {
    for (int64_t i = 0; i < n; i += at_once) {
      const int64_t size = n - i < at_once ? n - i : at_once;
      const int status = a.kv.type == KvType::f16    ? attend_rows<KvF16>(a, rows + i, size, head, s)
                         : a.kv.type == KvType::bf16 ? attend_rows<KvBf16>(a, rows + i, size, head, s)
                                                     : attend_rows<KvInt8>(a, rows + i, size, head, s);
      if (status != kOk) return status;
    }
  }
  return kOk;
}

// ---- writing the cache ---------------------------------------------------------------------------

static inline void to_16_bits(KvType t, const float* x, uint16_t* to) {
  if (t == KvType::f16) {
    store_f16(to, load(x));
  } else {
    for (int64_t i = 0; i < 16; ++i) to[i] = float_to_bfloat(x[i]);
  }
}

static void store_int8(const float* x, int64_t dim, int64_t step, int8_t* to, float* scale) {
  F most = zero();
  for (int64_t d = 0; d < dim; d += 16) most = max(most, abs(load(x + d)));
  const float d = reduce_max(most) * (1.0f / 127.0f);
  *scale = d;
  const F inverse = set1(d > 1e-30f ? 1.0f / d : 0.0f);
  for (int64_t i = 0; i < dim; i += 16) {
    alignas(64) int8_t q[16];
    store_i8(q, to_int(min(set1(127.0f), max(set1(-127.0f), mul(load(x + i), inverse)))));
    for (int64_t j = 0; j < 16; ++j) to[(i + j) * step] = q[j];
  }
}

static void kv_store(const KvLayout& kv, void* block, int32_t slot, const float* k, const float* v) {
  const int64_t dim = kv.head_dim;
  for (int64_t h = 0; h < kv.kv_heads; ++h, k += dim, v += dim) {
    uint8_t* base = static_cast<uint8_t*>(block) + h * kv_head_bytes(kv);
    const int64_t key = slot / 16 * 16 * dim + slot % 16, value = (kv.block + slot) * dim;
    if (kv.type == KvType::int8) {
      float* scales = reinterpret_cast<float*>(base);
      int8_t* numbers = reinterpret_cast<int8_t*>(base + kv_scale_bytes(kv));
      store_int8(k, dim, 16, numbers + key, scales + slot);
      store_int8(v, dim, 1, numbers + value, scales + kv.block + slot);
      continue;
    }
    uint16_t* numbers = reinterpret_cast<uint16_t*>(base);
    for (int64_t d = 0; d < dim; d += 16) {
      uint16_t keys[16];
      to_16_bits(kv.type, k + d, keys);
      for (int64_t i = 0; i < 16; ++i) numbers[key + 16 * (d + i)] = keys[i];
      to_16_bits(kv.type, v + d, numbers + value + d);
    }
  }
}

}  // namespace TL_ISA
}  // namespace tl
