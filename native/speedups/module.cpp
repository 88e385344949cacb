// trunkline.core._speedups: what a relayed request would spend its time on in the interpreter.
//
// Each type has a twin in Python, which says what it does and is used where there is no compiler.
#include <initializer_list>

#include "speedups/pieces.h"
#include "speedups/types.h"

namespace speedups {

namespace {

// What core/speedups.py expects; it grows with every change that Python would see.
constexpr long kVersion = 5;

int fill(PyObject* module) {
  if (PyModule_AddIntConstant(module, "VERSION", kVersion) < 0) return -1;
  for (PyType_Spec* spec : {&outline_spec, &whole_answer_spec, &heads_spec, &window_spec,
                            &counter_spec, &histogram_spec, &tally_spec, &events_spec,
                            &account_spec, &form_spec}) {
    PyObject* const type = PyType_FromModuleAndSpec(module, spec, nullptr);
    if (!type) return -1;
    const int failed = PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(type));
    Py_DECREF(type);
    if (failed) return -1;
  }
  return 0;
}

PyMethodDef functions[] = {
    {"unchunked", unchunked, METH_O, "What is in whole chunks of HTTP's coding; or None."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, slot(fill)},
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_speedups", nullptr, 0, functions, slots, nullptr, nullptr, nullptr,
};

}  // namespace

}  // namespace speedups

PyMODINIT_FUNC PyInit__speedups() { return PyModuleDef_Init(&speedups::definition); }
