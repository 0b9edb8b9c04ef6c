//! What guests see of vector and x87 instructions besides results: exceptions, state instructions, modes.
