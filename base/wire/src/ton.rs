//! Block ids and the test query, namespaces `ton` and `test`.

use crate::tl::Blob;

tl_struct! {
    /// Full id of a block.
    #[derive(Clone, Debug, PartialEq, Default)]
    BlockIdExt<'tl> = "ton.blockIdExt" 0xbc3f_6da5 {
        /// Workchain.
        workchain: i32,
        /// Shard prefix.
        shard: i64,
        /// Sequence number.
        seqno: i32,
        /// Root hash.
        root_hash: Blob<'tl>,
        /// File hash.
        file_hash: Blob<'tl>,
    }

    /// Answer of the test query.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Answer = "test.answer" 0x0d4f_cdb6 {
        /// Id chosen by the sender.
        id: i64,
    }

    /// Test query.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Query = "test.query" 0x394e_9143 {
        /// Id chosen by the sender.
        id: i64,
    }
}
