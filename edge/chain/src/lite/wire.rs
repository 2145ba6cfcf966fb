//! What lite servers are asked and answer, in TL (lite_api and tonNode of TON's public schema).
//!
//! Numbers are little-endian, hashes 32 raw bytes; constructor numbers are those of the network.

use tl_proto::{TlPacket, TlRead, TlResult, TlWrite};
use tycho_types::cell::HashBytes;
use tycho_types::models::{BlockId, ShardIdent};

/// `tcp.ping`.
pub(crate) const TCP_PING: u32 = 0x4d08_2b9a;
/// `tcp.pong`.
pub(crate) const TCP_PONG: u32 = 0xdc69_fb03;
/// `adnl.message.query`.
pub(crate) const ADNL_QUERY: u32 = 0xb48b_f97a;
/// `adnl.message.answer`.
pub(crate) const ADNL_ANSWER: u32 = 0x0fac_8416;
/// `liteServer.query`.
pub(crate) const LITE_QUERY: u32 = 0x798c_06df;
/// `liteServer.waitMasterchainSeqno`: stands before another query.
pub(crate) const WAIT_SEQNO: u32 = 0xbaea_b892;
/// `liteServer.error`.
pub(crate) const ERROR: u32 = 0xbba9_e148;

/// A block's whole identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct BlockIdExt {
    pub(crate) workchain: i32,
    pub(crate) shard: u64,
    pub(crate) seqno: u32,
    pub(crate) root_hash: [u8; 32],
    pub(crate) file_hash: [u8; 32],
}

impl From<BlockId> for BlockIdExt {
    fn from(id: BlockId) -> Self {
        Self {
            workchain: id.shard.workchain(),
            shard: id.shard.prefix(),
            seqno: id.seqno,
            root_hash: id.root_hash.0,
            file_hash: id.file_hash.0,
        }
    }
}

impl BlockIdExt {
    /// `None` when the shard is none.
    pub(crate) fn to_block_id(self) -> Option<BlockId> {
        Some(BlockId {
            shard: ShardIdent::new(self.workchain, self.shard)?,
            seqno: self.seqno,
            root_hash: HashBytes(self.root_hash),
            file_hash: HashBytes(self.file_hash),
        })
    }
}

/// The state before the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct ZeroStateId {
    pub(crate) workchain: i32,
    pub(crate) root_hash: [u8; 32],
    pub(crate) file_hash: [u8; 32],
}

/// An account by workchain and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct AccountId {
    pub(crate) workchain: i32,
    pub(crate) id: [u8; 32],
}

/// A query without arguments or with plain ones.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed)]
pub(crate) enum Query {
    #[tl(id = 0x89b5e62e)]
    GetMasterchainInfo,
    #[tl(id = 0x70a671df)]
    GetMasterchainInfoExt { mode: u32 },
    #[tl(id = 0x16ad5a34)]
    GetTime,
    #[tl(id = 0x232b940b)]
    GetVersion,
    #[tl(id = 0x6377cf0d)]
    GetBlock { id: BlockIdExt },
    #[tl(id = 0xba6e2eb6)]
    GetState { id: BlockIdExt },
    #[tl(id = 0x21ec069e)]
    GetBlockHeader { id: BlockIdExt, mode: u32 },
    #[tl(id = 0x690ad482)]
    SendMessage { body: Vec<u8> },
    #[tl(id = 0x6b890e25)]
    GetAccountState { id: BlockIdExt, account: AccountId },
    #[tl(id = 0x5cc65dd2)]
    RunSmcMethod { mode: u32, id: BlockIdExt, account: AccountId, method_id: u64, params: Vec<u8> },
    #[tl(id = 0x46a2f425)]
    GetShardInfo { id: BlockIdExt, workchain: i32, shard: u64, exact: bool },
    #[tl(id = 0x74d3fd6b)]
    GetAllShardsInfo { id: BlockIdExt },
    #[tl(id = 0xd40f24ea)]
    GetOneTransaction { id: BlockIdExt, account: AccountId, lt: u64 },
    #[tl(id = 0x1c40e7a1)]
    GetTransactions { count: u32, account: AccountId, lt: u64, hash: [u8; 32] },
    #[tl(id = 0xfac8f71e)]
    LookupBlock(LookupBlock),
    #[tl(id = 0xadfcc7da)]
    ListBlockTransactions(ListTransactions),
    #[tl(id = 0x0079dd5c)]
    ListBlockTransactionsExt(ListTransactions),
    #[tl(id = 0x8aea9c44)]
    GetBlockProof(GetBlockProof),
    #[tl(id = 0x911b26b7)]
    GetConfigAll { mode: u32, id: BlockIdExt },
    #[tl(id = 0x2a111c19)]
    GetConfigParams {
        mode: u32,
        id: BlockIdExt,
        #[tl(with = "short_list")]
        param_list: Vec<u32>,
    },
    #[tl(id = 0x4ca60350)]
    GetShardBlockProof { id: BlockIdExt },
    #[tl(id = 0xd122b662)]
    GetLibraries {
        #[tl(with = "short_list")]
        library_list: Vec<[u8; 32]>,
    },
}

/// A block by number, logical time or time: bits 0, 1, 2 of `mode` say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LookupBlock {
    pub(crate) mode: u32,
    pub(crate) workchain: i32,
    pub(crate) shard: u64,
    pub(crate) seqno: u32,
    pub(crate) lt: Option<u64>,
    pub(crate) utime: Option<u32>,
}

impl<'a> TlRead<'a> for LookupBlock {
    type Repr = tl_proto::Bare;

    fn read_from(packet: &mut &'a [u8]) -> TlResult<Self> {
        let mode = u32::read_from(packet)?;
        Ok(Self {
            mode,
            workchain: i32::read_from(packet)?,
            shard: u64::read_from(packet)?,
            seqno: u32::read_from(packet)?,
            lt: optional(mode, 1, packet)?,
            utime: optional(mode, 2, packet)?,
        })
    }
}

impl TlWrite for LookupBlock {
    type Repr = tl_proto::Bare;

    fn max_size_hint(&self) -> usize {
        32
    }

    fn write_to<P: TlPacket>(&self, packet: &mut P) {
        self.mode.write_to(packet);
        self.workchain.write_to(packet);
        self.shard.write_to(packet);
        self.seqno.write_to(packet);
        self.lt.iter().for_each(|lt| lt.write_to(packet));
        self.utime.iter().for_each(|utime| utime.write_to(packet));
    }
}

/// Transactions of a block: bit 5 of `mode` asks for a proof, 6 for reverse order, 7 marks `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListTransactions {
    pub(crate) id: BlockIdExt,
    pub(crate) mode: u32,
    pub(crate) count: u32,
    pub(crate) after: Option<([u8; 32], u64)>,
}

impl<'a> TlRead<'a> for ListTransactions {
    type Repr = tl_proto::Bare;

    fn read_from(packet: &mut &'a [u8]) -> TlResult<Self> {
        let id = BlockIdExt::read_from(packet)?;
        let mode = u32::read_from(packet)?;
        let count = u32::read_from(packet)?;
        Ok(Self { id, mode, count, after: optional(mode, 7, packet)? })
    }
}

impl TlWrite for ListTransactions {
    type Repr = tl_proto::Bare;

    fn max_size_hint(&self) -> usize {
        128
    }

    fn write_to<P: TlPacket>(&self, packet: &mut P) {
        self.id.write_to(packet);
        self.mode.write_to(packet);
        self.count.write_to(packet);
        self.after.iter().for_each(|after| after.write_to(packet));
    }
}

/// A chain of proofs from one masterchain block to another (bit 0 of `mode`: to a given one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GetBlockProof {
    pub(crate) known: BlockIdExt,
    pub(crate) target: Option<BlockIdExt>,
}

impl<'a> TlRead<'a> for GetBlockProof {
    type Repr = tl_proto::Bare;

    fn read_from(packet: &mut &'a [u8]) -> TlResult<Self> {
        let mode = u32::read_from(packet)?;
        let known = BlockIdExt::read_from(packet)?;
        Ok(Self { known, target: optional(mode, 0, packet)? })
    }
}

impl TlWrite for GetBlockProof {
    type Repr = tl_proto::Bare;

    fn max_size_hint(&self) -> usize {
        164
    }

    fn write_to<P: TlPacket>(&self, packet: &mut P) {
        u32::from(self.target.is_some()).write_to(packet);
        self.known.write_to(packet);
        self.target.iter().for_each(|target| target.write_to(packet));
    }
}

fn optional<'a, T: TlRead<'a>>(mode: u32, bit: u32, packet: &mut &'a [u8]) -> TlResult<Option<T>> {
    if mode >> bit & 1 == 0 {
        return Ok(None);
    }
    T::read_from(packet).map(Some)
}

/// Lists with a limit: a length from a peer must not make us reserve memory.
mod short_list {
    use tl_proto::{TlError, TlPacket, TlRead, TlResult, TlWrite};

    /// Longest list read; nothing that is asked for is longer.
    const ENTRIES_MAX: u32 = 1_024;

    pub(super) fn size_hint<T: TlWrite>(list: &Vec<T>) -> usize {
        list.max_size_hint()
    }

    pub(super) fn write<T: TlWrite, P: TlPacket>(list: &Vec<T>, packet: &mut P) {
        list.write_to(packet);
    }

    pub(super) fn read<'a, T: TlRead<'a>>(packet: &mut &'a [u8]) -> TlResult<Vec<T>> {
        let len = u32::read_from(packet)?;
        if len > ENTRIES_MAX {
            return Err(TlError::InvalidData);
        }
        (0..len).map(|_| T::read_from(packet)).collect()
    }
}

/// `liteServer.masterchainInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x85832881)]
pub(crate) struct MasterchainInfo {
    pub(crate) last: BlockIdExt,
    pub(crate) state_root_hash: [u8; 32],
    pub(crate) init: ZeroStateId,
}

/// `liteServer.masterchainInfoExt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xa8cce0f5)]
pub(crate) struct MasterchainInfoExt {
    pub(crate) mode: u32,
    pub(crate) version: u32,
    pub(crate) capabilities: u64,
    pub(crate) last: BlockIdExt,
    pub(crate) last_utime: u32,
    pub(crate) now: u32,
    pub(crate) state_root_hash: [u8; 32],
    pub(crate) init: ZeroStateId,
}

/// `liteServer.currentTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xe953000d)]
pub(crate) struct CurrentTime {
    pub(crate) now: u32,
}

/// `liteServer.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x5a0491e5)]
pub(crate) struct Version {
    pub(crate) mode: u32,
    pub(crate) version: u32,
    pub(crate) capabilities: u64,
    pub(crate) now: u32,
}

/// `liteServer.blockData`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xa574ed6c)]
pub(crate) struct BlockData {
    pub(crate) id: BlockIdExt,
    pub(crate) data: Vec<u8>,
}

/// `liteServer.blockState`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xabaddc0c)]
pub(crate) struct BlockState {
    pub(crate) id: BlockIdExt,
    pub(crate) root_hash: [u8; 32],
    pub(crate) file_hash: [u8; 32],
    pub(crate) data: Vec<u8>,
}

/// `liteServer.blockHeader`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x752d8219)]
pub(crate) struct BlockHeader {
    pub(crate) id: BlockIdExt,
    pub(crate) mode: u32,
    pub(crate) header_proof: Vec<u8>,
}

/// `liteServer.sendMsgStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x3950e597)]
pub(crate) struct SendMsgStatus {
    pub(crate) status: u32,
}

/// `liteServer.accountState`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x7079c751)]
pub(crate) struct AccountState {
    pub(crate) id: BlockIdExt,
    pub(crate) shardblk: BlockIdExt,
    pub(crate) shard_proof: Vec<u8>,
    pub(crate) proof: Vec<u8>,
    pub(crate) state: Vec<u8>,
}

/// `liteServer.runMethodResult`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMethodResult {
    pub(crate) mode: u32,
    pub(crate) id: BlockIdExt,
    pub(crate) shardblk: BlockIdExt,
    pub(crate) shard_proof: Option<Vec<u8>>,
    pub(crate) proof: Option<Vec<u8>>,
    pub(crate) state_proof: Option<Vec<u8>>,
    pub(crate) exit_code: i32,
    pub(crate) result: Option<Vec<u8>>,
}

impl TlWrite for RunMethodResult {
    type Repr = tl_proto::Boxed;

    fn max_size_hint(&self) -> usize {
        256
    }

    fn write_to<P: TlPacket>(&self, packet: &mut P) {
        0xa39a_616b_u32.write_to(packet);
        self.mode.write_to(packet);
        self.id.write_to(packet);
        self.shardblk.write_to(packet);
        for proof in [&self.shard_proof, &self.proof, &self.state_proof] {
            proof.iter().for_each(|proof| proof.write_to(packet));
        }
        self.exit_code.write_to(packet);
        self.result.iter().for_each(|result| result.write_to(packet));
    }
}

/// `liteServer.shardInfo`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x9fe6cd84)]
pub(crate) struct ShardInfo {
    pub(crate) id: BlockIdExt,
    pub(crate) shardblk: BlockIdExt,
    pub(crate) shard_proof: Vec<u8>,
    pub(crate) shard_descr: Vec<u8>,
}

/// `liteServer.allShardsInfo`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x098fe72d)]
pub(crate) struct AllShardsInfo {
    pub(crate) id: BlockIdExt,
    pub(crate) proof: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// `liteServer.transactionInfo`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x0edeed47)]
pub(crate) struct TransactionInfo {
    pub(crate) id: BlockIdExt,
    pub(crate) proof: Vec<u8>,
    pub(crate) transaction: Vec<u8>,
}

/// `liteServer.transactionList`: the transactions are the roots of one bag, newest first.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x6f26c60b)]
pub(crate) struct TransactionList {
    #[tl(with = "short_list")]
    pub(crate) ids: Vec<BlockIdExt>,
    pub(crate) transactions: Vec<u8>,
}

/// `liteServer.transactionId` with account, logical time and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct ShortId {
    pub(crate) mode: u32,
    pub(crate) account: [u8; 32],
    pub(crate) lt: u64,
    pub(crate) hash: [u8; 32],
}

/// `liteServer.blockTransactions`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xbd8cad2b)]
pub(crate) struct BlockTransactions {
    pub(crate) id: BlockIdExt,
    pub(crate) req_count: u32,
    pub(crate) incomplete: bool,
    #[tl(with = "short_list")]
    pub(crate) ids: Vec<ShortId>,
    pub(crate) proof: Vec<u8>,
}

/// `liteServer.blockTransactionsExt`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xfb8ffce4)]
pub(crate) struct BlockTransactionsExt {
    pub(crate) id: BlockIdExt,
    pub(crate) req_count: u32,
    pub(crate) incomplete: bool,
    pub(crate) transactions: Vec<u8>,
    pub(crate) proof: Vec<u8>,
}

/// `liteServer.partialBlockProof`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x8ed0d2c1)]
pub(crate) struct PartialBlockProof {
    pub(crate) complete: bool,
    pub(crate) from: BlockIdExt,
    pub(crate) to: BlockIdExt,
    #[tl(with = "short_list")]
    pub(crate) steps: Vec<BlockLink>,
}

/// One step of a block proof.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed)]
pub(crate) enum BlockLink {
    /// From a key block to a later block, by signatures.
    #[tl(id = 0x520fce1c)]
    Forward {
        to_key_block: bool,
        from: BlockIdExt,
        to: BlockIdExt,
        dest_proof: Vec<u8>,
        config_proof: Vec<u8>,
        signatures: SignatureSet,
    },
    /// To an earlier block, by the list of blocks in the state.
    #[tl(id = 0xef7e1bef)]
    Back {
        to_key_block: bool,
        from: BlockIdExt,
        to: BlockIdExt,
        dest_proof: Vec<u8>,
        proof: Vec<u8>,
        state_proof: Vec<u8>,
    },
}

/// `liteServer.signatureSet`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xf644a6e6)]
pub(crate) struct SignatureSet {
    pub(crate) validator_set_hash: u32,
    pub(crate) catchain_seqno: u32,
    #[tl(with = "short_list")]
    pub(crate) signatures: Vec<Signature>,
}

/// `liteServer.signature`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct Signature {
    pub(crate) node_id_short: [u8; 32],
    pub(crate) signature: Vec<u8>,
}

/// `liteServer.configInfo`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xae7b272f)]
pub(crate) struct ConfigInfo {
    pub(crate) mode: u32,
    pub(crate) id: BlockIdExt,
    pub(crate) state_proof: Vec<u8>,
    pub(crate) config_proof: Vec<u8>,
}

/// `liteServer.shardBlockProof`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x1d62a07a)]
pub(crate) struct ShardBlockProof {
    pub(crate) masterchain_id: BlockIdExt,
    #[tl(with = "short_list")]
    pub(crate) links: Vec<ShardBlockLink>,
}

/// `liteServer.shardBlockLink`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct ShardBlockLink {
    pub(crate) id: BlockIdExt,
    pub(crate) proof: Vec<u8>,
}

/// `liteServer.libraryResult`: never holds one here.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0x117ab96b)]
pub(crate) struct LibraryResult {
    #[tl(with = "short_list")]
    pub(crate) result: Vec<LibraryEntry>,
}

/// `liteServer.libraryEntry`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
pub(crate) struct LibraryEntry {
    pub(crate) hash: [u8; 32],
    pub(crate) data: Vec<u8>,
}

/// `liteServer.error`.
#[derive(Clone, Debug, PartialEq, Eq, TlRead, TlWrite)]
#[tl(boxed, id = 0xbba9e148)]
pub(crate) struct ErrorAnswer {
    pub(crate) code: i32,
    pub(crate) message: Vec<u8>,
}
