//! Keys for end-to-end encryption, namespace `keyManager` (protocol notes 3.10).

use crate::tl::SecretKey;

tl_struct! {
    /// A private key.
    #[derive(Clone, Debug)]
    PrivateKey = "keyManager.privateKey" 0x60f4_f8e7 {
        /// Unix seconds until which it holds.
        valid_until_utime: i32,
        /// Private key.
        private_key: SecretKey,
    }

    /// All valid private keys.
    #[derive(Clone, Debug, Default)]
    PrivateKeys = "keyManager.privateKeys" 0x0ed6_6ce5 {
        /// Valid keys.
        keys: Vec<PrivateKey>,
    }

    /// A worker asks for the keys.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetWorkerPrivateKeys = "keyManager.getWorkerPrivateKeys" 0x4b90_e9b1 {
        /// Protocol version.
        proto_version: i32,
    }

    /// A worker asks for the keys, older line.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetWorkerPrivateKeysBase = "keyManager.getWorkerPrivateKeys" 0x2a26_eff5 {
        /// Root version the sender knows.
        min_config_version: i32,
    }

    /// A proxy asks for the keys.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetProxyPrivateKeys = "keyManager.getProxyPrivateKeys" 0x4135_d0bd {
        /// Protocol version.
        proto_version: i32,
    }

    /// A proxy asks for the keys, older line.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetProxyPrivateKeysBase = "keyManager.getProxyPrivateKeys" 0x47a9_c2de {
        /// Root version the sender knows.
        min_config_version: i32,
    }
}

tl_dispatch! {
    /// Queries to a key manager, both lines and our own.
    #[derive(Clone, Copy, Debug, PartialEq)]
    Query {
        /// A node of ours introduces itself.
        Introduce(crate::cocoon::Introduce),
        /// A worker asks for the keys.
        GetWorkerPrivateKeys(GetWorkerPrivateKeys),
        /// A proxy asks for the keys.
        GetProxyPrivateKeys(GetProxyPrivateKeys),
        /// A worker of the older line asks for the keys.
        GetWorkerPrivateKeysBase(GetWorkerPrivateKeysBase),
        /// A proxy of the older line asks for the keys.
        GetProxyPrivateKeysBase(GetProxyPrivateKeysBase),
    }
}
