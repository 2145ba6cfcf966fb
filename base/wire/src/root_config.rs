//! Root configuration, namespace `rootConfig` (protocol notes 1.6, chain part 2.9).

use cocoon_units::{ImageHash, PublicKey};

use crate::tl::Text;

tl_struct! {
    /// A proxy listed in the root contract: `ip:port` for workers, a blank, `ip:port` for clients;
    /// one of them serves both.
    #[derive(Clone, Debug, PartialEq, Default)]
    RegisteredProxy<'tl> = "rootConfig.registeredProxy" 0x9f4e_446a {
        /// Sequence number.
        seqno: i32,
        /// Address text.
        address: Text<'tl>,
    }

    /// A public key listed in the root contract.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    RegisteredPublicKey = "rootConfig.registeredPublicKey" 0x3731_2ecd {
        /// Public key the request is encrypted to; zero is none.
        public_key: PublicKey,
        /// Kind of key; 1 is Ed25519 used for X25519.
        key_type: i32,
        /// Unix seconds of its end.
        expire_at: i32,
    }

    /// Root configuration of a network without a chain, read from a file.
    #[derive(Clone, Debug, PartialEq, Default)]
    Pseudo<'tl> = "rootConfig.pseudo" 0xd003_5db6 {
        /// Accepted image hashes of proxies.
        proxy_hashes: Vec<ImageHash>,
        /// Accepted image hashes of workers.
        worker_hashes: Vec<ImageHash>,
        /// Accepted hashes of model names.
        model_hashes: Vec<[u8; 32]>,
        /// Model names whose part before `@` is hashed and accepted.
        model_types: Vec<Text<'tl>>,
        /// Proxies that clients and workers may contact.
        registered_proxies: Vec<RegisteredProxy<'tl>>,
        /// Price per adjusted token in nanotons.
        price_per_token: i32,
        /// Worker's part of it in nanotons.
        worker_fee_per_token: i32,
        /// Number of the last registered proxy.
        last_proxy_seqno: i32,
        /// Version, grows with every change.
        version: i32,
        /// Version of the parameters that contracts depend on.
        params_version: i32,
        /// Public keys for end-to-end encryption.
        registered_public_keys: Vec<RegisteredPublicKey>,
        /// `ip:port` of the key manager.
        key_manager_address: Text<'tl>,
        /// Code of the proxy contract, bag of cells in hex.
        proxy_sc_code: Text<'tl>,
        /// Code of the worker contract, bag of cells in hex.
        worker_sc_code: Text<'tl>,
        /// Code of the client contract, bag of cells in hex.
        client_sc_code: Text<'tl>,
        /// Address text of the owner of the root contract.
        root_owner_address: Text<'tl>,
    }

    /// Root configuration of a network without a chain, older line: no public keys and no key
    /// manager.
    #[derive(Clone, Debug, PartialEq, Default)]
    PseudoBase<'tl> = "rootConfig.pseudo" 0x87a9_76cc {
        /// Accepted image hashes of proxies.
        proxy_hashes: Vec<ImageHash>,
        /// Accepted image hashes of workers.
        worker_hashes: Vec<ImageHash>,
        /// Accepted hashes of model names.
        model_hashes: Vec<[u8; 32]>,
        /// Model names whose part before `@` is hashed and accepted.
        model_types: Vec<Text<'tl>>,
        /// Proxies that clients and workers may contact.
        registered_proxies: Vec<RegisteredProxy<'tl>>,
        /// Price per adjusted token in nanotons.
        price_per_token: i32,
        /// Worker's part of it in nanotons.
        worker_fee_per_token: i32,
        /// Number of the last registered proxy.
        last_proxy_seqno: i32,
        /// Version, grows with every change.
        version: i32,
        /// Version of the parameters that contracts depend on.
        params_version: i32,
        /// Code of the proxy contract, bag of cells in hex.
        proxy_sc_code: Text<'tl>,
        /// Code of the worker contract, bag of cells in hex.
        worker_sc_code: Text<'tl>,
        /// Code of the client contract, bag of cells in hex.
        client_sc_code: Text<'tl>,
        /// Address text of the owner of the root contract.
        root_owner_address: Text<'tl>,
    }

    /// Root configuration as kept in the books.
    #[derive(Clone, Debug, PartialEq, Default)]
    ConfigV7<'tl> = "rootConfig.configV7" 0xc512_07cb {
        /// Address text of the owner of the root contract.
        root_owner_address: Text<'tl>,
        /// Accepted image hashes of proxies.
        proxy_hashes: Vec<ImageHash>,
        /// Proxies that clients and workers may contact.
        registered_proxies: Vec<RegisteredProxy<'tl>>,
        /// Number of the last registered proxy.
        last_proxy_seqno: i32,
        /// Accepted image hashes of workers.
        worker_hashes: Vec<ImageHash>,
        /// Accepted hashes of model names.
        model_hashes: Vec<[u8; 32]>,
        /// Version, grows with every change.
        version: i32,
        /// Version of the layout.
        struct_version: i32,
        /// Version of the parameters that contracts depend on.
        params_version: i32,
        /// Number that tells root contracts apart.
        unique_id: i32,
        /// Whether the node runs in test mode.
        is_test: i32,
        /// Price per adjusted token in nanotons.
        price_per_token: i64,
        /// Worker's part of it in nanotons.
        worker_fee_per_token: i64,
        /// Factor of prompt tokens in ten-thousandths.
        prompt_tokens_price_multiplier: i32,
        /// Factor of cached prompt tokens in ten-thousandths.
        cached_tokens_price_multiplier: i32,
        /// Factor of generated tokens in ten-thousandths.
        completion_tokens_price_multiplier: i32,
        /// Factor of reasoning tokens in ten-thousandths.
        reasoning_tokens_price_multiplier: i32,
        /// Seconds a proxy contract waits before it closes.
        proxy_delay_before_close: i32,
        /// Seconds a client contract waits before it closes.
        client_delay_before_close: i32,
        /// Least stake of a proxy in nanotons.
        min_proxy_stake: i64,
        /// Least stake of a client in nanotons.
        min_client_stake: i64,
        /// Public keys for end-to-end encryption.
        registered_public_keys: Vec<RegisteredPublicKey>,
        /// Public key of the key manager.
        key_manager_public_key: PublicKey,
        /// Image hash of the key manager.
        key_manager_image_hash: ImageHash,
        /// `ip:port` of the key manager.
        key_manager_address: Text<'tl>,
        /// Keys that vouch for proxies.
        verified_proxy_keys: Vec<PublicKey>,
        /// Keys that vouch for workers.
        verified_worker_keys: Vec<PublicKey>,
        /// Keys that vouch for key managers.
        verified_key_manager_keys: Vec<PublicKey>,
        /// Code of the proxy contract, bag of cells in hex.
        proxy_sc_code: Text<'tl>,
        /// Code of the worker contract, bag of cells in hex.
        worker_sc_code: Text<'tl>,
        /// Code of the client contract, bag of cells in hex.
        client_sc_code: Text<'tl>,
    }

    /// Root configuration as kept in the books of the older line.
    #[derive(Clone, Debug, PartialEq, Default)]
    ConfigV5<'tl> = "rootConfig.configV5" 0x5e84_869b {
        /// Address text of the owner of the root contract.
        root_owner_address: Text<'tl>,
        /// Accepted image hashes of proxies.
        proxy_hashes: Vec<ImageHash>,
        /// Proxies that clients and workers may contact.
        registered_proxies: Vec<RegisteredProxy<'tl>>,
        /// Number of the last registered proxy.
        last_proxy_seqno: i32,
        /// Accepted image hashes of workers.
        worker_hashes: Vec<ImageHash>,
        /// Accepted hashes of model names.
        model_hashes: Vec<[u8; 32]>,
        /// Version, grows with every change.
        version: i32,
        /// Version of the layout.
        struct_version: i32,
        /// Version of the parameters that contracts depend on.
        params_version: i32,
        /// Number that tells root contracts apart.
        unique_id: i32,
        /// Whether the node runs in test mode.
        is_test: i32,
        /// Price per adjusted token in nanotons.
        price_per_token: i64,
        /// Worker's part of it in nanotons.
        worker_fee_per_token: i64,
        /// Factor of prompt tokens in ten-thousandths.
        prompt_tokens_price_multiplier: i32,
        /// Factor of cached prompt tokens in ten-thousandths.
        cached_tokens_price_multiplier: i32,
        /// Factor of generated tokens in ten-thousandths.
        completion_tokens_price_multiplier: i32,
        /// Factor of reasoning tokens in ten-thousandths.
        reasoning_tokens_price_multiplier: i32,
        /// Seconds a proxy contract waits before it closes.
        proxy_delay_before_close: i32,
        /// Seconds a client contract waits before it closes.
        client_delay_before_close: i32,
        /// Least stake of a proxy in nanotons.
        min_proxy_stake: i64,
        /// Least stake of a client in nanotons.
        min_client_stake: i64,
        /// Code of the proxy contract, bag of cells in hex.
        proxy_sc_code: Text<'tl>,
        /// Code of the worker contract, bag of cells in hex.
        worker_sc_code: Text<'tl>,
        /// Code of the client contract, bag of cells in hex.
        client_sc_code: Text<'tl>,
    }
}

tl_enum! {
    /// A root configuration of any form.
    #[derive(Clone, Debug, PartialEq)]
    Config<'tl> {
        /// From a file, for a network without a chain.
        Pseudo(Pseudo<'tl>),
        /// From a file, older line.
        PseudoBase(PseudoBase<'tl>),
        /// As kept in the books.
        V7(ConfigV7<'tl>),
        /// As kept in the books of the older line.
        V5(ConfigV5<'tl>),
    }
}
