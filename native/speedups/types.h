// The types of the module, one file each.
#pragma once

#include "speedups/python.h"

namespace speedups {

extern PyType_Spec outline_spec;
extern PyType_Spec whole_answer_spec;
extern PyType_Spec heads_spec;
extern PyType_Spec window_spec;
extern PyType_Spec counter_spec;
extern PyType_Spec histogram_spec;
extern PyType_Spec tally_spec;
extern PyType_Spec events_spec;
extern PyType_Spec account_spec;
extern PyType_Spec form_spec;

}  // namespace speedups
