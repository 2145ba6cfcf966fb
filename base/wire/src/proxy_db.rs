//! Records in the books of a proxy, namespace `proxyDb` (protocol notes 5.1).

use crate::tl::Text;

tl_struct! {
    /// A client in the books, oldest form without a stake.
    #[derive(Clone, Debug, PartialEq, Default)]
    ClientInfo<'tl> = "proxyDb.clientInfo" 0x6cfe_aa21 {
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Address text of the contract.
        sc_address: Text<'tl>,
        /// State of the contract: 0 normal, 1 closing, 2 closed.
        status: i32,
        /// Balance of the contract in nanotons.
        balance: i64,
        /// Adjusted tokens the chain knows.
        sc_tokens_used: i64,
        /// Adjusted tokens used.
        tokens_used: i64,
        /// SHA-256 of the client's secret.
        secret_hash: [u8; 32],
        /// Unix seconds of the last request.
        last_request_at: i32,
    }

    /// A client in the books.
    #[derive(Clone, Debug, PartialEq, Default)]
    ClientInfoV2<'tl> = "proxyDb.clientInfoV2" 0x3078_c9bf {
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Address text of the contract.
        sc_address: Text<'tl>,
        /// State of the contract: 0 normal, 1 closing, 2 closed.
        status: i32,
        /// Balance of the contract in nanotons.
        balance: i64,
        /// Stake in nanotons.
        stake: i64,
        /// Adjusted tokens the chain knows.
        sc_tokens_used: i64,
        /// Adjusted tokens used.
        tokens_used: i64,
        /// SHA-256 of the client's secret.
        secret_hash: [u8; 32],
        /// Unix seconds of the last request.
        last_request_at: i32,
    }

    /// A worker in the books.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerInfo<'tl> = "proxyDb.workerInfo" 0x2517_b38f {
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Address text of the contract.
        sc_address: Text<'tl>,
        /// Adjusted tokens the chain knows.
        sc_tokens: i64,
        /// Adjusted tokens.
        tokens: i64,
        /// Unix seconds of the last request.
        last_request_at: i32,
    }

    /// A commit the chain has not shown yet.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    PendingBlockchainSeqnoCommit = "proxyDb.pendingBlockchainSeqnoCommit" 0x525b_14a9 {
        /// Sequence number.
        seqno: i32,
        /// Random hash of the session.
        session_hash: [u8; 32],
    }

    /// No configuration yet.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ConfigEmpty = "proxyDb.configEmpty" 0x43dc_40b4 {

    }

    /// State of a working proxy.
    #[derive(Clone, Debug, PartialEq)]
    ConfigV4<'tl> = "proxyDb.configV4" 0xbde4_3703 {
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Whether the chain is a test network.
        is_testnet: i32,
        /// Copy of the root configuration.
        root_contract_state: crate::root_config::Config<'tl>,
        /// Unix seconds of the block it was read from.
        root_contract_state_block_ts: i32,
        /// Block of the last seen state of the own contract.
        sc_block_id: crate::ton::BlockIdExt<'tl>,
        /// Last committed number.
        last_seqno_committed_to_blockchain: i32,
        /// Commits that the chain has not shown yet.
        pending_blockchain_seqno_commits: Vec<PendingBlockchainSeqnoCommit>,
    }

    /// State of a proxy that pauses.
    #[derive(Clone, Debug, PartialEq)]
    ConfigV4Disabled<'tl> = "proxyDb.configV4Disabled" 0xad2c_fb4a {
        /// Address text of the root contract.
        root_contract_address: Text<'tl>,
        /// Whether the chain is a test network.
        is_testnet: i32,
        /// Copy of the root configuration.
        root_contract_state: crate::root_config::Config<'tl>,
        /// Unix seconds of the block it was read from.
        root_contract_state_block_ts: i32,
        /// Root version that ends the pause.
        disabled_until_version: i64,
    }

    /// A client of a closed contract.
    #[derive(Clone, Debug, PartialEq, Default)]
    OldClient<'tl> = "proxyDb.oldClient" 0x2fae_7b42 {
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Adjusted tokens.
        tokens: i64,
        /// Address text of the next client in the list.
        next_client: Text<'tl>,
    }

    /// A worker of a closed contract.
    #[derive(Clone, Debug, PartialEq, Default)]
    OldWorker<'tl> = "proxyDb.oldWorker" 0xf041_56a0 {
        /// Owner's address text.
        owner_address: Text<'tl>,
        /// Adjusted tokens.
        tokens: i64,
        /// Address text of the next worker in the list.
        next_worker: Text<'tl>,
    }

    /// A contract that is being closed.
    #[derive(Clone, Debug, PartialEq)]
    OldInstance<'tl> = "proxyDb.oldInstance" 0xa8c9_e178 {
        /// Address text of the contract.
        contract_address: Text<'tl>,
        /// Step of the closing.
        closing_state: i32,
        /// Unix seconds of the next step.
        close_at: i32,
        /// Address text of the next client in the list.
        next_client: Text<'tl>,
        /// Address text of the next worker in the list.
        next_worker: Text<'tl>,
        /// Copy of the root configuration.
        root_contract_state: crate::root_config::Config<'tl>,
    }
}

tl_enum! {
    /// State of the proxy.
    #[derive(Clone, Debug, PartialEq)]
    Config<'tl> {
        /// None yet.
        Empty(ConfigEmpty),
        /// Works.
        V4(ConfigV4<'tl>),
        /// Pauses.
        V4Disabled(ConfigV4Disabled<'tl>),
    }

    /// A client in the books.
    #[derive(Clone, Debug, PartialEq)]
    Client<'tl> {
        /// Oldest form; its stake counts as 0.
        V1(ClientInfo<'tl>),
        /// Present form.
        V2(ClientInfoV2<'tl>),
    }
}
