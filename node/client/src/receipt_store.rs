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
use std::sync::Arc;

/// Keys whose reports are kept. A worker has one key for as long as it runs.
const REPORTS_MAX: usize = 256;
/// Reports of keys without a receipt that stay all the same: where few receipts are kept, a busy
/// worker would be asked again and again.
const IDLE_REPORTS_MAX: usize = 8;
/// First byte of a record that is a receipt, and of one that is a worker's report.
const RECEIPT: u8 = 1;
const REPORT: u8 = 2;
/// Bytes of records that may lie on disk beside those still wanted, at least. The journal is
/// compacted when there are more than this and more than those that are wanted.
const SLACK_LEN: u64 = 1 << 20;

/// The newest receipts of this node, by id, and the reports of those who signed them.
///
/// Both are kept as the bytes that lie on disk, which is less than what they take when read. But for
/// a few, a report is kept only as long as a receipt of its key: workers draw a new key at every
/// start, and nothing else bounds how often they start.
pub(crate) struct ReceiptStore {
    limit: usize,
    by_id: HashMap<Arc<str>, Kept>,
    order: VecDeque<Arc<str>>,
    /// Receipts kept of each key.
    of_key: HashMap<Digest32, usize>,
    /// Reports by receipt key, oldest first: bundles as they are written.
    reports: VecDeque<(Digest32, Vec<u8>)>,
    /// Bytes of the receipts and reports that are kept.
    kept_len: u64,
    books: Option<Books>,
}

/// A receipt as it was signed.
struct Kept {
    key: Digest32,
    bytes: Box<[u8]>,
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
            of_key: HashMap::new(),
            reports: VecDeque::new(),
            kept_len: 0,
            books: None,
        };
        for record in opening.records() {
            match record.split_first() {
                Some((&RECEIPT, bytes)) => {
                    if let Ok(receipt) = SignedReceipt::read(bytes) {
                        store.remember(&receipt);
                    }
                }
                Some((&REPORT, bytes)) => {
                    if let Some((key, json)) = bytes.split_first_chunk::<32>()
                        && Bundle::read(json).is_ok()
                    {
                        store.remember_report(Digest32::from(*key), json.to_vec());
                    }
                }
                _ => {}
            }
        }
        // A snapshot has reports before receipts: who is wanted is known at the end only.
        store.drop_idle();
        let (books, events) = opening.start(store.snapshot())?;
        store.books = Some(books);
        Ok((store, events))
    }

    /// Keeps a receipt.
    pub(crate) fn keep(&mut self, receipt: &SignedReceipt) {
        if self.limit == 0 {
            return;
        }
        let record = [&[RECEIPT], receipt.bytes()].concat();
        self.remember(receipt);
        self.write(record);
    }

    /// Keeps the report that vouches for a key.
    pub(crate) fn keep_report(&mut self, key: Digest32, bundle: &Bundle) {
        let Ok(json) = bundle.write() else { return };
        let record = [&[REPORT], key.0.as_slice(), &json].concat();
        self.remember_report(key, json);
        self.drop_idle();
        self.write(record);
    }

    /// Whether a report vouches for this key.
    pub(crate) fn has_report(&self, key: Digest32) -> bool {
        self.reports.iter().any(|(of, _)| *of == key)
    }

    /// The receipt with its evidence, as a file.
    pub(crate) fn file(&self, id: &str) -> Option<ReceiptFile> {
        let receipt = SignedReceipt::read(&self.by_id.get(id)?.bytes).ok()?;
        let key = receipt.receipt.receipt_key;
        let report = self.reports.iter().find(|(of, _)| *of == key);
        let bundle = report.and_then(|(_, json)| Bundle::read(json).ok());
        Some(ReceiptFile::new(&receipt, bundle))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Reports that are kept.
    pub(crate) fn reports(&self) -> usize {
        self.reports.len()
    }

    fn remember(&mut self, receipt: &SignedReceipt) {
        let (id, key) = (Arc::<str>::from(receipt.id()), receipt.receipt.receipt_key);
        let bytes: Box<[u8]> = receipt.bytes().into();
        let len = bytes.len() as u64;
        if self.by_id.insert(Arc::clone(&id), Kept { key, bytes }).is_none() {
            self.order.push_back(id);
            *self.of_key.entry(key).or_default() += 1;
            self.kept_len += len;
        }
        while self.order.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.by_id.remove(&oldest) {
                self.kept_len -= gone.bytes.len() as u64;
                self.forget_one_of(gone.key);
            }
        }
    }

    /// One receipt less of this key; with the last one its report is idle.
    fn forget_one_of(&mut self, key: Digest32) {
        let Some(count) = self.of_key.get_mut(&key) else { return };
        *count -= 1;
        if *count == 0 {
            self.of_key.remove(&key);
            self.drop_idle();
        }
    }

    fn remember_report(&mut self, key: Digest32, json: Vec<u8>) {
        self.drop_reports(|of| *of == key);
        self.kept_len += json.len() as u64;
        self.reports.push_back((key, json));
        if self.reports.len() > REPORTS_MAX
            && let Some((_, gone)) = self.reports.pop_front()
        {
            self.kept_len -= gone.len() as u64;
        }
    }

    /// Drops reports of keys that no kept receipt has, but for the newest few.
    fn drop_idle(&mut self) {
        let idle = self.reports.iter().filter(|(key, _)| !self.of_key.contains_key(key));
        let idle: Vec<Digest32> = idle.map(|(key, _)| *key).collect();
        let gone = idle.len().saturating_sub(IDLE_REPORTS_MAX);
        if let Some(gone) = idle.get(..gone).filter(|gone| !gone.is_empty()) {
            self.drop_reports(|key| gone.contains(key));
        }
    }

    fn drop_reports(&mut self, is_gone: impl Fn(&Digest32) -> bool) {
        let kept_len = &mut self.kept_len;
        self.reports.retain(|(key, json)| {
            let gone = is_gone(key);
            *kept_len -= if gone { json.len() as u64 } else { 0 };
            !gone
        });
    }

    /// A journal is never empty: its very first record says what it is.
    fn snapshot(&self) -> Vec<Vec<u8>> {
        let mut records = vec![b"cocoon-receipts".to_vec()];
        let reports = self.reports.iter();
        records.extend(reports.map(|(key, json)| [&[REPORT], key.0.as_slice(), json].concat()));
        let receipts = self.order.iter().filter_map(|id| self.by_id.get(id));
        records.extend(receipts.map(|kept| [&[RECEIPT], &*kept.bytes].concat()));
        records
    }

    /// Receipts are no books: when their journal fails, the node goes on without one.
    fn write(&mut self, record: Vec<u8>) {
        let Some(books) = &mut self.books else { return };
        let full = 2 * self.kept_len + SLACK_LEN;
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

    use cocoon_attest::Collateral;
    use cocoon_proof::{Money, Receipt, ReceiptEnd, ReceiptKey, RootView, TeeMark};
    use cocoon_units::{Coefficient, PriceTable, Tokens, Usage};

    use super::*;

    fn receipt(number: u64) -> SignedReceipt {
        receipt_of(7, number)
    }

    /// A receipt of the worker that drew this seed.
    fn receipt_of(seed: u8, number: u64) -> SignedReceipt {
        let key = ReceiptKey::from_seed(&[seed; 32]);
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
                store.keep(&receipt(number));
            }
            let report = Bundle::new(9, Digest32::ZERO, RootView::default());
            store.keep_report(receipt(0).receipt.receipt_key, &report);
        }
        let (store, _events) = ReceiptStore::open(dir.path(), &key, 3).unwrap();
        assert_eq!(store.len(), 3);
        assert!(store.file(&ids[1]).is_none());
        let file = store.file(&ids[4]).unwrap();
        assert_eq!(file.evidence.as_ref().map(|bundle| bundle.made_ms), Some(9));
        let (_, read) = ReceiptFile::read(&file.write().unwrap()).unwrap();
        assert_eq!(read.id(), ids[4]);
    }

    fn vouch(store: &mut ReceiptStore, seed: u8) {
        let key = receipt_of(seed, 0).receipt.receipt_key;
        let mut report = Bundle::new(u64::from(seed), Digest32::ZERO, RootView::default());
        // About as long as real evidence with its collateral.
        let shown = cocoon_proof::Shown::report(&[7; 30_000]);
        report.add(cocoon_proof::MachineRole::Worker, "m", shown, Collateral::default());
        store.keep_report(key, &report);
    }

    #[tokio::test]
    async fn reports_do_not_outlive_the_receipts_of_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let key = Secret::new([1; 32]);
        let (mut store, _events) = ReceiptStore::open(dir.path(), &key, 3).unwrap();
        // A worker that starts again and again has a new key each time.
        for seed in 0..100 {
            for number in 0..2 {
                store.keep(&receipt_of(seed, u64::from(seed) * 10 + number));
            }
            vouch(&mut store, seed);
            let most = 2 + IDLE_REPORTS_MAX;
            assert!(store.reports() <= most, "{} reports for 3 receipts", store.reports());
        }
        assert_eq!(store.len(), 3);
        // Who never had a receipt here takes the place of others that have none.
        for seed in 200..220 {
            vouch(&mut store, seed);
        }
        assert_eq!(store.reports(), 2 + IDLE_REPORTS_MAX);
        let id = receipt_of(99, 991).id();
        assert!(store.file(&id).unwrap().evidence.is_some());
        let lens = store.reports.iter().map(|(_, json)| json.len() as u64);
        let lens = lens.chain(store.by_id.values().map(|kept| kept.bytes.len() as u64));
        assert_eq!(store.kept_len, lens.sum::<u64>());
    }

    #[tokio::test]
    async fn the_disk_holds_little_more_than_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let key = Secret::new([1; 32]);
        let (mut store, mut events) = ReceiptStore::open(dir.path(), &key, 3).unwrap();
        for seed in 0..200 {
            store.keep(&receipt_of(seed, u64::from(seed)));
            vouch(&mut store, seed);
            // As the node's loop does, one turn at a time: until the record is on disk.
            let ticket = 2 * (u64::from(seed) + 1);
            loop {
                match events.recv().await.unwrap() {
                    cocoon_host::BooksEvent::Durable(to) if to >= ticket => break,
                    cocoon_host::BooksEvent::Durable(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        // 200 reports of 40 kB were written; eleven are kept.
        let on_disk = store.books.as_ref().unwrap().segment_len();
        assert!(on_disk < 3 << 20, "{on_disk} bytes for {} kept", store.kept_len);
        drop(store);
        let (store, _events) = ReceiptStore::open(dir.path(), &key, 2).unwrap();
        assert_eq!((store.len(), store.reports()), (2, 2 + IDLE_REPORTS_MAX));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn ten_thousand_receipts_take_little_memory() {
        let resident_kb = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            line.and_then(|line| line.split_whitespace().next()).unwrap().parse().unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let key = Secret::new([1; 32]);
        let (mut store, _events) = ReceiptStore::open(dir.path(), &key, 10_000).unwrap();
        // Without a journal: what waits for the disk is no part of this.
        store.books = None;
        let before = resident_kb();
        let mut half = 0;
        for number in 0..20_000 {
            store.keep(&receipt(number));
            if number == 9_999 {
                half = resident_kb();
            }
        }
        let after = resident_kb();
        println!("{before} kB, {half} kB with 10,000, {after} kB after 20,000");
        assert_eq!(store.len(), 10_000);
        assert!(half < before + 20_000, "{before} kB before, {half} kB with 10,000");
        assert!(after < half + 4_000, "{half} kB with the first 10,000, {after} kB after 20,000");
    }
}
