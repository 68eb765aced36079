//! A planned chunk → its column bytes in memory, holding a permit for them.
