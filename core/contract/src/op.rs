//! Operation codes, exit codes and amounts (protocol notes 1).

/// A registry operation of the root contract (protocol notes 1.3).
pub mod root {
    /// `add_worker_type`.
    pub const ADD_WORKER_TYPE: u32 = 0xe34b_1c60;
    /// `del_worker_type`.
    pub const DEL_WORKER_TYPE: u32 = 0x8d94_a79a;
    /// `add_model_type`.
    pub const ADD_MODEL_TYPE: u32 = 0xc146_134d;
    /// `del_model_type`.
    pub const DEL_MODEL_TYPE: u32 = 0x92b1_1c18;
    /// `add_proxy_type`.
    pub const ADD_PROXY_TYPE: u32 = 0x7186_0e80;
    /// `del_proxy_type`.
    pub const DEL_PROXY_TYPE: u32 = 0x3c41_d0b2;
    /// `register_proxy`.
    pub const REGISTER_PROXY: u32 = 0x927c_7cb5;
    /// `unregister_proxy`.
    pub const UNREGISTER_PROXY: u32 = 0x6d49_eaf2;
    /// `update_proxy`.
    pub const UPDATE_PROXY: u32 = 0x9c79_24ba;
    /// `change_price`.
    pub const CHANGE_PRICE: u32 = 0xc52e_d8d4;
    /// `change_params`.
    pub const CHANGE_PARAMS: u32 = 0x022f_a189;
    /// `upgrade_contracts`.
    pub const UPGRADE_CONTRACTS: u32 = 0xa237_0f61;
    /// `upgrade`.
    pub const UPGRADE: u32 = 0x11ae_fd51;
    /// `reset`.
    pub const RESET: u32 = 0x563c_1d96;
    /// `upgrade_full`.
    pub const UPGRADE_FULL: u32 = 0x4f7c_5789;
    /// `change_owner`.
    pub const CHANGE_OWNER: u32 = 0xc4a1_ae54;
}

/// Shared by all contracts (protocol notes 1.2).
pub mod shared {
    /// Text follows; no query id.
    pub const TEXT: u32 = 0;
    /// Return of unused value.
    pub const EXCESSES: u32 = 0x2565_934c;
    /// Money going to an owner.
    pub const PAYOUT: u32 = 0xc59a_7cd3;
    /// Ignored by every contract, read by nodes.
    pub const DO_NOT_PROCESS: u32 = 0x9a12_47c0;
    /// A proxy's state commit, inside `DO_NOT_PROCESS`.
    pub const SAVE_STATE: u32 = 0x5310_9c0f;
    /// What the chain puts before the first 256 bits of a bounced body.
    pub const BOUNCED: u32 = 0xffff_ffff;
    /// What the chain puts before a bounced body in the form that keeps all of it.
    pub const BOUNCED_WHOLE: u32 = 0xffff_fffe;
}

/// Proxy contract (protocol notes 1.4).
pub mod proxy {
    /// From a worker contract.
    pub const WORKER_REQUEST: u32 = 0x4d72_5d2c;
    /// From a client contract.
    pub const CLIENT_REQUEST: u32 = 0x6544_8ff4;
    /// Anyone adds coins to the stake.
    pub const INCREASE_STAKE: u32 = 0x9713_f187;
    /// Anyone asks to send what the proxy has earned to its owner.
    pub const PAYOUT_REQUEST: u32 = 0x7610_e6eb;
    /// The owner starts to close.
    pub const OWNER_CLOSE: u32 = 0xb51d_5a01;
    /// The proxy's key starts to close.
    pub const CLOSE_SIGNED: u32 = 0x636a_4391;
    /// The proxy's key completes the close.
    pub const CLOSE_COMPLETE_SIGNED: u32 = 0xe511_abc7;
    /// Payload of a worker's request.
    pub const WORKER_PAYOUT: u32 = 0x08e7_d036;
    /// Payload of a client's request: coins came in.
    pub const TOP_UP: u32 = 0x5cfc_6b87;
    /// Payload of a client's request: a nonce for the proxy to see.
    pub const REGISTER: u32 = 0xa35c_b580;
    /// Payload of a client's request: pay this back.
    pub const REFUND_GRANTED: u32 = 0xc68e_bc7b;
    /// Payload of a client's request: pay this back, the proxy did not agree.
    pub const REFUND_FORCE: u32 = 0xf4c3_54c9;
}

/// Worker contract (protocol notes 1.5).
pub mod worker {
    /// A payout, signed by the proxy's key.
    pub const PAYOUT_SIGNED: u32 = 0xa040_ad28;
    /// The last payout, signed by the proxy's key.
    pub const LAST_PAYOUT_SIGNED: u32 = 0xf5f2_6a36;
    /// The owner makes the contract known to the proxy.
    pub const OWNER_REGISTER: u32 = 0x26ed_7f65;
    /// From the proxy contract, an addition of ours: part of a payout could not be paid.
    pub const PAYOUT_SHORT: u32 = 0x3e1f_0a42;
}

/// Client contract (protocol notes 1.6).
pub mod client {
    /// Anyone tops up.
    pub const TOP_UP: u32 = 0xf172_e6c2;
    /// The owner tops up and changes the secret's hash.
    pub const CHANGE_SECRET_HASH_AND_TOP_UP: u32 = 0x8473_b408;
    /// The owner shows a nonce to the proxy.
    pub const REGISTER: u32 = 0xc45f_9f3b;
    /// The owner changes the secret's hash.
    pub const CHANGE_SECRET_HASH: u32 = 0xa935_7034;
    /// The owner raises the stake.
    pub const INCREASE_STAKE: u32 = 0x6a1f_6a60;
    /// The owner takes what exceeds the stake.
    pub const WITHDRAW: u32 = 0xda06_8e78;
    /// The owner asks for everything.
    pub const REQUEST_REFUND: u32 = 0xfafa_6cc1;
    /// A charge, signed by the proxy's key.
    pub const CHARGE_SIGNED: u32 = 0xbb63_ff93;
    /// The final charge and refund, signed by the proxy's key.
    pub const GRANT_REFUND_SIGNED: u32 = 0xefd7_11e1;
    /// Known, carried out by no contract.
    pub const TOP_UP_REOPEN: u32 = 0x2911_1ceb;
    /// From the proxy contract, an addition of ours: part of a refund could not be paid.
    pub const REFUND_SHORT: u32 = 0x3e1f_0a41;
}

/// Wallet (protocol notes 5.2).
pub mod wallet {
    /// The owner sends any message through the wallet.
    pub const SEND_MESSAGE: u32 = 0x9c69_f376;
}

/// Timelock, the owner of a root that cannot be changed at once; a contract of ours.
pub mod timelock {
    /// The admin proposes a change.
    pub const PROPOSE: u32 = 0x3e1f_0a51;
    /// Anyone carries out the oldest change once its time has come.
    pub const APPLY: u32 = 0x3e1f_0a52;
    /// The admin withdraws a change.
    pub const CANCEL: u32 = 0x3e1f_0a53;
    /// The admin takes back an image, model or proxy at once.
    pub const REVOKE: u32 = 0x3e1f_0a54;
    /// Changes admin and delay; only as a proposal of the timelock to itself.
    pub const CONFIGURE: u32 = 0x3e1f_0a55;
}

/// Exit codes of the contracts (protocol notes 1.8).
pub mod exit {
    /// Wrong layout.
    pub const CELL_UNDERFLOW: i32 = 9;
    /// Tokens are not larger than what is already on chain.
    pub const OLD_MESSAGE: i32 = 1000;
    /// The contract's own balance is too low.
    pub const CONTRACT_BALANCE: i32 = 1001;
    /// The message carries too little value.
    pub const LOW_VALUE: i32 = 1003;
    /// The message has a wrong form.
    pub const FORMAT: i32 = 1004;
    /// The signed part does not repeat the outer operation and query id.
    pub const ENVELOPE: i32 = 1005;
    /// Closed, or in a state that forbids this.
    pub const WRONG_STATE: i32 = 1006;
    /// The signature is not the proxy's.
    pub const SIGNATURE: i32 = 1007;
    /// The parameters have another structure version than the contract.
    pub const STRUCT_VERSION: i32 = 1008;
    /// The sender is not the owner (withdraw and refund).
    pub const NOT_CLIENT_OWNER: i32 = 1009;
    /// The sender is not the owner.
    pub const NOT_OWNER: i32 = 1010;
    /// Not unlocked yet.
    pub const LOCKED: i32 = 1011;
    /// Unknown operation.
    pub const UNKNOWN_OP: i32 = 1012;
    /// Unknown text command.
    pub const UNKNOWN_TEXT: i32 = 1013;
    /// The sender is not the contract it should be.
    pub const WRONG_SENDER: i32 = 1014;
    /// Signed for another contract.
    pub const WRONG_TARGET: i32 = 1015;
    /// Wallet: the message has expired.
    pub const EXPIRED: i32 = 1030;
    /// Wallet: blocked by its owner.
    pub const BLOCKED: i32 = 1031;
    /// Wallet: sequence number.
    pub const SEQNO: i32 = 1032;
    /// Wallet: subwallet number.
    pub const SUBWALLET: i32 = 1033;
    /// Wallet: signature.
    pub const WALLET_SIGNATURE: i32 = 1034;
    /// Wallet: less than 2 TON on the account.
    pub const WALLET_BALANCE: i32 = 1035;
    /// Wallet: the sender is not the owner.
    pub const WALLET_NOT_OWNER: i32 = 1040;
    /// Wallet: unknown text command.
    pub const WALLET_UNKNOWN_TEXT: i32 = 1041;
    /// Timelock: nothing waits, or nothing with this number.
    pub const NOTHING_WAITS: i32 = 2001;
    /// Timelock: this change must wait.
    pub const NOT_REVOCATION: i32 = 2002;
    /// Root: no proxy with this number.
    pub const UNKNOWN_PROXY: i32 = 2000;

    /// What an exit code says, for people.
    #[must_use]
    pub fn name(code: i32) -> &'static str {
        match code {
            0 | 1 => "success",
            CELL_UNDERFLOW => "the message has the wrong layout",
            OLD_MESSAGE => "nothing new in this message",
            CONTRACT_BALANCE => "the contract's balance is too low",
            LOW_VALUE => "the message carries too little value",
            FORMAT => "the message has the wrong form",
            ENVELOPE => "the signed part does not repeat operation and query id",
            WRONG_STATE => "the contract is closed or in the wrong state",
            SIGNATURE => "the signature is not the proxy's",
            STRUCT_VERSION => "the parameters have another structure version",
            NOT_CLIENT_OWNER | NOT_OWNER => "the sender is not the owner",
            LOCKED => "not unlocked yet",
            UNKNOWN_OP => "unknown operation",
            UNKNOWN_TEXT | WALLET_UNKNOWN_TEXT => "unknown text command",
            WRONG_SENDER => "the sender is not the contract it should be",
            WRONG_TARGET => "signed for another contract",
            EXPIRED => "the message has expired",
            BLOCKED => "the wallet is blocked by its owner",
            SEQNO => "the wallet expects another sequence number",
            SUBWALLET => "the wallet has another subwallet number",
            WALLET_SIGNATURE => "the signature is not the wallet's",
            WALLET_BALANCE => "the wallet holds less than 2 TON",
            WALLET_NOT_OWNER => "the sender is not the wallet's owner",
            NOTHING_WAITS => "no such change waits",
            NOT_REVOCATION => "only a revocation takes effect at once",
            UNKNOWN_PROXY => "no proxy with this number",
            _ => "unknown exit code",
        }
    }
}

/// Values that nodes attach (protocol notes 1.9).
pub mod value {
    use cocoon_units::Nanoton;

    /// Deployment of a client contract.
    pub const DEPLOY_CLIENT: Nanoton = Nanoton(800_000_000);
    /// Deployment of a proxy or worker contract.
    pub const DEPLOY_OTHER: Nanoton = Nanoton(300_000_000);
    /// An order to a client contract, a charge and a grant included; top-ups add the amount.
    pub const CLIENT_ORDER: Nanoton = Nanoton(700_000_000);
    /// Registration of a nonce.
    pub const CLIENT_REGISTER: Nanoton = Nanoton(1_000_000_000);
    /// A worker payout submitted by the proxy.
    pub const WORKER_PAYOUT_BY_PROXY: Nanoton = Nanoton(700_000_000);
    /// A worker payout submitted by the worker.
    pub const WORKER_PAYOUT_BY_WORKER: Nanoton = Nanoton(500_000_000);
    /// The proxy's own payout.
    pub const PROXY_PAYOUT: Nanoton = Nanoton(200_000_000);
    /// Each step of closing an old set of contracts.
    pub const CLOSE_STEP: Nanoton = Nanoton(1_000_000_000);
    /// A state commit, sent in mode 1.
    pub const SAVE_STATE: Nanoton = Nanoton(1);
    /// What a wallet must hold before it acts.
    pub const WALLET_FLOOR: Nanoton = Nanoton(2_000_000_000);
}
