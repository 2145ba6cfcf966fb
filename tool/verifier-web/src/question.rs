//! Questions and answers, without the calling convention.

use cocoon_attest::Digest32;
use cocoon_proof::{
    Bundle, Compared, Occasion, ReceiptFile, Requirement, Trust, check_receipt, examine,
};
use serde::Deserialize;

/// Longest question in bytes: a trust file fits into it.
pub const QUESTION_LIMIT: usize = 17 << 20;

/// What is asked about a bundle or a receipt, apart from the file itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What to call the file in the answer; nothing names a receipt by its id.
    #[serde(default)]
    pub subject: String,
    /// The trust file, as text; nothing is the strict rules without a registry.
    #[serde(default)]
    pub trust: Option<String>,
    /// Nonce that the asker drew, 64 hex digits.
    #[serde(default)]
    pub nonce: Option<String>,
    /// The asker's clock, Unix milliseconds, when the evidence was made for its nonce just now;
    /// nothing for something saved.
    #[serde(default)]
    pub now_ms: Option<u64>,
    /// Another date to judge at, Unix milliseconds.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// Claims that must hold, instead of the usual ones.
    #[serde(default)]
    pub require: Vec<String>,
}

/// Judges a bundle and returns the JSON of `cocoon verify --json`.
///
/// # Errors
/// One sentence: the bundle, the trust file or the question cannot be read.
pub fn bundle(file: &[u8], question: &[u8]) -> Result<String, String> {
    let (question, trust) = Question::read(question)?;
    let bundle = Bundle::read(file).map_err(|fault| fault.to_string())?;
    let nonce = question.nonce()?;
    let (asker, occasion) = match (question.now_ms, nonce) {
        (Some(now_ms), Some(nonce)) => (trust.now(nonce, now_ms, question.at_ms), Occasion::Live),
        (Some(_), None) => return Err("evidence of now needs the nonce it was asked with".into()),
        (None, nonce) => (trust.later(nonce, bundle.made_ms, question.at_ms), Occasion::Saved),
    };
    let required = question.required(|| occasion.requirements())?;
    written(&examine(&bundle, &asker).answer(&question.subject, &required))
}

/// Judges the file of a receipt and returns the JSON of `cocoon receipt verify --json`. The body
/// of the request is compared byte for byte, as the worker got it.
///
/// # Errors
/// One sentence: the receipt, its signature, the trust file or the question is wrong.
pub fn receipt(file: &[u8], question: &[u8], compared: Compared<'_>) -> Result<String, String> {
    let (question, trust) = Question::read(question)?;
    let (file, receipt) = ReceiptFile::read(file).map_err(|fault| fault.to_string())?;
    let asker = trust.later(None, file.made_ms(&receipt), question.at_ms);
    let required = question.required(|| compared.requirements())?;
    let found = check_receipt(&file, &receipt, compared, &asker);
    let id = receipt.id();
    let subject = if question.subject.is_empty() { &id } else { &question.subject };
    written(&found.answer(subject, &required))
}

impl Question {
    fn read(bytes: &[u8]) -> Result<(Self, Trust), String> {
        let question: Self = serde_json::from_slice(bytes)
            .map_err(|fault| format!("the question cannot be read: {fault}"))?;
        let trust = match &question.trust {
            None => Trust::default(),
            Some(text) => Trust::read(text.as_bytes()).map_err(|fault| fault.to_string())?,
        };
        Ok((question, trust))
    }

    fn nonce(&self) -> Result<Option<Digest32>, String> {
        let read = |text: &String| {
            Digest32::read("nonce", text)
                .map_err(|_| "a nonce has 64 hex digits, this one has not".to_owned())
        };
        self.nonce.as_ref().map(read).transpose()
    }

    fn required(&self, usual: impl Fn() -> Vec<Requirement>) -> Result<Vec<Requirement>, String> {
        if self.require.is_empty() {
            return Ok(usual());
        }
        self.require.iter().map(|text| text.parse()).collect()
    }
}

fn written(answer: &cocoon_proof::Answer<'_>) -> Result<String, String> {
    serde_json::to_string(answer).map_err(|fault| format!("the answer cannot be written: {fault}"))
}
