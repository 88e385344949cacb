"""SGLang's native dialect: `/generate`."""
