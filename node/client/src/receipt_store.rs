//! Receipts that this node keeps, and the reports of the workers that signed them.
//!
//! They hold no content, but hashes of prompts and answers, with which somebody could try out
//! guesses: on disk they lie in an encrypted journal of their own, like the books.

use cocoon_attest::Digest32;
use cocoon_host::{Books, BooksEvents};
use cocoon_proof::{Bundle, ReceiptFile, SignedReceipt};
use cocoon_units::Secret;
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// Keys whose reports are kept. A worker has one key for as long as it runs.
const REPORTS_MAX: usize = 256;
/// First byte of a record that is a receipt, and of one that is a worker's report.
const RECEIPT: u8 = 1;
const REPORT: u8 = 2;
/// Bytes of a receipt on disk, about; the journal is compacted at twice what the newest need.
const RECEIPT_LEN: u64 = 1_000;

/// The newest receipts of this node, by id.
pub(crate) struct ReceiptStore {
    limit: usize,
    by_id: HashMap<String, SignedReceipt>,
    order: VecDeque<String>,
    /// Reports by receipt key, oldest first.
    reports: VecDeque<(Digest32, Bundle)>,
    books: Option<Books>,
}

impl ReceiptStore {
    /// Reads what was kept. `limit` receipts are kept from then on; 0 keeps none.
    ///
    /// # Errors
    /// The journal cannot be read: the node must not start.
    pub(crate) fn open(
        dir: &Path,
        key: &Secret<[u8; 32]>,
        limit: usize,
    ) -> Result<(Self, BooksEvents), cocoon_journal::Fault> {
        let opening = Books::open(dir, key, false)?;
        let mut store = Self {
            limit,
            by_id: HashMap::new(),
            order: VecDeque::new(),
            reports: VecDeque::new(),
            books: None,
        };
        for record in opening.records() {
            match record.split_first() {
                Some((&RECEIPT, bytes)) => {
                    if let Ok(receipt) = SignedReceipt::read(bytes) {
                        store.remember(receipt);
                    }
                }
                Some((&REPORT, bytes)) => {
                    if let Some((key, json)) = bytes.split_first_chunk::<32>()
                        && let Ok(bundle) = Bundle::read(json)
                    {
                        store.remember_report(Digest32::from(*key), bundle);
                    }
                }
                _ => {}
            }
        }
        let (books, events) = opening.start(store.snapshot())?;
        store.books = Some(books);
        Ok((store, events))
    }

    /// Keeps a receipt.
    pub(crate) fn keep(&mut self, receipt: SignedReceipt) {
        if self.limit == 0 {
            return;
        }
        let record = [&[RECEIPT], receipt.bytes()].concat();
        self.remember(receipt);
        self.write(record);
    }

    /// Keeps the report that vouches for a key.
    pub(crate) fn keep_report(&mut self, key: Digest32, bundle: Bundle) {
        let Ok(json) = bundle.write() else { return };
        self.remember_report(key, bundle);
        self.write([&[REPORT], key.0.as_slice(), &json].concat());
    }

    /// Whether a report vouches for this key.
    pub(crate) fn has_report(&self, key: Digest32) -> bool {
        self.reports.iter().any(|(of, _)| *of == key)
    }

    /// The receipt with its evidence, as a file.
    pub(crate) fn file(&self, id: &str) -> Option<ReceiptFile> {
        let receipt = self.by_id.get(id)?;
        let key = receipt.receipt.receipt_key;
        let report = self.reports.iter().find(|(of, _)| *of == key);
        Some(ReceiptFile::new(receipt, report.map(|(_, bundle)| bundle.clone())))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn remember(&mut self, receipt: SignedReceipt) {
        let id = receipt.id();
        if self.by_id.insert(id.clone(), receipt).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.by_id.remove(&oldest);
        }
    }

    fn remember_report(&mut self, key: Digest32, bundle: Bundle) {
        self.reports.retain(|(of, _)| *of != key);
        self.reports.push_back((key, bundle));
        while self.reports.len() > REPORTS_MAX {
            self.reports.pop_front();
        }
    }

    /// A journal is never empty: its very first record says what it is.
    fn snapshot(&self) -> Vec<Vec<u8>> {
        let mut records = vec![b"cocoon-receipts".to_vec()];
        for (key, bundle) in &self.reports {
            if let Ok(json) = bundle.write() {
                records.push([&[REPORT], key.0.as_slice(), &json].concat());
            }
        }
        let receipts = self.order.iter().filter_map(|id| self.by_id.get(id));
        records.extend(receipts.map(|receipt| [&[RECEIPT], receipt.bytes()].concat()));
        records
    }

    /// Receipts are no books: when their journal fails, the node goes on without one.
    fn write(&mut self, record: Vec<u8>) {
        let Some(books) = &mut self.books else { return };
        let reports: u64 = 64 << 10;
        let full = 2 * (self.limit as u64 * RECEIPT_LEN + REPORTS_MAX as u64 * reports);
        let mut written = books.append(vec![record]).map(|_| ());
        if written.is_ok() && books.segment_len() > full {
            let snapshot = self.snapshot();
            written = self.books.as_ref().map_or(Ok(()), |books| books.snapshot(snapshot));
        }
        if let Err(fault) = written {
            tracing::error!(%fault, "receipts are kept in memory only from now on");
            self.books = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use cocoon_proof::{Money, Receipt, ReceiptEnd, ReceiptKey, RootView, TeeMark};
    use cocoon_units::{Coefficient, PriceTable, Tokens, Usage};

    use super::*;

    fn receipt(number: u64) -> SignedReceipt {
        let key = ReceiptKey::from_seed(&[7; 32]);
        let zero = Digest32::ZERO;
        let body = cocoon_proof::Body::of(b"");
        let money = Money {
            usage: Usage::default(),
            charged: Tokens::ZERO,
            coefficient: Coefficient::ONE,
            prices: PriceTable::default(),
        };
        let receipt = Receipt {
            receipt_key: key.public(),
            worker_key: zero,
            worker_id: zero,
            worker_image: zero,
            worker_tee: TeeMark::Tdx,
            gpu: zero,
            proxy_image: zero,
            proxy_contract: zero,
            network_id: -3,
            root_contract: zero,
            model_name: "m".into(),
            nonce: zero,
            path: "/v1/chat/completions".into(),
            request: body,
            status: 200,
            answer: body,
            end: ReceiptEnd::Complete,
            money,
            started_ms: number,
            answered_ms: number,
            ended_ms: number,
        };
        SignedReceipt::read(&receipt.sign(&key)).unwrap()
    }

    #[tokio::test]
    async fn the_newest_receipts_are_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let key = Secret::new([1; 32]);
        let ids: Vec<String> = (0..5).map(|number| receipt(number).id()).collect();
        {
            let (mut store, _events) = ReceiptStore::open(dir.path(), &key, 3).unwrap();
            for number in 0..5 {
                store.keep(receipt(number));
            }
            let report = Bundle::new(9, Digest32::ZERO, RootView::default());
            store.keep_report(receipt(0).receipt.receipt_key, report);
        }
        let (store, _events) = ReceiptStore::open(dir.path(), &key, 3).unwrap();
        assert_eq!(store.len(), 3);
        assert!(store.file(&ids[1]).is_none());
        let file = store.file(&ids[4]).unwrap();
        assert_eq!(file.evidence.as_ref().map(|bundle| bundle.made_ms), Some(9));
        let (_, read) = ReceiptFile::read(&file.write().unwrap()).unwrap();
        assert_eq!(read.id(), ids[4]);
    }
}
