// Instructions that this CPU lacks, done in software when they trap; see emulate.cpp.
#pragma once

// Whether the variant's instructions can be emulated here; from now on they are.
bool emulate(const char* variant);

// How many instructions have been.
long emulated();
