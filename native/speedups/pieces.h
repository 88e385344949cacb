// Functions of the module that belong to no type.
#pragma once

#include "speedups/python.h"

namespace speedups {

// unchunked(data) of core/pieces.py.
PyObject* unchunked(PyObject* module, PyObject* data);

}  // namespace speedups
