// A few names of fields.
#pragma once

#include "speedups/json.h"
#include "speedups/python.h"

namespace speedups {

// Zero is one without names, as which objects of Python begin.
struct Names {
  // Each name behind its length.
  Byte* bytes;
  size_t size;
  // Bit i: one has so many bytes; 63 = or more.
  uint64_t lengths;

  bool holds(Text name) const {
    if (!(lengths >> bit(name.size()) & 1)) return false;
    for (const Byte *at = bytes, *const end = bytes + size; at != end;) {
      size_t length;
      std::memcpy(&length, at, sizeof length);
      at += sizeof length;
      if (length == name.size() && std::memcmp(at, name.begin, length) == 0) return true;
      at += length;
    }
    return false;
  }

  // Take the strings of an iterable. False: an error is set.
  bool take(PyObject* names);
  // Take one string. False: an error is set.
  bool add(PyObject* name);
  void clear() {
    PyMem_Free(bytes);
    *this = Names{};
  }

 private:
  static int bit(size_t length) { return length < 63 ? static_cast<int>(length) : 63; }
};

}  // namespace speedups
