//! What every node shares at run time: configuration, logs, shutdown, limits.
