//! Which day was written from what, by whom; the lock of a day.
