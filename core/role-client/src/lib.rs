//! What a client does next: its proxies, its requests, its money.
