//! The calling convention: inputs are laid on a desk, the answer is taken from it.

use cocoon_proof::{BUNDLE_LIMIT, Compared};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::question::{QUESTION_LIMIT, bundle, receipt};

/// Longest body that is compared with a receipt, bytes: it lies in the module's memory.
const BODY_LIMIT: usize = 256 << 20;

/// Number of the calling convention.
const INTERFACE: u32 = 1;

/// Places of inputs.
const FILE: usize = 0;
const QUESTION: usize = 1;
const REQUEST: usize = 2;
const ANSWER: usize = 3;
const PLACES: usize = 4;

#[derive(Debug)]
struct Desk {
    inputs: [Option<Vec<u8>>; PLACES],
    output: Vec<u8>,
}

static DESK: Mutex<Desk> =
    Mutex::new(Desk { inputs: [const { None }; PLACES], output: Vec::new() });

fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of this calling convention, 1.
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_interface() -> u32 {
    INTERFACE
}

/// Makes room for an input and returns where its `len` bytes are to be written; null when there
/// is no such place or it is too long. Places: 0 the bundle or receipt, 1 the question (JSON, see
/// [`crate::question::Question`]), 2 and 3 the bodies of request and answer.
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_input(place: usize, len: usize) -> *mut u8 {
    let limit = match place {
        FILE => BUNDLE_LIMIT,
        QUESTION => QUESTION_LIMIT,
        REQUEST | ANSWER => BODY_LIMIT,
        _ => 0,
    };
    let mut desk = desk();
    match desk.inputs.get_mut(place) {
        Some(input) if len <= limit => input.insert(vec![0; len]).as_mut_ptr(),
        _ => std::ptr::null_mut(),
    }
}

/// Judges the bundle. Returns 0 when the output is the JSON of `cocoon verify --json`, 2 when it
/// is a sentence that says what is wrong with the inputs, as the command's exit code does.
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_verify_bundle() -> u32 {
    let mut desk = desk();
    let [file, question, ..] = &desk.inputs;
    let found = bundle(given(file), given(question));
    desk.put(found)
}

/// Judges the file of a receipt; returns as [`cocoon_verify_bundle`].
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_verify_receipt() -> u32 {
    let mut desk = desk();
    let [file, question, request, answer] = &desk.inputs;
    let compared = Compared { request: request.as_deref(), answer: answer.as_deref() };
    let found = receipt(given(file), given(question), compared);
    desk.put(found)
}

/// Returns where the output is.
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_output() -> *const u8 {
    desk().output.as_ptr()
}

/// Returns the output's length in bytes.
#[allow(unsafe_code, reason = "a name that a WebAssembly host can call")]
#[unsafe(no_mangle)]
pub extern "C" fn cocoon_output_len() -> usize {
    desk().output.len()
}

fn given(input: &Option<Vec<u8>>) -> &[u8] {
    input.as_deref().unwrap_or_default()
}

impl Desk {
    fn put(&mut self, found: Result<String, String>) -> u32 {
        let code = if found.is_ok() { 0 } else { 2 };
        self.output = found.unwrap_or_else(|sentence| sentence).into_bytes();
        code
    }
}
