//! Key layout → the objects of a window, listed concurrently.
