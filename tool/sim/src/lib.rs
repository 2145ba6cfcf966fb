//! The whole network on one thread, from one seed, in virtual time.
