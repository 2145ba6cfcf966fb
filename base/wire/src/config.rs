//! Configuration of the four nodes, both lines (protocol notes 7).
//!
//! [`crate::config_json`] reads them from JSON.

use cocoon_units::ImageHash;

use crate::tl::{SecretKey, SecretText, Text};

tl_struct! {
    /// Configuration of a proxy.
    #[derive(Clone, Debug)]
    ProxyRunner<'tl> = "proxyRunner.config" 0x9a8f_2045 {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Inner port for workers.
        workers_rpc_port: i32,
        /// Inner port for clients.
        client_rpc_port: i32,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// `ip:port` of the local router (SOCKS5); empty is direct TLS.
        connect_to_proxy_via: Text<'tl>,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed that signs payments and records.
        machine_specific_private_key: SecretKey,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Path of the database.
        db_path: Text<'tl>,
        /// Whether workers' image hashes are checked.
        check_worker_hashes: bool,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }

    /// Configuration of a proxy, older line.
    #[derive(Clone, Debug)]
    ProxyRunnerBase<'tl> = "proxyRunner.config" 0x5bf5_e272 {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Inner port for workers.
        workers_rpc_port: i32,
        /// Inner port for clients.
        client_rpc_port: i32,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed that signs payments and records.
        machine_specific_private_key: SecretKey,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Path of the database.
        db_path: Text<'tl>,
        /// Whether workers' image hashes are checked.
        check_worker_hashes: bool,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }

    /// Configuration of a worker.
    #[derive(Clone, Debug)]
    WorkerRunner<'tl> = "workerRunner.config" 0x41af_605f {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// How many proxies to connect to.
        proxy_connections: i32,
        /// `ip:port` of the local router (SOCKS5); empty is direct TLS.
        connect_to_proxy_via: Text<'tl>,
        /// Full model name `name@commit:hash`.
        model_name: Text<'tl>,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// `ip:port` of the model server.
        forward_requests_to: Text<'tl>,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Whether proxies' image hashes are checked.
        check_proxy_hashes: bool,
        /// Most requests at the same time.
        max_active_requests: i32,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
        /// Program that changes the model.
        change_model_script: Text<'tl>,
        /// Description of the machine as JSON.
        machine_description_json: Text<'tl>,
    }

    /// Configuration of a worker, older line.
    #[derive(Clone, Debug)]
    WorkerRunnerBase<'tl> = "workerRunner.config" 0x870d_b56d {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// How many proxies to connect to.
        proxy_connections: i32,
        /// `ip:port` of the local router (SOCKS5); empty is direct TLS.
        connect_to_proxy_via: Text<'tl>,
        /// Full model name `name@commit:hash`.
        model_name: Text<'tl>,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// `ip:port` of the model server.
        forward_requests_to: Text<'tl>,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Whether proxies' image hashes are checked.
        check_proxy_hashes: bool,
        /// Most requests at the same time.
        max_active_requests: i32,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }

    /// Configuration of a client.
    #[derive(Clone, Debug)]
    ClientRunner<'tl> = "clientRunner.config" 0xaf0b_d51f {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// How many proxies to connect to.
        proxy_connections: i32,
        /// `ip:port` of the local router (SOCKS5); empty is direct TLS.
        connect_to_proxy_via: Text<'tl>,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// Whether proxies' image hashes are checked.
        check_proxy_hashes: bool,
        /// Secret of the short authorisation.
        secret_string: SecretText,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }

    /// Configuration of a key manager.
    #[derive(Clone, Debug)]
    KeyStorageRunner<'tl> = "keyStorageRunner.config" 0xec65_0826 {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Whether the public test key is added.
        add_default_key: bool,
        /// Inner port.
        rpc_port: i32,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed that signs payments and records.
        machine_specific_private_key: SecretKey,
        /// Ed25519 seed of the node's wallet.
        node_wallet_key: SecretKey,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Path of the database.
        db_path: Text<'tl>,
        /// Whether peers' image hashes are checked.
        check_hashes: bool,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }

    /// Configuration of a key manager, older line.
    #[derive(Clone, Debug)]
    KeyStorageRunnerBase<'tl> = "keyStorageRunner.config" 0xd787_4e40 {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Whether the chain is a test network.
        is_testnet: bool,
        /// Inner port.
        rpc_port: i32,
        /// Port of the local HTTP pages; 0 is off.
        http_port: i32,
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Ed25519 seed that signs payments and records.
        machine_specific_private_key: SecretKey,
        /// Path of the global configuration of TON.
        ton_config_filename: Text<'tl>,
        /// Path of the database.
        db_path: Text<'tl>,
        /// Whether peers' image hashes are checked.
        check_hashes: bool,
        /// Own image hash.
        image_hash: ImageHash,
        /// Secret path part that opens the local HTTP pages.
        http_access_hash: SecretText,
    }
}
