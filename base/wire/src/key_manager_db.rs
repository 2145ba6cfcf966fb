//! Records in the books of a key manager, namespace `keyManagerDb` (protocol notes 5.2).

use crate::tl::SecretKey;

tl_struct! {
    /// No configuration yet.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ConfigEmpty = "keyManagerDb.configEmpty" 0xd3fc_2385 {

    }

    /// State of the key manager.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ConfigV1 = "keyManagerDb.configV1" 0x6d28_17ac {
        /// Version of the root contract.
        root_contract_version: i32,
    }

    /// A key in the books.
    #[derive(Clone, Debug)]
    Key = "keyManagerDb.key" 0x35c9_1007 {
        /// Private key.
        private_key: SecretKey,
        /// Kind of key; 1 is Ed25519 used for X25519.
        key_type: i32,
        /// Root version from which it holds.
        valid_since_config_version: i32,
        /// Unix seconds from which it holds.
        valid_since_utime: i32,
        /// Unix seconds until which it holds.
        valid_until_utime: i32,
    }

    /// A key in the books, older line.
    #[derive(Clone, Debug)]
    KeyBase = "keyManagerDb.key" 0x4d0a_1e17 {
        /// Private key.
        private_key: SecretKey,
        /// Whether proxies get it.
        for_proxies: bool,
        /// Whether workers get it.
        for_workers: bool,
        /// Root version from which it holds.
        valid_since_config_version: i32,
        /// Unix seconds from which it holds.
        valid_since_utime: i32,
        /// Unix seconds until which it holds.
        valid_until_utime: i32,
    }
}

tl_enum! {
    /// State of the key manager.
    #[derive(Clone, Copy, Debug, PartialEq)]
    Config {
        /// None yet.
        Empty(ConfigEmpty),
        /// Present form.
        V1(ConfigV1),
    }
}
