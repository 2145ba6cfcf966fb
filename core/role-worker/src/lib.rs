//! What a worker does next: its proxies, its running queries, its earnings.
