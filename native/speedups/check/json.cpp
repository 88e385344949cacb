// Reads texts, each behind its length in four bytes, and says of each in a line whether it is an
// object, and where its fields' names and values begin and end. Each text has memory of exactly its
// size, so that a sanitizer sees what is read beside it.
//
//   c++ -std=c++20 -fsanitize=address,undefined -Inative -o check \
//       native/speedups/check/json.cpp native/speedups/json.cpp
//   check FILE
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "speedups/json.h"

int main(int count, char** arguments) {
  using namespace speedups;
  std::FILE* const file = count == 2 ? std::fopen(arguments[1], "rb") : nullptr;
  if (!file) return 2;
  unsigned char told[4];
  while (std::fread(told, 1, 4, file) == 4) {
    const size_t size = told[0] | told[1] << 8 | told[2] << 16;
    const auto text = std::make_unique<Byte[]>(size);
    if (std::fread(text.get(), 1, size, file) != size) return 1;
    const Byte* const begin = text.get();
    std::string fields;
    const bool good = Json(begin, begin + size).object([&](Text name, Text value) {
      for (const Byte* at : {name.begin, name.end, value.begin, value.end})
        fields += ' ' + std::to_string(at - begin);
      return true;
    });
    std::printf("%d%s\n", good, good ? fields.c_str() : "");
  }
  return 0;
}
