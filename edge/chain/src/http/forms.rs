//! The JSON forms of toncenter v2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_units::{Address, AddressForm};
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use tycho_types::models::BlockId;

use crate::account::TransactionId;
use crate::{MessageRecord, TransactionRecord};

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn cell(cell: &Cell) -> String {
    STANDARD.encode(Boc::encode(cell))
}

pub(crate) fn block_id(id: &BlockId) -> Value {
    json!({
        "@type": "ton.blockIdExt",
        "workchain": id.shard.workchain(),
        "shard": id.shard.prefix().cast_signed().to_string(),
        "seqno": id.seqno,
        "root_hash": base64(&id.root_hash.0),
        "file_hash": base64(&id.file_hash.0),
    })
}

pub(crate) fn transaction_id(id: Option<TransactionId>) -> Value {
    let (lt, hash) = id.map_or((0, [0; 32]), |id| (id.lt, id.hash));
    json!({"@type": "internal.transactionId", "lt": lt.to_string(), "hash": base64(&hash)})
}

pub(crate) fn friendly(address: Address) -> String {
    address.to_friendly(AddressForm::BOUNCEABLE)
}

pub(crate) fn transaction(record: &TransactionRecord) -> Value {
    let other = record.fees.saturating_sub(record.storage_fee);
    let mut form = json!({
        "@type": "raw.transaction",
        "address": {"@type": "accountAddress", "account_address": friendly(record.account)},
        "utime": record.time.0,
        "data": cell(&record.cell),
        "transaction_id": transaction_id(Some(record.id)),
        "fee": record.fees.0.to_string(),
        "storage_fee": record.storage_fee.0.to_string(),
        "other_fee": other.0.to_string(),
        "out_msgs": record.out_msgs.iter().map(message).collect::<Vec<_>>(),
    });
    if let (Some(object), Some(in_msg)) = (form.as_object_mut(), &record.in_msg) {
        object.insert("in_msg".to_owned(), message(in_msg));
    }
    form
}

fn message(record: &MessageRecord) -> Value {
    let party = |address: Option<Address>| address.map(friendly).unwrap_or_default();
    let (data, text) = message_data(&record.body);
    json!({
        "@type": "raw.message",
        "hash": base64(&record.cell.repr_hash().0),
        "source": party(record.source),
        "destination": party(record.destination),
        "value": record.value.0.to_string(),
        "extra_currencies": [],
        "fwd_fee": record.fwd_fee.0.to_string(),
        "ihr_fee": "0",
        "created_lt": record.created_lt.to_string(),
        "body_hash": base64(&record.body.repr_hash().0),
        "msg_data": data,
        "message": text,
    })
}

/// A comment (32 zero bits, then text) is shown as text; anything else as its cell.
fn message_data(body: &Cell) -> (Value, String) {
    if let Some(text) = comment(body) {
        let data = json!({"@type": "msg.dataText", "text": base64(text.as_bytes())});
        return (data, text);
    }
    let data = json!({"@type": "msg.dataRaw", "body": cell(body), "init_state": ""});
    (data, String::new())
}

/// Longest comment read, in bytes: what fits an external message.
const COMMENT_BYTES_MAX: usize = 65_535;

fn comment(body: &Cell) -> Option<String> {
    let mut slice = body.as_slice().ok()?;
    if slice.load_u32().ok()? != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    let mut tail = body.clone();
    loop {
        if !slice.size_bits().is_multiple_of(8) || bytes.len() > COMMENT_BYTES_MAX {
            return None;
        }
        while let Ok(byte) = slice.load_u8() {
            bytes.push(byte);
        }
        match slice.size_refs() {
            0 => return String::from_utf8(bytes).ok(),
            1 => {
                let next = tail.reference_cloned(0)?;
                tail = next;
                slice = tail.as_slice().ok()?;
            }
            _ => return None,
        }
    }
}
