//! Starts the real binary on real sockets.
